"""A benchmark has one whole run in MLflow, whatever was cut short or sent twice."""

from pathlib import Path
from typing import Any

import pytest

from reports.benchmark import Benchmark, Comparison, Growth, Machine, Timing, write_benchmark
from reports.benchmark_sender import EXPERIMENT, benchmark_metrics, log_benchmark
from reports.cli import main
from reports.sender import Sent, warn_unsent
from reports.store import StoreError, find_experiment, load_records, open_client


def _timing(median_s: float, **changes: Any) -> Timing:
    fields: dict[str, Any] = {"median_s": median_s, "low_s": median_s, "high_s": median_s, "repeats": 7}
    return Timing(**{**fields, "tokens_per_s": 500.0, "flops": 2e9, "peak_memory_bytes": 3 * 2**20, **changes})


def _comparison(**changes: Any) -> Comparison:
    fields: dict[str, Any] = {"name": "text forward", "shape": "8 texts", "ours": _timing(0.02)}
    fields |= {"plain": _timing(0.04), "ratio": 0.5, "ratio_low": 0.45, "ratio_high": 0.55, "bound": 0.8}
    return Comparison(**{**fields, "difference": 0.0, "tolerance": 1e-5, **changes})


def _benchmark(**changes: Any) -> Benchmark:
    machine = Machine(device="a CPU", threads=2, dtype="float32", peak_flops_per_s=4e11, versions={"torch": "2.11"})
    points = ((64.0, 0.1), (128.0, 0.4))
    growth = Growth(name="text", variable="tokens", quantity="bytes", points=points, exponent=2.0, expected="2")
    fields: dict[str, Any] = {"name": "models-small", "command": "python models/run.py bench", "commit": "0123456789"}
    fields |= {"is_dirty": True, "started_at": "2026-01-02T03:04:05+00:00", "machine": machine, "growths": (growth,)}
    return Benchmark(**{**fields, "comparisons": (_comparison(),), "facts": {"import, s": 1.5}, **changes})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The benchmark on disk, where runs are."""
    return write_benchmark(_benchmark(), tmp_path / "runs" / "benchmarks")


def _runs(uri: str) -> list[Any]:
    client = open_client(uri)
    return list(client.search_runs([find_experiment(client, EXPERIMENT, tracking_uri=uri)]))


def test_a_benchmark_is_one_run_with_its_numbers_tags_and_file(store_uri: str, file: Path) -> None:
    assert log_benchmark(_benchmark(), tracking_uri=store_uri, file=file) is Sent.NEW
    assert log_benchmark(_benchmark(), tracking_uri=store_uri, file=file) is Sent.THERE
    (run,) = _runs(store_uri)
    assert (run.info.run_name, run.info.status) == ("models-small-0123456", "FINISHED")
    assert run.data.metrics == benchmark_metrics(_benchmark())
    assert run.data.params == {"benchmark": "models-small", "device": "a CPU", "dtype": "float32", "threads": "2"}
    tags = run.data.tags
    assert (tags["machine"], tags["dtype"], tags["threads"]) == ("a CPU", "float32", "2")
    assert (tags["commit"], tags["version.torch"]) == ("0123456789-dirty", "2.11")
    assert "text forward" in tags["mlflow.note.content"]
    assert [item.path for item in open_client(store_uri).list_artifacts(run.info.run_id)] == ["models-small.json"]
    assert load_records(store_uri) == ()


def test_the_numbers_are_these() -> None:
    uncounted = _timing(0.02, tokens_per_s=None, flops=None, peak_memory_bytes=None)
    bare = _comparison(name="Text Forward @ 2%", ours=uncounted, bound=None)
    metrics = benchmark_metrics(_benchmark(comparisons=(_comparison(), bare)))
    first = {key.removeprefix("text forward/"): value for key, value in metrics.items() if key.startswith("text")}
    assert first == {
        "ratio": 0.5,
        "ratio_low": 0.45,
        "ratio_high": 0.55,
        "bound": 0.8,
        "ours_s": 0.02,
        "plain_s": 0.04,
        "peak_memory_bytes": 3 * 2**20,
        "plain_peak_memory_bytes": 3 * 2**20,
        "tokens_per_s": 500.0,
        "flops_per_s": 1e11,
        "share_of_peak": 0.25,
        "difference": 0.0,
    }
    assert metrics["growth/text/bytes_by_tokens/exponent"] == 2.0
    assert metrics["facts/import_ s"] == 1.5
    assert "Text Forward _at_ 2percent/bound" not in metrics
    assert metrics["Text Forward _at_ 2percent/ours_s"] == 0.02


def test_workloads_that_mlflow_would_write_alike_are_told_apart() -> None:
    metrics = benchmark_metrics(_benchmark(comparisons=(_comparison(name="a+b"), _comparison(name="a*b"))))
    assert {key.split("/")[0] for key in metrics if key.endswith("/ratio")} == {"a_b", "a_b_2"}


def test_a_run_that_was_cut_short_is_completed(store_uri: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise ConnectionError("the server was killed")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient.log_artifact", die)
        with pytest.raises(StoreError, match="the server was killed") as caught:
            log_benchmark(_benchmark(), tracking_uri=store_uri, file=file)
    assert warn_unsent(caught.value).count("\n") == 0
    (cut,) = _runs(store_uri)
    assert cut.info.status == "RUNNING"
    assert log_benchmark(_benchmark(), tracking_uri=store_uri, file=file) is Sent.COMPLETED
    (whole,) = _runs(store_uri)
    assert (whole.info.run_id, whole.info.status) == (cut.info.run_id, "FINISHED")
    assert log_benchmark(_benchmark(), tracking_uri=store_uri, file=file) is Sent.THERE


def test_another_measurement_is_another_run(store_uri: str, file: Path) -> None:
    log_benchmark(_benchmark(), tracking_uri=store_uri, file=file)
    again = _benchmark(started_at="2026-01-02T04:04:05+00:00")
    assert log_benchmark(again, tracking_uri=store_uri, file=file) is Sent.NEW
    assert len(_runs(store_uri)) == 2


def test_a_store_that_cannot_be_reached_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError, match=r"could not write to http://127\.0\.0\.1:9") as caught:
        log_benchmark(_benchmark(), tracking_uri="http://127.0.0.1:9", file=file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_missing_before_the_store_is_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Write the benchmark"):
        log_benchmark(_benchmark(), tracking_uri="http://127.0.0.1:9", file=tmp_path / "none.json")


def test_a_sync_sends_the_benchmarks_of_a_folder_of_runs_once(
    store_uri: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file.parent / "faulty.json").write_text("{}", encoding="utf-8")
    (file.parent.parent / "other.json").write_text("{}", encoding="utf-8")  # not where benchmarks are
    runs = str(file.parent.parent)
    assert main(["sync", runs, "--tracking-uri", store_uri]) == 2
    captured = capsys.readouterr()
    assert captured.out == "0 records: none\n1 benchmarks: 1 sent\n"
    assert captured.err.startswith("error: faulty.json: no benchmark")
    assert captured.err.count("\n") == 1
    (file.parent / "faulty.json").unlink()
    assert main(["sync", str(file.parent), runs, "--tracking-uri", store_uri]) == 0
    assert capsys.readouterr().out == "0 records: none\n1 benchmarks: 1 there already\n"
    assert len(_runs(store_uri)) == 1
