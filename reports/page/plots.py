"""Where the marks of a plot stand: numbers to places in a drawing, which the templates draw as SVG."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 240
INSET: Final = 14  # on both sides, so that marks and labels at the ends are whole
LEAST_GAP, MAX_GAP = 0.5, 10.0  # points; what lies farther from the published number is an arrow at the edge
LEAST_SPAN: Final = 0.01  # of a value, on each side, where all are nearly equal
CURVE_WIDTH, CURVE_HEIGHT = 320, 110
STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """A scale from left to right.

    Attributes:
        low, high: its ends.
        ticks: numbers to write below it.
        is_gap: whether it counts from the number of reference, which then stands at 0.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    is_gap: bool = False

    def place(self, value: float) -> float:
        """Give where a value stands, from the left, cut to the scale."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(INSET + share * (WIDTH - 2 * INSET), 1)


@dataclass(frozen=True)
class Forest:
    """One line of a forest plot: a number, its interval, and what it is held against; None is not drawn."""

    value: float | None
    low: float | None
    high: float | None
    reference: float | None
    is_cut_low: bool
    is_cut_high: bool


SHARES: Final = Axis(0.0, 100.0, (0.0, 25.0, 50.0, 75.0, 100.0))


def make_axis(values: Iterable[float], *, is_gap: bool = False) -> Axis:
    """Make a scale that holds some values, with round ends; of gaps it is even around 0, and at most 10 wide."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    if is_gap:
        step = _round_up(max(LEAST_GAP, *(abs(value) for value in finite if abs(value) <= MAX_GAP), 0.0) / 2)
        return Axis(-2 * step, 2 * step, (-2 * step, -step, 0.0, step, 2 * step), is_gap=True)
    low, high = min(finite), max(finite)
    least = LEAST_SPAN * (abs(high) or 1.0)
    if high - low <= least:
        low, high = low - least, high + least
    step = _round_up((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = last if last > first else first + 1
    return Axis(first * step, last * step, tuple(round(step * i, 10) for i in range(first, last + 1)))


def lay_out(axis: Axis, value: float, *, low: float | None, high: float | None, reference: float | None) -> Forest:
    """Place a number, its interval and its reference on a scale; what is not finite is not drawn.

    A number off the scale is not drawn either: an arrow at the edge says that it lies beyond.
    """
    origin = reference or 0.0 if axis.is_gap else 0.0
    own, first, last = (
        None if each is None or not math.isfinite(each) else each - origin for each in (value, low, high)
    )
    ends = [each for each in (own, first, last) if each is not None]
    return Forest(
        value=axis.place(own) if own is not None and axis.low <= own <= axis.high else None,
        low=None if first is None else axis.place(first),
        high=None if last is None else axis.place(last),
        reference=None if reference is None else axis.place(reference - origin),
        is_cut_low=any(each < axis.low for each in ends),
        is_cut_high=any(each > axis.high for each in ends),
    )


def trace_line(steps: Sequence[float], values: Sequence[float]) -> str:
    """Give a curve's points as SVG takes them, from the lowest value at the bottom to the highest at the top."""
    first, last, low, high = steps[0], steps[-1], min(values), max(values)
    across, up = (last - first) or 1, (high - low) or 1
    return " ".join(
        f"{(step - first) / across * CURVE_WIDTH:.1f},{(1 - (value - low) / up) * CURVE_HEIGHT:.1f}"
        for step, value in zip(steps, values, strict=True)
    )


def _round_up(step: float) -> float:
    """Give the next round number: 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(round(power * each, 12) for each in STEPS if power * each >= step * (1 - 1e-9))
