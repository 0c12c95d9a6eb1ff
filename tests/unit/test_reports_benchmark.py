"""A benchmark: what is read is what was written, and what contradicts itself is refused in one line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.benchmark import (
    Benchmark,
    Comparison,
    Growth,
    Machine,
    Timing,
    fit_power,
    read_benchmarks,
    write_benchmark,
)


def _timing(median_s: float = 0.02, **changes: Any) -> Timing:
    fields: dict[str, Any] = {"median_s": median_s, "low_s": median_s * 0.9, "high_s": median_s * 1.1, "repeats": 7}
    return Timing(**{**fields, "tokens_per_s": 500.0, "flops": 2e9, "peak_memory_bytes": 3 * 2**20, **changes})


def _comparison(**changes: Any) -> Comparison:
    fields: dict[str, Any] = {"name": "text forward", "shape": "8 texts", "ours": _timing(0.02)}
    fields |= {"plain": _timing(0.04), "ratio": 0.5, "ratio_low": 0.45, "ratio_high": 0.55, "bound": 0.8}
    return Comparison(**{**fields, "difference": 1e-7, "tolerance": 1e-5, **changes})


def _growth(**changes: Any) -> Growth:
    fields: dict[str, Any] = {"name": "text forward", "variable": "tokens", "quantity": "seconds"}
    fields |= {"points": ((64.0, 0.1), (128.0, 0.4), (256.0, 1.6)), "exponent": 2.0, "expected": "between 1 and 2"}
    return Growth(**{**fields, **changes})


def _benchmark(**changes: Any) -> Benchmark:
    machine = Machine(device="cpu", threads=2, dtype="float32", peak_flops_per_s=4e11, versions={"torch": "2.11.0"})
    fields: dict[str, Any] = {"name": "models-small-float32", "command": "python models/run.py bench"}
    fields |= {"commit": "0123456789", "is_dirty": False, "started_at": "2026-01-02T03:04:05+00:00"}
    fields |= {"machine": machine, "comparisons": (_comparison(),), "growths": (_growth(),)}
    return Benchmark(**{**fields, "facts": {"first embedding, s": 0.1 + 0.2}, **changes})


def test_what_is_read_is_what_was_written_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "benchmarks"
    written = [_benchmark(name=name) for name in ("a", "b", "a-b")]
    assert [write_benchmark(one, folder).name for one in written] == ["a.json", "b.json", "a-b.json"]
    assert read_benchmarks(folder) == tuple(sorted(written, key=lambda one: one.name))
    assert read_benchmarks(folder)[0].facts["first embedding, s"] == 0.1 + 0.2
    write_benchmark(_benchmark(name="a", facts={}), folder)
    assert read_benchmarks(folder)[0].facts == {}
    assert {path.suffix for path in folder.iterdir()} == {".json"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_benchmark(_benchmark(), tmp_path)
    before = path.read_text(encoding="utf-8")

    def refuse(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="full"):
        write_benchmark(_benchmark(facts={}), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text(encoding="utf-8") == before


def test_what_was_changed_past_its_checks_is_not_written(tmp_path: Path) -> None:
    for changes in ({"facts": {"a": math.nan}}, {"name": "../outside"}):
        with pytest.raises(ValueError, match="no benchmark of schema version 1"):
            write_benchmark(_benchmark().model_copy(update=changes), tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ratio": 0.51}, "expected the ratio of the medians, 0.5, found 0.51"),
        ({"ratio_low": 0.6}, "expected ratio_low <= ratio_high"),
        ({"difference": 1e-4}, "not the same arithmetic"),
        ({"difference": -1e-9}, "not the same arithmetic"),
        ({"difference": math.nan}, "finite"),
        ({"ratio_high": math.inf}, "finite"),
        ({"name": " "}, "expected a text"),
    ],
)
def test_a_comparison_that_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _comparison(**changes)


@pytest.mark.parametrize(
    "changes", [{"low_s": 0.03}, {"high_s": 0.01}, {"repeats": 0}, {"flops": -1.0}, {"median_s": 0.0}, {"extra": 1}]
)
def test_a_timing_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        _timing(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exponent": 1.9}, "expected the exponent of the points, "),
        ({"points": ((128.0, 0.4), (64.0, 0.1), (256.0, 1.6))}, "ascending tokens"),
        ({"points": ((64.0, 0.1),)}, "two points or more"),
        ({"points": ((64.0, 0.0), (128.0, 0.4))}, "all above 0"),
    ],
)
def test_a_growth_whose_exponent_its_points_do_not_give_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _growth(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "../outside"}, "pattern"),
        ({"name": "a\n"}, "pattern"),
        ({"started_at": "2026-01-02T03:04:05"}, "in UTC"),
        ({"started_at": "yesterday"}, "isoformat"),
        ({"comparisons": (_comparison(), _comparison())}, "each comparison once"),
        ({"growths": (_growth(), _growth())}, "each growth once"),
    ],
)
def test_a_benchmark_that_contradicts_itself_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _benchmark(**changes)


def test_one_workload_may_grow_in_time_and_in_size() -> None:
    assert len(_benchmark(growths=(_growth(), _growth(quantity="bytes"))).growths) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "a.json: no benchmark of schema version 1: "),
        ("{}", "a.json: no benchmark of schema version 1: no 'name'"),
        (_benchmark(name="b").to_json(), "a.json: holds 'b'"),
        (_benchmark(name="a").to_json().replace('"schema_version": 1', '"schema_version": 2'), "'schema_version' is 2"),
        ("\udcff", "a.json: "),
    ],
)
def test_a_faulty_file_is_named_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    write_benchmark(_benchmark(name="b"), tmp_path)
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"a\.json: ") as caught:
        read_benchmarks(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_benchmarks(tmp_path / "none")
    assert read_benchmarks(tmp_path) == ()


def test_rates_follow_from_the_fields_and_are_none_where_nothing_was_counted() -> None:
    benchmark, timing = _benchmark(), _timing(0.02, flops=2e9)
    assert timing.flops_per_s == 1e11
    assert benchmark.share_of_peak(timing) == 0.25
    assert _timing(flops=None).flops_per_s is None
    assert benchmark.share_of_peak(_timing(flops=None)) is None
    one = _comparison()
    busy = one.model_copy(update={"ours": _timing(one.ours.median_s, flops=benchmark.machine.peak_flops_per_s / 100)})
    assert benchmark.floor(busy) == pytest.approx(0.01 / one.plain.median_s)
    assert benchmark.floor(one.model_copy(update={"ours": _timing(flops=None)})) is None
    assert one.products_ratio is None
    assert one.model_copy(update={"products_s": one.plain.median_s / 4}).products_ratio == 0.25


@pytest.mark.parametrize(("bound", "is_met"), [(0.8, True), (0.5, False), (0.4, False), (None, None)])
def test_a_bound_is_met_by_a_ratio_under_it(bound: float | None, is_met: bool | None) -> None:
    assert _comparison(bound=bound).is_met is is_met


def test_a_password_in_the_command_is_not_kept() -> None:
    benchmark = _benchmark(command="python models/run.py bench --tracking-uri http://me:secret@server:5000")
    assert "secret" not in json.loads(benchmark.to_json())["command"]


@given(
    factor=st.floats(1e-6, 1e6),
    exponent=st.floats(-3, 3),
    start=st.integers(1, 1000),
    count=st.integers(2, 9),
)
def test_the_fit_finds_the_power_law_that_points_lie_on(factor: float, exponent: float, start: int, count: int) -> None:
    points = [(start * 2.0**i, factor * (start * 2.0**i) ** exponent) for i in range(count)]
    found_factor, found_exponent = fit_power(points)
    assert math.isclose(found_factor, factor, rel_tol=1e-6)
    assert math.isclose(found_exponent, exponent, abs_tol=1e-9)
