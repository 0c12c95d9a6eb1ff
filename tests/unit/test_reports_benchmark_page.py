"""The page of all benchmarks: every figure, nothing that runs, and a difference from the files is told."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from reports.benchmark import Benchmark, Comparison, Growth, Machine, Timing, read_benchmarks, write_benchmark
from reports.benchmark_page import PAGE_FILE, PLOT_FILE, find_drift, render_page, write_page
from reports.benchmark_table import show
from reports.cli import main

COMMAND = "python models/run.py bench"


def _timing(median_s: float, **changes: Any) -> Timing:
    fields: dict[str, Any] = {"median_s": median_s, "low_s": median_s * 0.93, "high_s": median_s * 1.07, "repeats": 7}
    fields |= {"tokens_per_s": 17 / median_s, "flops": 2.1e9, "peak_memory_bytes": 3 * 2**20}
    return Timing(**{**fields, **changes})


def _comparison(**changes: Any) -> Comparison:
    fields: dict[str, Any] = {"name": "text forward", "shape": "8 texts", "ours": _timing(0.02, repeats=9)}
    fields |= {"plain": _timing(0.04, flops=2.5e9), "ratio": 0.5, "ratio_low": 0.4567, "ratio_high": 0.5678}
    return Comparison(**{**fields, "bound": 0.8, "difference": 1.7e-7, "tolerance": 2.3e-5, **changes})


def _growth(**changes: Any) -> Growth:
    fields: dict[str, Any] = {"name": "text forward", "variable": "tokens", "quantity": "seconds"}
    fields |= {"points": ((64.0, 0.11), (128.0, 0.44), (256.0, 1.76)), "exponent": 2.0, "expected": "at most 2"}
    return Growth(**{**fields, **changes})


def _benchmark(**changes: Any) -> Benchmark:
    machine = Machine(device="a CPU", threads=2, dtype="float32", peak_flops_per_s=4.2e11, versions={"torch": "2.11"})
    fields: dict[str, Any] = {"name": "models-small", "command": COMMAND, "commit": "0123456789", "is_dirty": False}
    fields |= {"started_at": "2026-01-02T03:04:05+00:00", "machine": machine, "growths": (_growth(),)}
    return Benchmark(**{**fields, "comparisons": (_comparison(),), "facts": {"import, s": 1.357}, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two benchmarks and their page."""
    folder = tmp_path / "benchmarks"
    over = _comparison(ratio=1.25, ours=_timing(0.05), bound=0.9, products_s=0.03)
    write_benchmark(_benchmark(), folder)
    write_benchmark(_benchmark(name="pretrain-tiny", comparisons=(over,)), folder)
    write_page(folder)
    return folder


def _rows(text: str, first: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()]
    return [cells for cells in lines if cells[0] == first]


