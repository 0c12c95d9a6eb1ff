"""The command `bench` of pretraining."""

import re
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from models.bench.command import Order, run
from models.bench.growth import fit, measure_bytes
from pretrain.bench.ranks import SIZE, STEP_PREFIX
from pretrain.bench.readers import read_all, write_shards
from pretrain.bench.workloads import NAMES, make_workloads
from reports.benchmark import Growth
from reports.provenance import ROOT

RANKS = (1, 2)
SAMPLES = (1_000, 4_000, 16_000)


def bench_pretraining(order: Order) -> str:
    """Time the steps of both stages; gives the table."""
    workloads = make_workloads(order.only or NAMES, order.size, device=order.device, dtype=order.dtype)
    return run(order, "pretrain", workloads, growths=_measure_growths(order) if order.has_growth else ())


def _measure_growths(order: Order) -> Iterator[Growth]:
    """Measure a step against ranks, each with a thread and a batch of its own, and memory against data."""
    if order.device.type == "cpu":
        yield fit(
            f"stage1 step, {SIZE}", "ranks", _time_ranks, points=RANKS, expected="0, and what exchanging shards takes"
        )  # fmt: skip
    yield fit(
        "reading shards", "samples", lambda count: _measure_reader(count, order), points=SAMPLES,
        expected="0", quantity="bytes",
    )  # fmt: skip


def _time_ranks(ranks: int) -> float:
    """Time a step of every rank over its own batch, in processes that torchrun's launcher starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--master-addr=127.0.0.1", f"--master-port={port}"]
    command = [sys.executable, *launch, f"--nproc-per-node={ranks}", "-m", "pretrain.bench.ranks"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    found = re.findall(rf"^{STEP_PREFIX}(\S+)$", done.stdout, flags=re.MULTILINE)
    return statistics.median(map(float, found))


def _measure_reader(count: int, order: Order) -> float:
    with TemporaryDirectory() as folder:
        config = write_shards(Path(folder), count)
        return measure_bytes(lambda: read_all(config), order.device)
