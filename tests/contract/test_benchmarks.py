"""The page of benchmarks that comes with the project is what the figures beside it give."""

from pathlib import Path

import pytest

from reports.benchmark import Benchmark, Comparison, Growth, Machine, Timing, read_benchmarks, write_benchmark
from reports.cli import main


@pytest.fixture
def committed(root: Path) -> Path:
    """The folder that comes with the project."""
    folder = root / "reports" / "benchmarks"
    assert list(folder.glob("*.json")), "reports/benchmarks holds no figure; `python models/run.py bench` measures them"
    return folder


def _benchmark(facts: dict[str, float]) -> Benchmark:
    machine = Machine(device="a GPU", threads=None, dtype="bfloat16", peak_flops_per_s=1e12, versions={})
    fields = {"low_s": 0.1, "high_s": 0.5, "repeats": 3, "tokens_per_s": None, "flops": None, "peak_memory_bytes": None}
    ours, plain = (Timing.model_validate({**fields, "median_s": median}) for median in (0.1, 0.4))
    comparison = Comparison(
        name="step",
        shape="8 pictures",
        ours=ours,
        plain=plain,
        ratio=0.25,
        ratio_low=0.2,
        ratio_high=0.3,
        difference=0.0,
        tolerance=0.01,
    )
    points = ((1.0, 1.0), (2.0, 2.0))
    growth = Growth(name="step", variable="pictures", quantity="seconds", points=points, exponent=1, expected="1")
    return Benchmark(
        name="pretrain-tiny",
        command="python pretrain/run.py bench",
        commit="0123456789",
        is_dirty=False,
        started_at="2026-01-02T03:04:05+00:00",
        machine=machine,
        comparisons=(comparison,),
        growths=(growth,),
        facts=facts,
    )


def test_the_committed_page_is_what_the_committed_figures_give(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmarks", "--folder", str(committed), "--check"]) == 0, capsys.readouterr().out


def test_the_committed_figures_name_code_that_was_committed(committed: Path) -> None:
    for benchmark in read_benchmarks(committed):
        assert len(benchmark.commit) == 40, benchmark.name
        assert "/" not in benchmark.machine.device, benchmark.name
        assert not any(word.startswith("/") for word in benchmark.command.split()), benchmark.name


def test_a_page_that_drifts_from_its_figures_is_caught(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    write_benchmark(_benchmark({"import, s": 1.25}), folder)
    assert main(["benchmarks", "--folder", str(folder), "--check"]) == 1
    assert main(["benchmarks", "--folder", str(folder)]) == 0
    assert main(["benchmarks", "--folder", str(folder), "--check"]) == 0
    write_benchmark(_benchmark({"import, s": 1.26}), folder)
    assert main(["benchmarks", "--folder", str(folder), "--check"]) == 1