def _numbers(value: object) -> Iterator[float]:
    """Give every number of a JSON document."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_every_number_of_the_files_stands_on_the_page() -> None:
    benchmark = _benchmark()
    page = render_page([benchmark])
    written = set(re.findall(r"(?<![\w.-])[\d.]+(?:e-\d+)?(?![\w.-])", re.sub(r"[,:](?= )", " ", page)))
    numbers = list(_numbers(json.loads(benchmark.to_json()) | {"schema_version": None}))
    assert len(numbers) > 25
    for number in numbers:
        spellings = {show(number / unit, digits) for unit in (1, 1e-3, 1e9, 2**20) for digits in (3, 4)}
        assert {*spellings, f"{number:.3f}"} & written, number


def test_the_page_says_what_was_measured_by_what_and_whether_bounds_are_met(folder: Path) -> None:
    page = (folder / PAGE_FILE).read_text(encoding="utf-8")
    (first,), (second,) = _rows(page, "models-small"), _rows(page, "pretrain-tiny")
    made = ["0123456", "2026-01-02 03:04", f"`{COMMAND}`"]
    assert first == ["models-small", "a CPU", "2", "float32", "1", "0", "0.5 to 0.5", *made]
    assert second[4:7] == ["0", "1", "1.25 to 1.25"]
    times = [row for row in _rows(page, "text forward") if "8 texts" in row]
    assert [row[7:9] for row in times] == [["met", "—"], ["not met", "0.75"]]
    assert times[0][2:6] == ["20 [18.6, 21.4]", "40 [37.2, 42.8]", "9 / 7", "0.500 [0.457, 0.568]"]
    work = [row for row in _rows(page, "text forward") if "ours" in row]
    assert work[0][2:] == ["850", "2.1", "105", "25", "3"]
    assert f"]({PLOT_FILE})" in page


def test_what_stands_in_the_files_cannot_become_html_or_another_cell() -> None:
    evil = "<script>alert(1)</script> | **x**\n# heading"
    benchmark = _benchmark(facts={evil: 1.0}, command=evil, comparisons=(_comparison(name=evil, shape=evil),))
    page = render_page([benchmark])
    assert "<script>" not in page
    assert "\n# heading" not in page
    rows = [line.replace("\\|", "") for line in page.splitlines() if "alert" in line and line.startswith("| ")]
    widths = {len(row.split("|")) for row in rows}
    assert widths == {12, 14, 9, 4}  # of overview, of times, of work, of facts


def test_the_plot_is_the_same_each_time_whatever_the_settings_and_names_every_exponent(folder: Path) -> None:
    text = (folder / PLOT_FILE).read_text(encoding="utf-8")
    with mpl.rc_context({"lines.linewidth": 7, "axes.facecolor": "red"}):
        write_page(folder)
    assert (folder / PLOT_FILE).read_text(encoding="utf-8") == text
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert "<script" not in text
    assert "models-small: text forward, exponent 2.00" in text  # matplotlib notes beside the paths what they spell
    assert "pretrain-tiny: text forward, exponent 2.00" in text


def test_times_and_sizes_are_drawn_apart(tmp_path: Path) -> None:
    write_benchmark(_benchmark(growths=(_growth(name="$t$"), _growth(quantity="bytes"))), tmp_path)
    write_page(tmp_path)
    text = (tmp_path / PLOT_FILE).read_text(encoding="utf-8")
    assert text.count('<g id="axes_') == 2


def test_without_growths_there_is_no_plot(folder: Path) -> None:
    for name in ("models-small", "pretrain-tiny"):
        write_benchmark(_benchmark(name=name, growths=()), folder)
    assert "growth.svg" in str(find_drift(folder))
    write_page(folder)
    assert not (folder / PLOT_FILE).exists()
    assert PLOT_FILE not in (folder / PAGE_FILE).read_text(encoding="utf-8")
    assert find_drift(folder) is None


def test_the_command_writes_the_page_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / PAGE_FILE).unlink()
    assert main(["benchmarks", "--folder", str(folder)]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("README.md: 2 benchmarks, 2 comparisons, bounds: 1 met, 1 not met\n")
    assert captured.err == ""
    assert main(["benchmarks", "--folder", str(folder), "--check"]) == 0
    assert capsys.readouterr().out == ""
    names = {"README.md", "growth.svg", "models-small.json", "pretrain-tiny.json"}
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / PAGE_FILE).unlink(), "README.md in"),
        (lambda folder: (folder / PLOT_FILE).unlink(), "growth.svg in"),
        (lambda folder: write_benchmark(_benchmark(facts={"import, s": 1.358}), folder), "README.md in"),
        (lambda folder: write_benchmark(_benchmark(name="another"), folder), "README.md and growth.svg in"),
        (lambda folder: (folder / "pretrain-tiny.json").unlink(), "README.md and growth.svg in"),
    ],
    ids=["no page", "no plot", "another figure", "another benchmark", "one less"],
)
def test_a_page_that_the_files_do_not_give_exits_1_with_one_line(
    damage: Any, named: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["benchmarks", "--folder", str(folder), "--check"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(named)
    assert (captured.out.count("\n"), captured.err) == (1, "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("option", [[], ["--check"]])
@pytest.mark.parametrize(("place", "code"), [("none", 4), ("empty", 4), ("faulty", 2)])
def test_nothing_to_read_is_one_line_and_nothing_is_written(
    place: str, code: int, option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / "a.json").write_text("{}", encoding="utf-8")
    assert main(["benchmarks", "--folder", str(tmp_path / place), *option]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (captured.err[:7], captured.err.count("\n")) == ("error: ", 1)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.json"]


def test_the_page_is_in_the_order_of_names(folder: Path) -> None:
    benchmarks = read_benchmarks(folder)
    headings = [line for line in render_page(benchmarks).splitlines() if line.startswith("## ")]
    assert headings == ["## models-small", "## pretrain-tiny"]
