"""Tables: fixed rows and columns, at most 120 wide, and a mini run never shows a distance from the paper."""

import csv
import io
import math
from typing import Any

import pytest

from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict
from reports.table import comparison_rows, latest_records, render_table


def _record(value: float = 61.9712, **changes: Any) -> Record:
    checkpoint = CheckpointInfo(name="one-peace-ade20k.pth", sha256="c0ffee", loaded=10)
    data = DataInfo(
        name="ADE20K", version="2016", root_name="ade", digest="d1", n=2000, n_expected=2000, ids_sha256="e5"
    )
    metrics = (
        MetricValue(name="miou", value=value, n=2000, ci_low=61.0149, ci_high=62.9),
        MetricValue(name="fwiou", value=80.5, n=None),
    )
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "paper"}
    fields |= {"model_size": "4b", "setting": "fine-tuned", "protocol": "slide-896-512/ss", "protocol_sha256": "ab"}
    fields |= {"metrics": metrics, "checkpoint": checkpoint, "data": data, "config": {}, "dtype": "float32"}
    fields |= {"device": "cpu", "seed": 0, "commit": "0123456789", "is_dirty": False, "versions": {}, "command": "run"}
    fields |= {
        "started_at": "2024-01-31T12:00:00+00:00",
        "duration_s": 3.5,
        "comparisons": (_comparison(value - 62.0),),
    }
    return Record(**{**fields, **changes})


def _comparison(gap: float | None, verdict: Verdict = Verdict.MATCH, **changes: Any) -> Comparison:
    fields: dict[str, Any] = {"target_id": "V7", "metric": "miou", "published": 62.0, "printed": "62.0"}
    fields |= {"source": "P-T3", "gap": gap, "verdict": verdict, "reason": "because", "profile": "paper"}
    return Comparison(**{**fields, **changes})


def _mini(**changes: Any) -> Record:
    comparison = _comparison(None, Verdict.NOT_COMPARABLE, profile="mini")
    return _record(12.5, run_id="r2", profile="mini", model_size="mini", comparisons=(comparison,), **changes)


def test_the_text_table_is_this_one() -> None:
    lines = [line.split("  ") for line in render_table([_record(), _mini()]).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["task", "split", "metric", "ours [95 %]", "n", "paper", "gap", "verdict"]
    assert cells[2:] == [
        ["ade20k", "val", "miou ss", "12.50 [61.01, 62.90]", "2000", "62.0", "—", "not comparable (mini)"],
        ["ade20k", "val", "fwiou ss", "80.50", "—", "—", "—", "no published number (mini)"],
        ["ade20k", "val", "miou ss", "61.97 [61.01, 62.90]", "2000", "62.0", "-0.03", "match"],
        ["ade20k", "val", "fwiou ss", "80.50", "—", "—", "—", "no published number"],
    ]


def test_the_text_table_is_aligned_and_fits() -> None:
    lines = render_table([_record(), _mini()]).splitlines()
    assert max(map(len, lines)) <= 120
    starts = [line.index("[61.01") for line in lines if "[61.01" in line]
    assert len(set(starts)) == 1
    assert not any(line.endswith(" ") for line in lines)


def test_long_names_are_broken_and_never_cut() -> None:
    metric = MetricValue(name="recall_at_10_image_to_text", value=98.3, n=5000, ci_low=97.9, ci_high=98.6)
    comparison = _comparison(0.0, Verdict.WITHIN_SAMPLING_ERROR, metric=metric.name)
    task = "retrieval_between_flickr30k_and_itself"
    record = _record(task=task, split="validation", metrics=(metric,), comparisons=(comparison,))
    lines = render_table([record]).splitlines()
    assert max(map(len, lines)) <= 120
    text = "".join("".join(lines).split())
    assert "98.30[97.90,98.60]" in text
    widths = [len(part) for part in lines[1].split("  ")]
    start = sum(widths[:2]) + 4
    shown = "".join(line[start : start + widths[2]] for line in lines[2:]).replace(" ", "")
    assert shown.startswith("R@10imagetotextss")


def test_markdown_has_one_line_a_row() -> None:
    lines = render_table([_mini()], style="markdown").splitlines()
    assert len(lines) == 4
    assert lines[2] == (
        "| ade20k | val | slide-896-512/ss | miou | 12.50 [61.01, 62.90] | 2000 | 62.0 | — "
        "| mini | mini | fine-tuned | not comparable (mini) |"
    )
    assert "a\\|b" in render_table([_record(setting="a|b")], style="markdown")


def test_csv_keeps_every_digit() -> None:
    text = render_table([_record(61.97123456789012), _record(math.nan, run_id="r3")], style="csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert float(rows[0]["ours"]) == 61.97123456789012
    assert rows[0]["gap"] == repr(61.97123456789012 - 62.0)
    assert rows[0]["paper"] == "62.0"
    assert rows[1]["paper"] == rows[1]["gap"] == rows[1]["verdict"] == ""
    assert rows[2]["ours"] == "nan"
    assert "\r" not in text


@pytest.mark.parametrize("style", ["text", "markdown", "csv"])
def test_the_order_of_records_does_not_matter(style: Any) -> None:
    records = [_record(), _mini(), _record(run_id="r3", protocol="slide-896-512/ms"), _record(run_id="r4", task="coco")]
    assert render_table(records, style=style) == render_table(records[::-1], style=style)


def test_a_mini_run_never_shows_a_distance_from_the_paper() -> None:
    assert [row.gap for row in comparison_rows([_mini()])] == [None, None]
    assert render_table([_mini()], style="csv").splitlines()[1].split(",")[8:11] == ["62.0", "", "not comparable"]


def test_a_number_published_twice_stands_in_two_rows() -> None:
    record = _record(comparisons=(_comparison(-0.03), _comparison(0.02, target_id="L4", printed="61.95")))
    assert [(row.metric, row.paper) for row in comparison_rows([record])] == [
        ("miou", "62.0"),
        ("miou", "61.95"),
        ("fwiou", None),
    ]


def test_the_latest_of_each_protocol_is_kept() -> None:
    old = _record(run_id="old", started_at="2024-01-30T12:00:00+00:00")
    other = _record(run_id="other", protocol="slide-896-512/ms", started_at="2024-01-01T12:00:00+00:00")
    assert {record.run_id for record in latest_records([_record(run_id="new"), old, other])} == {"new", "other"}


def test_no_record_makes_a_table_of_its_header() -> None:
    assert render_table([]).splitlines()[0].split()[:3] == ["task", "split", "metric"]


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown style 'html'"):
        render_table([], style="html")  # type: ignore[arg-type]


def test_a_number_that_is_no_per_cent_keeps_the_digits_that_tell_it_from_the_papers() -> None:
    loss = MetricValue(name="loss", value=0.65347, unit="nats", ci_low=0.6412, ci_high=0.6655, direction="lower")
    beside = _comparison(0.00047, metric="loss", published=0.653, printed="0.653")
    row = render_table([_record(metrics=(loss,), comparisons=(beside,))]).splitlines()[2].split()
    assert row[2:9] == ["loss", "ss", "0.6535", "[0.6412,", "0.6655]", "—", "0.653"]
    assert row[9] == "+0.00047"
