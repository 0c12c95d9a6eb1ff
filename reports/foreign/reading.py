"""What is taken out of a foreign file: the evaluations it tells of, each with the place where it stands.

Files are untrusted text: they are split into lines, parsed as JSON, or searched for numbers; nothing in them is
executed. A number whose scale does not fit the layout is refused, never rescaled to fit.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from reports.interval import wilson_interval
from reports.record import MetricValue

MAX_BYTES = 1 << 29  # of a file that is read whole: 512 MiB
PRINTED = 1e-4  # points; six printed digits of a share in per cent leave half of that
SHARE_SLACK = 2e-5  # between a printed share and its printed counts


@dataclass(frozen=True)
class Question:
    """What a reader has to know beside the file.

    Attributes:
        published: names of the metrics that were published for the task.
        columns: of per-sample rows: prediction and truth.
        cluster: of per-sample rows: the column that says which samples belong together.
    """

    published: frozenset[str] = frozenset()
    columns: tuple[str, str] = ("prediction", "truth")
    cluster: str | None = None


@dataclass(frozen=True)
class Entry:
    """One evaluation that a file tells of.

    Attributes:
        where: the place in the file: "line 12".
        step: of the training, where the file says it.
        ids: of the samples in order, where the file names them.
    """

    metrics: tuple[MetricValue, ...]
    where: str
    step: int | None = None
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    ids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Reading:
    """All evaluations of a file, in its order; `layout` says in words what it was read as."""

    layout: str
    entries: tuple[Entry, ...]


class Reader(Protocol):
    """Takes the evaluations out of one kind of file."""

    def __call__(self, path: Path, question: Question) -> Reading:
        """Read a file.

        Raises:
            ValueError: not such a file, or numbers in it that cannot be what they are called; one line.
        """
        ...


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give a file's lines with their numbers from 1, without line ends; what is no UTF-8 is replaced."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.rstrip("\r\n")


def read_json(path: Path) -> JsonValue:
    """Read a file that is one JSON value; None where it is none.

    Raises:
        ValueError: larger than a file of results is.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name}: {path.stat().st_size >> 20} MiB, expected at most {MAX_BYTES >> 20} MiB.")
    return parse_json(path.read_text(encoding="utf-8", errors="replace"))


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, JsonValue]]]:
    """Give the objects of a file with one JSON object a line; nothing where its first line is none.

    Raises:
        ValueError: a later line is none: it may have been the evaluation that counts.
    """
    for number, line in read_lines(path):
        value = parse_json(line) if line.startswith("{") else None
        if isinstance(value, dict):
            yield number, value
        elif number == 1:
            return
        elif line.strip():
            raise ValueError(f"{path.name}: line {number} is no JSON object. Is the file torn?")


def parse_json(text: str) -> JsonValue:
    """Parse JSON; None where the text is none, or one that is nested too deep."""
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


def as_number(value: object) -> float | None:
    """Read a number, also one that was printed as a text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def as_count(value: object) -> int | None:
    """Read a count of samples; None where it is none."""
    number = as_number(value)
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def in_per_cent(value: float, *, is_share: bool, what: str) -> float:
    """Put a value on the scale 0 to 100; NaN stays NaN.

    Raises:
        ValueError: a share beyond 1, or a value beyond 100 per cent: the file has another scale than its layout.
    """
    largest = 1.0 if is_share else 100.0
    if not math.isnan(value) and not 0 <= value <= largest:
        raise ValueError(f"{what} is {value:g}, expected a value from 0 to {largest:g}. Is it of another layout?")
    return 100 * value if is_share else value


def measure(name: str, value: float, *, n: int | None = None, each_alone: bool = False) -> MetricValue:
    """Make a metric of what a log prints.

    Args:
        name: ours.
        value: in per cent.
        n: how many samples it is over; None where the log does not say.
        each_alone: whether it is a share of samples that hang together in nothing; it then gets Wilson's interval.
            Where several belong to one picture or clip, a log does not say which, and there is no interval.
    """
    hits = None if not n or math.isnan(value) else round(value * n / 100)
    if hits is None or n is None or abs(value - 100 * hits / n) > PRINTED:
        return MetricValue(name=name, value=value, n=n)
    if not each_alone:
        return MetricValue(name=name, value=value, n=n, hits=float(hits))
    low, high = wilson_interval(hits, n)
    return MetricValue(name=name, value=value, n=n, hits=float(hits), ci_low=low, ci_high=high, ci_method="wilson")


def check_share(share: float, hits: float, n: float, *, what: str) -> None:
    """Refuse a share that its own counts contradict.

    Raises:
        ValueError: with the three numbers.
    """
    if n <= 0 or abs(share - hits / n) > SHARE_SLACK:
        raise ValueError(f"{what} is {share:g}, but {hits:g} of {n:g}. The file contradicts itself.")


def need_entries(entries: Sequence[Entry], *, path: Path, layout: str, expected: str) -> Reading:
    """Give a reading, of which there is none without an evaluation.

    Raises:
        ValueError: no evaluation was found; says what was looked for.
    """
    if not entries:
        raise ValueError(f"{path.name}: no evaluation found, expected {expected}.")
    return Reading(layout, tuple(entries))
