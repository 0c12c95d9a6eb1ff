"""The commands `bench` of the model and of pretraining: measure, print, keep on disk and in MLflow."""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from models.bench.growth import measure_growths
from models.bench.measure import Workload, compare, describe_machine, measure_peak_flops, time_once
from models.bench.workloads import NAMES, make_workloads
from models.checkpoint.load import parse_dtype
from models.config import load_config, unknown_name
from models.world import choose_kind
from reports.benchmark import Benchmark, Growth, write_benchmark
from reports.benchmark_sender import log_benchmark
from reports.benchmark_table import render_table
from reports.provenance import ROOT, Clock, read_commit
from reports.sender import warn_unsent
from reports.store import StoreError

STARTS = 5


@dataclass(frozen=True)
class Order:
    """What a command asks for."""

    size: str
    only: tuple[str, ...]
    """Names of workloads; empty for all."""
    device: torch.device
    dtype: torch.dtype
    repeats: int
    has_growth: bool
    folder: Path
    tracking_uri: str
    command: str

    @classmethod
    def parse(
        cls, *, size: str, only: Sequence[str], device: str, dtype: str, threads: int | None, repeats: int,
        known: Sequence[str],
        **others: object,
    ) -> "Order":  # fmt: skip
        """Check what the command line says.

        Raises:
            ValueError: an unknown workload, type or device, or a GPU where there is none.
        """
        if repeats < 2:
            raise ValueError(f"--repeats {repeats}, expected 2 or more: one has no spread")
        if size != "small":
            load_config(size)
        for name in only:
            if name not in known:
                raise ValueError(unknown_name("workload", name, known))
        place = torch.device(choose_kind(device))
        if place.type == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda, but there is no GPU here; use --device cpu")
        if threads is not None:
            torch.set_num_threads(threads)
        return cls(size=size, only=tuple(only), device=place, dtype=parse_dtype(dtype), repeats=repeats, **others)  # type: ignore[arg-type]


def bench_model(order: Order) -> str:
    """Time the model, and how it starts; gives the table."""
    workloads = make_workloads(order.only or NAMES, order.size, device=order.device, dtype=order.dtype)
    growths = measure_growths(order.size, device=order.device, dtype=order.dtype) if order.has_growth else ()
    return run(order, "models", workloads, growths=growths, facts=_measure_starts() if not order.only else {})


def run(
    order: Order,
    package: str,
    workloads: Iterable[Workload],
    *,
    growths: Iterable[Growth] = (),
    facts: dict[str, float] | None = None,
) -> str:
    """Measure everything, write it to disk and to MLflow, and give the table.

    Raises:
        ArithmeticError: two formulations that do not compute the same.
    """
    clock, (commit, is_dirty) = Clock(), read_commit()
    machine = describe_machine(order.device, order.dtype)
    comparisons = tuple(
        compare(workload, device=order.device, dtype=order.dtype, repeats=order.repeats)
        for workload in _announce(workloads)
    )
    fastest = max(machine.peak_flops_per_s, measure_peak_flops(order.device, order.dtype))  # before and after
    benchmark = Benchmark(
        name=f"{package}-{order.size}-{machine.dtype}-{order.device.type}",
        command=order.command,
        commit=commit,
        is_dirty=is_dirty,
        started_at=clock.started_at,
        machine=machine.model_copy(update={"peak_flops_per_s": fastest}),
        comparisons=comparisons,
        growths=tuple(growths),
        facts=facts or {},
    )
    path = write_benchmark(benchmark, order.folder)
    try:
        log_benchmark(benchmark, tracking_uri=order.tracking_uri, file=path)
    except StoreError as error:
        print(warn_unsent(error), file=sys.stderr)
    return f"{render_table(benchmark)}\nwritten to {path}\n"


def _announce(workloads: Iterable[Workload]) -> Iterator[Workload]:
    for workload in workloads:
        print(f"  {workload.name}: {workload.shape}", file=sys.stderr)
        yield workload


def _measure_starts() -> dict[str, float]:
    """Time fresh processes: every command's help, and the first vector from the shipped weights."""
    commands = {
        f"{package}/run.py --help, s": [f"{package}/run.py", "--help"]
        for package in ("models", "pretrain", "downstream", "reports", "miniworld")
    }
    embed = "import models; models.load_model('mini').embed_text(['a red car'])"
    commands["first embedding from the mini weights, s"] = ["-c", embed]
    return {name: median(_time_process(arguments) for _ in range(STARTS)) for name, arguments in commands.items()}


def _time_process(arguments: Sequence[str]) -> float:
    command = [sys.executable, *arguments]
    return time_once(
        lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL),  # noqa: S603
        torch.device("cpu"),
    )
