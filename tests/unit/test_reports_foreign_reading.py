"""What all readers of foreign files share: texts become numbers and nothing else, and no scale is guessed."""

import math
from pathlib import Path

import pytest

from reports.foreign.reading import (
    as_count,
    as_number,
    check_share,
    in_per_cent,
    measure,
    need_entries,
    parse_json,
    read_json,
    read_json_lines,
    read_lines,
)
from reports.interval import wilson_interval


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (0.5, 0.5), ("0.8874", 0.8874), (True, None), ("x", None), (None, None), ([1], None), ("", None)],
)
def test_numbers_are_read_also_where_they_were_printed(value: object, number: float | None) -> None:
    assert as_number(value) == number


def test_a_number_beyond_all_floats_is_none() -> None:
    assert as_number(10**400) is None
    assert math.isnan(as_number("nan") or 0)


@pytest.mark.parametrize(("value", "count"), [(5000, 5000), ("25010", 25010), (5000.0, 5000), (1.5, None), (-1, None)])
def test_counts_are_whole(value: object, count: int | None) -> None:
    assert as_count(value) == count


def test_a_scale_is_the_layouts_and_is_never_guessed() -> None:
    assert in_per_cent(0.62, is_share=True, what="mIoU") == 62.0
    assert in_per_cent(62.0, is_share=False, what="mIoU") == 62.0
    assert math.isnan(in_per_cent(math.nan, is_share=True, what="mIoU"))
    with pytest.raises(ValueError, match="mIoU is 62, expected a value from 0 to 1"):
        in_per_cent(62.0, is_share=True, what="mIoU")
    with pytest.raises(ValueError, match="from 0 to 100"):
        in_per_cent(101.0, is_share=False, what="mIoU")
    with pytest.raises(ValueError, match="is -1"):
        in_per_cent(-1.0, is_share=False, what="APs")


def test_hits_follow_from_the_count_and_the_interval_from_samples_that_stand_alone() -> None:
    alone = measure("accuracy_top_1", 89.558, n=50_000, each_alone=True)
    assert (alone.hits, alone.ci_method) == (44779, "wilson")
    assert (alone.ci_low, alone.ci_high) == wilson_interval(44779, 50_000)
    together = measure("recall_at_1_text_to_image", 65.4058, n=25_010)  # six digits, as fairseq prints them
    assert (together.hits, together.ci_low, together.ci_method) == (16358, None, None)
    assert measure("miou", 61.97).n is None
    assert measure("miou", 33.34, n=3).hits is None  # no third: not a share of these samples
    assert measure("miou", math.nan, n=3).hits is None


def test_a_share_that_its_counts_contradict_is_refused() -> None:
    check_share(0.887433, 9547, 10758, what="iou_acc")
    for share, hits, n in ((0.9, 9547, 10758), (0.5, 0, 0)):
        with pytest.raises(ValueError, match="contradicts itself"):
            check_share(share, hits, n, what="iou_acc")


def test_lines_of_any_bytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"a\r\n\xff\xfe\x00b\nlast")
    assert [line for _, line in read_lines(path)] == ["a", "\ufffd\ufffd\x00b", "last"]


def test_deep_nesting_and_broken_json_are_none_and_large_files_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse_json("[" * 100_000) is None
    assert parse_json("{torn") is None
    path = tmp_path / "x.json"
    path.write_text("{}", encoding="utf-8")
    assert read_json(path) == {}
    monkeypatch.setattr("reports.foreign.reading.MAX_BYTES", 1)
    with pytest.raises(ValueError, match=r"x\.json: 0 MiB, expected at most"):
        read_json(path)


def test_a_torn_line_of_json_is_told_since_it_may_be_the_one_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}\n\n{"b": 2}\n{"c": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.json: line 4 is no JSON object"):
        list(read_json_lines(path))
    path.write_text('no json\n{"b": 2}\n', encoding="utf-8")
    assert list(read_json_lines(path)) == []
    path.write_text("", encoding="utf-8")
    assert list(read_json_lines(path)) == []


def test_a_file_without_an_evaluation_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.log: no evaluation found, expected a table"):
        need_entries([], path=tmp_path / "x.log", layout="", expected="a table")
