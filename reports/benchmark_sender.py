"""Benchmarks into MLflow, each once: a run is found by the digest of the benchmark that it holds."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from reports.benchmark import Benchmark, Comparison
from reports.benchmark_page import render_times
from reports.run_layout import KIND_TAG, MAX_PARAM_CHARS, MAX_TAG_CHARS, NOTE_TAG, free_key, metric_key
from reports.sender import FINISHED, Sent
from reports.store import (
    MetricPoint,
    at_the_store,
    find_experiment,
    hold,
    log_params,
    log_points,
    open_client,
    search,
)

EXPERIMENT: Final = "one-peace/benchmark"
DIGEST_TAG: Final = "onepeace.benchmark.sha256"


def log_benchmark(benchmark: Benchmark, *, tracking_uri: str, file: Path) -> Sent:
    """See to it that a benchmark has one whole run in MLflow, and say what was done for it.

    What stands there whole is left alone, and a run that was cut short is completed. `reports.sync` sends benchmarks
    later where this fails; `reports.sender.warn_unsent` says so in a line. The same thing measured again is another
    benchmark, with a run of its own.

    Args:
        benchmark: to be there.
        tracking_uri: MLflow's store or server.
        file: holds the benchmark; kept with the run.

    Raises:
        FileNotFoundError: no such file.
        StoreError: anything at all went wrong on the way to the store.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}. Write the benchmark before it is sent.")
    with at_the_store("write to", tracking_uri), hold(tracking_uri):
        client = open_client(tracking_uri)
        experiment_id = find_experiment(client, EXPERIMENT, tracking_uri=tracking_uri)
        digest = hashlib.sha256(benchmark.to_json().encode()).hexdigest()
        runs = list(search(client, experiment_id, f"tags.`{DIGEST_TAG}` = '{digest}'"))
        if any(run.info.status == FINISHED for run in runs):
            return Sent.THERE
        run = runs[0] if runs else _create(client, experiment_id, benchmark, digest=digest)
        _fill(client, str(run.info.run_id), benchmark, file=file)
        return Sent.COMPLETED if runs else Sent.NEW


def name_run(benchmark: Benchmark) -> str:
    """Name a benchmark's run: `<name>-<commit7>`."""
    return f"{benchmark.name}-{benchmark.commit[:7]}"


def benchmark_metrics(benchmark: Benchmark) -> dict[str, float]:
    """Lay out a benchmark's numbers under `<workload>/`, `growth/` and `facts/`.

    Two names that MLflow would write alike are told apart by a number.
    """
    metrics: dict[str, float] = {}
    prefixes: set[str] = set()
    for comparison in benchmark.comparisons:
        prefix = free_key(comparison.name, prefixes)
        prefixes.add(prefix)
        metrics |= {f"{prefix}/{name}": value for name, value in _list_numbers(benchmark, comparison)}
    for growth in benchmark.growths:
        name = f"growth/{growth.name}/{growth.quantity}_by_{growth.variable}/exponent"
        metrics[free_key(name, metrics)] = growth.exponent
    for name, value in benchmark.facts.items():
        metrics[free_key(f"facts/{name}", metrics)] = value
    return metrics


def _create(client: Any, experiment_id: str, benchmark: Benchmark, *, digest: str) -> Any:
    """Make a run that can be found again from its first moment."""
    tags = {KIND_TAG: "benchmark", DIGEST_TAG: digest}
    name = name_run(benchmark)
    return client.create_run(experiment_id, start_time=_start_ms(benchmark), tags=tags, run_name=name)


def _fill(client: Any, run_id: str, benchmark: Benchmark, *, file: Path) -> None:
    """Write everything; what is there already is written again and stays once."""
    time_ms = _start_ms(benchmark)
    points = [MetricPoint(key, value, time_ms, 0) for key, value in benchmark_metrics(benchmark).items()]
    log_points(client, run_id, points, tags=_tags(benchmark))
    log_params(client, run_id, _params(benchmark))
    client.log_artifact(run_id, str(file))
    client.set_terminated(run_id, end_time=time_ms)


def _list_numbers(benchmark: Benchmark, comparison: Comparison) -> Iterator[tuple[str, float]]:
    ours, plain = comparison.ours, comparison.plain
    numbers: Mapping[str, float | None] = {
        "ratio": comparison.ratio,
        "ratio_low": comparison.ratio_low,
        "ratio_high": comparison.ratio_high,
        "bound": comparison.bound,
        "ours_s": ours.median_s,
        "plain_s": plain.median_s,
        "peak_memory_bytes": ours.peak_memory_bytes,
        "plain_peak_memory_bytes": plain.peak_memory_bytes,
        "tokens_per_s": ours.tokens_per_s,
        "flops_per_s": ours.flops_per_s,
        "share_of_peak": benchmark.share_of_peak(ours),
        "difference": comparison.difference,
    }
    yield from ((name, float(value)) for name, value in numbers.items() if value is not None)


def _tags(benchmark: Benchmark) -> dict[str, str]:
    """Lay out what describes the run; the note is what MLflow's page of it shows."""
    machine = benchmark.machine
    tags = {
        NOTE_TAG: render_times(benchmark),
        "machine": machine.device,
        "dtype": machine.dtype,
        "threads": str(machine.threads),
        "commit": benchmark.commit + ("-dirty" if benchmark.is_dirty else ""),
        "mlflow.source.name": benchmark.command,
        "mlflow.source.git.commit": benchmark.commit,
        **{f"version.{metric_key(package)}": version for package, version in machine.versions.items()},
    }
    return {key: value[:MAX_TAG_CHARS] for key, value in tags.items()}


def _params(benchmark: Benchmark) -> dict[str, str]:
    """Lay out what people filter by."""
    machine = benchmark.machine
    params = {"benchmark": benchmark.name, "device": machine.device, "dtype": machine.dtype}
    return {key: value[:MAX_PARAM_CHARS] for key, value in (params | {"threads": str(machine.threads)}).items()}


def _start_ms(benchmark: Benchmark) -> int:
    return int(benchmark.start.timestamp() * 1000)
