"""The page as Markdown and CSV: the same numbers, and no text from a record that is more than text."""

import csv
import io
from typing import Any

from reports.page.build import build_page
from reports.page.data import Page
from reports.page.sources import Sources
from reports.page.text import render_csv, render_page_markdown
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict


def _record(**changes: Any) -> Record:
    data = DataInfo(name="E", version="v", root_name="e", digest="d", n=8, n_expected=8, ids_sha256="e5")
    metric = MetricValue(name="accuracy", value=91.7654321, n=2000, hits=1835.0, ci_low=90.5, ci_high=92.9)
    fields: dict[str, Any] = {"run_id": "r1", "task": "esc50", "dataset": "E", "split": "all", "profile": "paper"}
    fields |= {"model_size": "4b", "setting": "zero-shot", "protocol": "p/zero-shot", "protocol_sha256": "ab"}
    fields |= {"metrics": (metric,), "data": data, "config": {}, "seed": 0, "dtype": "float32", "device": "cpu"}
    fields |= {"checkpoint": CheckpointInfo(name="w", sha256=None, loaded=1), "commit": "0123456", "is_dirty": False}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 1.0, "versions": {}, "command": "c"}
    return Record(**{**fields, **changes})


def _comparison(**changes: Any) -> Comparison:
    fields: dict[str, Any] = {"target_id": "A5", "metric": "accuracy", "published": 91.8, "printed": "91.8"}
    fields |= {"source": "table 7", "gap": -0.0345679, "verdict": Verdict.MATCH, "reason": "so", "profile": "paper"}
    return Comparison(**{**fields, **changes})


def _mini(**changes: Any) -> Record:
    beside = _comparison(gap=None, verdict=Verdict.NOT_COMPARABLE, profile="mini")
    fields: dict[str, Any] = {"run_id": "m", "profile": "mini", "model_size": "mini", "comparisons": (beside,)}
    return _record(**{**fields, **changes})


def _page(*records: Record) -> Page:
    return build_page(records or (_record(comparisons=(_comparison(),)), _mini()), Sources())


def test_csv_holds_every_digit_of_every_number() -> None:
    page = _page()
    rows = list(csv.DictReader(io.StringIO(render_csv(page))))
    metrics = [(run, metric) for run in page.runs for metric in run.metrics]
    for row, (run, metric) in zip(rows, metrics, strict=True):
        assert (row["run_id"], row["metric"]) == (run.run_id, metric.name)
        assert [float(row[name]) for name in ("value", "ci_low", "ci_high")] == [91.7654321, 90.5, 92.9]
    assert [(row["profile"], row["gap"], row["verdict"]) for row in rows] == [
        ("paper", "-0.0345679", "match"),
        ("mini", "", "not comparable"),
    ]


def test_a_spreadsheet_computes_nothing() -> None:
    row = next(csv.DictReader(io.StringIO(render_csv(_page(_record(run_id="=1+1", task="@x", split="-2"))))))
    assert (row["run_id"], row["task"], row["split"]) == ("'=1+1", "'@x", "'-2")


def test_markdown_keeps_mini_apart_and_shows_no_published_number_beside_it() -> None:
    text = render_page_markdown(_page())
    paper, _, rest = text.partition("## Mini results")
    mini = rest.partition("## Every result")[0]
    assert "| 91.8 | 91.77 [90.50, 92.90] | -0.03 |" in paper
    assert "say nothing of the paper" in mini
    assert "91.8 " not in mini
    assert "91.77 [90.50, 92.90]" in mini


def test_markdown_makes_no_html_of_a_record() -> None:
    evil = "<script>alert(1)</script> | `x`"
    records = [
        _record(comparisons=(_comparison(reason=evil, source=evil),)),
        _mini(command=evil, device=evil, run_id=evil, task=evil),
    ]
    text = render_page_markdown(_page(*records))
    assert "<" not in text
    assert all(line.count(" | ") == text_row.count(" | ") for line, text_row in _rows(text))


def _rows(text: str) -> list[tuple[str, str]]:
    """Pair every line of a table with its header, bars in cells left out."""
    pairs, header = [], ""
    for line in text.splitlines():
        if not line.startswith("|"):
            header = ""
        elif not header:
            header = line
        pairs += [(line.replace("\\|", ""), header)] if header else []
    return pairs
