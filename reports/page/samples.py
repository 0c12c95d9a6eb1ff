"""The worst and the best of a run's samples, out of the rows that it wrote of every one."""

import heapq
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reports.page.sample_forms import BROKEN, FORMS, Context, Form, Row, Told, first_found

NUM_SHOWN: Final = 3  # worst, and as many best; of retrieval in each direction two
NUM_A_DIRECTION: Final = 2
SPARE: Final = 16  # times as many rows are looked at, for several may be of one sample


@dataclass(frozen=True)
class Extremes:
    """What was picked."""

    rule: str
    num_rows: int
    worst: tuple[Told, ...] = ()
    best: tuple[Told, ...] = ()
    note: str | None = None


def pick_samples(path: Path, class_names: Sequence[str] = ()) -> Extremes:
    """Pick the worst and the best samples of a run; none is both.

    Args:
        path: of `predictions.jsonl`.
        class_names: by number, for rows that count pixels by class.

    Raises:
        OSError: the file cannot be read.
    """
    first = next(_read_rows(path), None)
    form = None if first is None else next((form for form in FORMS if form.keys <= first.keys()), None)
    if first is None or form is None:
        note = "no sample was written" if first is None else "rows of a form that this page does not know"
        return Extremes(rule="", num_rows=sum(1 for _ in _read_rows(path)), note=note)
    directions = sorted({str(row.get("direction", "")) for row in _read_rows(path)})
    count = NUM_SHOWN if len(directions) == 1 else NUM_A_DIRECTION
    worst: list[Row] = []
    best: list[Row] = []
    for direction in directions:
        low, high = _pick(path, form, direction=direction, count=count)
        worst, best = worst + low, best + high
    context = Context(class_names, _read_captions(path, [*worst, *best]))
    return Extremes(
        rule=form.rule,
        num_rows=sum(1 for _ in _read_rows(path)),
        worst=tuple(_tell(worst, form, context)),
        best=tuple(_tell(best, form, context)),
    )


def _pick(path: Path, form: Form, *, direction: str, count: int) -> tuple[list[Row], list[Row]]:
    """Give the worst and the best rows of a direction, one a sample; of equal ones those that come first."""

    def ranked() -> Iterator[tuple[float, int, Row]]:
        for number, row in enumerate(_read_rows(path)):
            if str(row.get("direction", "")) == direction and (rank := _rank(row, form)) is not None:
                yield rank, number, row

    high = heapq.nsmallest(count * SPARE, ranked(), key=lambda item: (-item[0], item[1]))
    low = heapq.nsmallest(count * SPARE, ranked(), key=lambda item: (item[0], item[1]))
    best = _take_distinct([row for _, _, row in high], count, taken=set())
    return _take_distinct([row for _, _, row in low], count, taken={str(row.get("id")) for row in best}), best


def _take_distinct(rows: Iterable[Row], count: int, *, taken: set[str]) -> list[Row]:
    """Take the first rows of samples that are not taken: of one sample's sentences one is enough."""
    chosen: dict[str, Row] = {}
    for row in rows:
        name = str(row.get("id"))
        if name not in taken and len(chosen) < count:
            chosen.setdefault(name, row)
    return list(chosen.values())


def _rank(row: Row, form: Form) -> float | None:
    """Give what a row is ordered by; None where it is not what its keys promise."""
    try:
        rank = form.rank(row)
    except BROKEN:
        return None
    return None if math.isnan(rank) else rank


def _tell(rows: Iterable[Row], form: Form, context: Context) -> Iterator[Told]:
    for row in rows:
        try:
            yield form.tell(row, context)
        except BROKEN:
            continue


def _read_rows(path: Path) -> Iterator[Row]:
    """Read the rows one after the other; a line that a kill cut off is left out."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row


def _read_captions(path: Path, rows: Iterable[Row]) -> dict[str, str]:
    """Find one caption of each sample that some rows name."""
    wanted = {name for row in rows if "direction" in row for name in (str(row["id"]), *first_found(row))}
    captions: dict[str, str] = {}
    for row in _read_rows(path) if wanted else ():
        if "caption" in row and str(row.get("id")) in wanted:
            captions.setdefault(str(row["id"]), str(row["caption"]))
    return captions
