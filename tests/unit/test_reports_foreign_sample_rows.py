"""Per-sample rows are scored again by our own metric, each of them once."""

from pathlib import Path

import pytest

from reports.foreign.reading import Entry, Question
from reports.foreign.sample_rows import read
from reports.interval import wilson_interval

JSON_ROWS = """\
{"id": "a", "prediction": "dog", "truth": "dog", "clip": 1}
{"id": "b", "prediction": "cat", "truth": "dog", "clip": 1}

{"id": "c", "prediction": "cat", "truth": "cat", "clip": 2}
{"id": "d", "prediction": 3, "truth": "3", "clip": 2}
"""
CSV_ROWS = 'id,prediction,truth\na,"rain, heavy","rain, heavy"\nb,sea,rain\n'
TABLE = "guess\tanswer\n3\t3\n4\t5\n4\t4\n"


def _read(tmp_path: Path, text: str, question: Question | None = None) -> Entry:
    path = tmp_path / "rows"
    path.write_text(text, encoding="utf-8")
    (entry,) = read(path, question or Question()).entries
    return entry


def test_rows_become_an_accuracy_with_wilsons_interval(tmp_path: Path) -> None:
    entry = _read(tmp_path, JSON_ROWS)
    (metric,) = entry.metrics
    assert (metric.name, metric.value, metric.n, metric.hits) == ("accuracy", 50.0, 4, 2)  # 3 is not the text 3
    assert (metric.ci_low, metric.ci_high) == wilson_interval(2, 4)
    assert metric.ci_method == "wilson"
    assert (entry.ids, entry.where) == (("a", "b", "c", "d"), "4 rows")


@pytest.mark.parametrize(
    ("text", "question", "hits", "n", "ids"),
    [(CSV_ROWS, Question(), 1, 2, ("a", "b")), (TABLE, Question(columns=("guess", "answer")), 2, 3, None)],
)
def test_tables_are_read_by_their_header(
    text: str, question: Question, hits: int, n: int, ids: tuple[str, ...] | None, tmp_path: Path
) -> None:
    entry = _read(tmp_path, text, question)
    assert (entry.metrics[0].hits, entry.metrics[0].n, entry.ids) == (hits, n, ids)


def test_samples_that_hang_together_are_drawn_together(tmp_path: Path) -> None:
    (metric,) = _read(tmp_path, JSON_ROWS, Question(cluster="clip")).metrics
    assert metric.value == 50.0
    assert (metric.ci_method or "").startswith("bootstrap over clusters")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no evaluation found"),
        ("id,prediction,truth\n", "no evaluation found"),
        ("a text\nof lines\n", "no 'prediction' among a text"),
        (JSON_ROWS.replace('"truth": "cat", ', ""), "line 4: no 'truth' among id, prediction, clip"),
        (JSON_ROWS + '{"id": "e", "predic', "line 6 is no JSON object"),
        (JSON_ROWS.replace('"c"', '"a"'), "sample 'a' stands twice"),
        (JSON_ROWS.replace('"cat", "truth": "cat"', '["cat"], "truth": "cat"'), "expected one text"),
        (JSON_ROWS.replace('"cat", "truth": "cat"', 'null, "truth": "cat"'), "is null"),
        (CSV_ROWS + "c,sea\n", "line 4: no 'truth' among id, prediction"),
        (CSV_ROWS + 'c,"sea,rain\n', "expected rows with a prediction"),
    ],
)
def test_no_row_is_passed_over(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)
