"""Per-sample rows with a prediction and its truth beside it: JSON lines, csv or a table with tabs; scored again here.

A sample counts when the two are equal, as they stand: nothing is normalised, and no row is passed over. Our own
`predictions.jsonl` is such a file.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from reports.foreign.reading import Entry, Question, Reading, need_entries, parse_json, read_lines
from reports.interval import measure_share

NAME = "rows"
ID = "id"
EXPECTED = "rows with a prediction and its truth: JSON lines, csv or tabs, a header line first"
Answer = str | int | float | bool


def read(path: Path, question: Question) -> Reading:
    """Score every row and give the accuracy with its 95 % interval: Wilson's, or of whole clusters drawn again."""
    rows = list(_rows(path))
    if not rows:
        return need_entries([], path=path, layout="", expected=EXPECTED)
    prediction, truth = question.columns
    hits = [_answer(row, prediction, where) == _answer(row, truth, where) for where, row in rows]
    clusters = None
    if question.cluster is not None:
        clusters = np.array([str(_answer(row, question.cluster, where)) for where, row in rows])
    metric = measure_share("accuracy", np.array(hits, dtype=np.int64), clusters=clusters, over="clusters", seed=0)
    entry = Entry((metric,), where=f"{len(rows)} rows", ids=_ids(rows))
    return Reading("rows of predictions and truths", (entry,))


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Give every row with its place; empty lines of JSON are none."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        head = file.readline()
    if head.lstrip().startswith("{"):
        yield from _json_rows(path)
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if "\t" in head else ",", strict=True)
        try:
            for row in reader:
                yield f"line {reader.line_num}", {key: value for key, value in row.items() if value is not None}
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}, expected {EXPECTED}.") from None


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in read_lines(path):
        row = parse_json(line) if line.strip() else None
        if isinstance(row, dict):
            yield f"line {number}", row
        elif line.strip():
            raise ValueError(f"line {number} is no JSON object, expected {EXPECTED}.")


def _answer(row: Mapping[str, object], column: str, where: str) -> tuple[str, Answer]:
    """Take an answer with its type, so that the text 3 and the number 3 are told apart.

    Raises:
        ValueError: no such column, or an answer that is none.
    """
    if column not in row:
        raise ValueError(f"{where}: no {column!r} among {', '.join(map(str, row))}. Name the columns with --columns.")
    value = row[column]
    if not isinstance(value, str | int | float | bool):
        shown = json.dumps(value)[:60]
        raise ValueError(f"{where}: {column!r} is {shown}, expected one text, number or truth value.")
    kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    return kind, value


def _ids(rows: list[tuple[str, Mapping[str, object]]]) -> tuple[str, ...] | None:
    """Give the samples' ids; None where not every row has one.

    Raises:
        ValueError: one stands twice, so that a sample would be counted twice.
    """
    ids = [row.get(ID) for _, row in rows]
    if not all(isinstance(value, str | int) for value in ids):
        return None
    texts = [str(value) for value in ids]
    twice = [text for text, count in Counter(texts).items() if count > 1]
    if twice:
        raise ValueError(f"sample {twice[0]!r} stands twice, expected each once.")
    return tuple(texts)
