"""Curves of a training, out of the log that it left."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from reports.log_file import STEP, TIME
from reports.page.data import Curve

MAX_POINTS: Final = 120
MAX_CURVES: Final = 6
STEPS: Final = (STEP, "iteration")  # a step's number; the second is what trainings by mmengine's Runner write
FIRST: Final = ("loss", "accuracy", "hits", "lr", "grad_norm")  # what is looked at first
NO_POINT: Final = {TIME, *STEPS}


def read_curves(path: Path) -> tuple[Curve, ...]:
    """Read what a training noted step by step: at most six numbers, losses first.

    Lines that are no step, torn ones among them, are passed over: the page shows what there is.

    Args:
        path: of the log, one JSON object a line.

    Raises:
        OSError: the log cannot be read.
    """
    found: dict[str, dict[int, float]] = {}
    for step, numbers in _read_steps(path):
        for name, value in numbers.items():
            found.setdefault(name, {})[step] = value
    names = sorted((name for name, points in found.items() if len(points) > 1), key=_place)
    return tuple(_make_curve(name, found[name]) for name in names[:MAX_CURVES])


def thin(count: int, most: int) -> list[int]:
    """Choose at most `most` places of `count`, evenly, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})


def _read_steps(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                fields = json.loads(line)
            except ValueError:
                continue
            step = next((fields[name] for name in STEPS if name in fields), None) if isinstance(fields, dict) else None
            if isinstance(step, int):
                yield step, {name: float(value) for name, value in fields.items() if _is_point(name, value)}


def _is_point(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return name not in NO_POINT and is_number and math.isfinite(value)


def _place(name: str) -> tuple[int, str]:
    number = next((i for i, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))
    return number, name


def _make_curve(name: str, points: dict[int, float]) -> Curve:
    steps: Sequence[int] = sorted(points)
    kept = [steps[place] for place in thin(len(steps), MAX_POINTS)]
    return Curve(
        name=name,
        steps=tuple(kept),
        values=tuple(points[step] for step in kept),
        num_points=len(steps),
        first=points[steps[0]],
        last=points[steps[-1]],
        lowest=min(points.values()),
        highest=max(points.values()),
    )
