"""The table of a benchmark for a terminal: these rows, these columns, at most 120 wide."""

from typing import Any

import pytest

from reports.benchmark import Benchmark, Comparison, Growth, Machine, Timing
from reports.benchmark_table import render_table, show


def _timing(median_s: float, **changes: Any) -> Timing:
    fields: dict[str, Any] = {"median_s": median_s, "low_s": median_s, "high_s": median_s, "repeats": 7}
    return Timing(**{**fields, "tokens_per_s": 12345.6, "flops": 2e9, "peak_memory_bytes": 3 * 2**20, **changes})


def _comparison(name: str, median_s: float, **changes: Any) -> Comparison:
    ratio = median_s / 0.04
    fields: dict[str, Any] = {"name": name, "shape": "8 texts of 70 tokens", "ours": _timing(median_s)}
    fields |= {"plain": _timing(0.04, peak_memory_bytes=2**30), "ratio": ratio, "ratio_low": ratio * 0.9}
    return Comparison(**{**fields, "ratio_high": ratio * 1.1, "difference": 0.0, "tolerance": 1e-5, **changes})


def _benchmark(**changes: Any) -> Benchmark:
    machine = Machine(device="a CPU", threads=2, dtype="float32", peak_flops_per_s=4e11, versions={"torch": "2.11.0"})
    points = ((64.0, 0.1), (128.0, 0.4))
    growth = Growth(
        name="text", variable="tokens", quantity="bytes", points=points, exponent=2.0, expected="between 1 and 2"
    )
    fields: dict[str, Any] = {"name": "models-small", "command": "python models/run.py bench", "commit": "0123456789"}
    fields |= {"is_dirty": True, "started_at": "2026-01-02T03:04:05+00:00", "machine": machine, "growths": (growth,)}
    met = _comparison("text", 0.02, bound=0.8)
    uncounted = _timing(0.05, tokens_per_s=None, flops=None, peak_memory_bytes=None)
    over = _comparison("step", 0.05, bound=0.9, ours=uncounted)
    return Benchmark(**{**fields, "comparisons": (met, over), "facts": {"first embedding, s": 2.3456}, **changes})


def _cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_the_table_is_this_one() -> None:
    cells = _cells(render_table(_benchmark()))
    assert cells[:5] == [
        ["models-small"],
        ["python models/run.py bench"],
        ["code at 0123456 with changes, 2026-01-02 03:04 UTC"],
        ["a CPU, 2 threads, float32, a large matrix product: 400 GFLOP/s"],
        ["torch 2.11.0"],
    ]
    assert " ".join(cells[6]) == (
        "name shape ours ms plain ms ratio [low, high] bound tokens/s GFLOP/s % peak MiB ours/plain"
    )
    first = ["text", "8 texts of 70 tokens", "20", "40", "0.50 [0.45, 0.55]", "0.8", "12346", "100", "25", "3 / 1024"]
    second = ["step", "8 texts of 70 tokens", "50", "40", "1.25 [1.12, 1.38]", "0.9", "—", "—", "—", "— / 1024"]
    assert cells[8:10] == [first, second]
    assert ["bounds: 1 met, 1 not met: step"] in cells
    assert ["text", "bytes", "tokens", "2", "between 1 and 2", "64: 0.1, 128: 0.4"] in cells
    assert cells[-1] == ["first embedding, s", "2.35"]


def test_long_names_are_broken_and_the_table_fits() -> None:
    long = _comparison("a step with activation checkpointing over three modalities", 0.02)
    text = render_table(_benchmark(comparisons=(long,)))
    assert max(map(len, text.splitlines())) <= 120
    assert "activation" in text


def test_what_was_not_measured_has_no_table() -> None:
    text = render_table(_benchmark(comparisons=(), growths=(), facts={}))
    assert len(text.splitlines()) == 5


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "—"),
        (0.0, "0"),
        (1.23456, "1.23"),
        (999.4, "999"),
        (999.6, "1000"),
        (123456.7, "123457"),
        (1e-7, "1e-07"),
    ],
)
def test_numbers_keep_three_digits_and_all_before_the_point(value: float | None, shown: str) -> None:
    assert show(value) == shown
