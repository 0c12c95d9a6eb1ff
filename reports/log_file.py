"""`log.jsonl`: what a training tells of every step, one JSON object a line.

A row is `{"step": 12, "time": 1767225600.123, "loss": 3.4, ...}`, `time` in seconds since 1970; an event is
`{"step": 12, "time": ..., "event": "saving step-00000012"}`. Numbers that are not finite, which JSON has not, stand as
the strings `nan`, `inf` and `-inf`. A line is written whole, so a kill leaves at most a torn last one: readers pass it
over, and `cut_log` removes it.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LOG_FILE: Final = "log.jsonl"
STEP, TIME, EVENT = "step", "time", "event"

Row = dict[str, float]
"""The numbers of one step by name, with `step` and `time`."""


@dataclass(frozen=True)
class Event:
    """Something that happened and is no number."""

    step: int
    text: str


@dataclass(frozen=True)
class Cut:
    """What was found and removed when a log was opened again."""

    last_step: int
    """Of the rows that stay; 0 where there is none."""
    num_steps: int
    """Rows that were removed."""


def encode_row(step: int, time_s: float, metrics: Mapping[str, float]) -> str:
    """Give the line of one step.

    Raises:
        ValueError: a metric is named like a field of the log, or is no number; one line.
    """
    fields: dict[str, Any] = {STEP: step, TIME: round(time_s, 3)}
    for name, value in metrics.items():
        if name in {STEP, TIME, EVENT}:
            raise ValueError(f"metric {name!r} at step {step} is a field of the log; expected another name")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"metric {name!r} at step {step} is {value!r}, expected a plain number; use .item()")
        fields[name] = value if math.isfinite(value) else str(float(value))
    return json.dumps(fields, allow_nan=False) + "\n"


def encode_event(step: int, time_s: float, text: str) -> str:
    """Give the line of an event; its text is put into one line."""
    return json.dumps({STEP: step, TIME: round(time_s, 3), EVENT: " ".join(text.split())}) + "\n"


def read_log(folder: Path) -> list[Row]:
    """Read the rows of a training, oldest first, also while it goes on.

    Raises:
        FileNotFoundError: no log there.
        ValueError: a line before the last is damaged; one line.
    """
    return [_to_row(fields) for _, fields in _parse(_find(folder)) if EVENT not in fields]


def read_events(folder: Path) -> list[Event]:
    """Read the events of a training, oldest first; errors as of `read_log`."""
    found = (fields for _, fields in _parse(_find(folder)) if EVENT in fields)
    return [Event(fields[STEP], fields[EVENT]) for fields in found]


def cut_log(folder: Path, after_step: int) -> Cut:
    """Remove what stands after a step, for it will come again, and a torn last line.

    The file is replaced as a whole, so that a kill leaves either the old or the new one. No log is an empty log.

    Raises:
        ValueError: a line before the last is damaged; one line, and the log is as it was.
    """
    path = folder / LOG_FILE
    if not path.is_file():
        return Cut(last_step=0, num_steps=0)
    parsed = list(_parse(path))
    kept = [(line, fields) for line, fields in parsed if fields[STEP] <= after_step]
    content = b"".join(line + b"\n" for line, _ in kept)
    if content != path.read_bytes():
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        partial.replace(path)
    steps = [int(fields[STEP]) for _, fields in kept if EVENT not in fields]
    return Cut(max(steps, default=0), sum(EVENT not in fields for _, fields in parsed) - len(steps))


def _find(folder: Path) -> Path:
    path = folder / LOG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {LOG_FILE} in {folder}; expected the folder of a training")
    return path


def _parse(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Give the lines with what they say; a torn last one is left out."""
    lines = path.read_bytes().split(b"\n")
    lines, rest = lines[:-1], lines[-1]
    for number, line in enumerate(lines, start=1):
        fields = _decode(line)
        if fields is None and number == len(lines) and not rest:
            return
        if fields is None:
            raise ValueError(
                f"{path}, line {number} is damaged: {line[:60]!r}; expected one JSON object with a step. "
                "Mend or remove the line."
            )
        yield line, fields


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict) or not isinstance(fields[STEP], int):
            return None
        if EVENT not in fields:
            _to_row(fields)
    except (KeyError, TypeError, ValueError):
        return None
    return fields


def _to_row(fields: Mapping[str, Any]) -> Row:
    """Turn what stands in strings back into numbers."""
    return {name: float(value) if isinstance(value, str) else value + 0 for name, value in fields.items()}
