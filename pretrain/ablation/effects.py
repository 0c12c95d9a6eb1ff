"""What may be said of a few trainings of each variant: means, paired differences, and a word that claims no more."""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import stats

from models.config import Settings

CONFIDENCE = 0.95


class Word(StrEnum):
    """How an effect stands beside the paper's."""

    AS_IN_PAPER = "effect as in the paper"
    NONE_SEEN = "no effect seen"
    OPPOSITE = "opposite"
    ONE_SEED = "one seed: no statement"
    NO_SPREAD = "no spread between seeds: no statement"


class Interval(Settings):
    """A mean over seeds with its 95 % interval; without one where there is a single seed."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """Seeds."""
    method: str


def mean_interval(values: Sequence[float], *, bounds: tuple[float, float] | None = None) -> Interval:
    """Average over seeds.

    Args:
        values: one a seed.
        bounds: what the quantity cannot leave, such as 0 and 100 per cent; the interval is cut to it.

    Raises:
        ValueError: no value, or one that is not finite.

    Source: Student 1908, The probable error of a mean.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError(f"values {list(values)}, expected one finite number a seed; look at the trainings' logs")
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Interval(mean=mean, low=None, high=None, n=1, method="one seed")
    error: Any = np.std(values, ddof=1) / math.sqrt(n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error)
    lowest, highest = bounds or (-math.inf, math.inf)
    low, high = max(lowest, mean - half), min(highest, mean + half)
    return Interval(mean=mean, low=low, high=high, n=n, method="Student's t over seeds, 95 %")


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Interval:
    """Average the differences to the reference, seed by seed.

    Raises:
        ValueError: another number of seeds than the reference has.
    """
    if len(values) != len(reference):
        raise ValueError(f"{len(values)} seeds against {len(reference)}, expected the same ones; finish all runs")
    return mean_interval([one - other for one, other in zip(values, reference, strict=True)])


def judge(difference: Interval, published: float) -> Word:
    """Find the strongest word that the interval of a difference allows.

    Args:
        difference: to the reference; its sign is what is judged.
        published: the paper's own difference, or the sign of its claim; not 0.

    Raises:
        ValueError: the paper sees no difference either way.
    """
    if published == 0:
        raise ValueError("a published difference of 0, expected one with a sign; leave the word out")
    if difference.low is None or difference.high is None:
        return Word.ONE_SEED
    if difference.low <= 0 <= difference.high:
        return Word.NONE_SEEN
    # Equal differences in all seeds leave nothing to tell an effect from rounding by.
    if difference.high - difference.low <= 1e-9 * abs(difference.mean):
        return Word.NO_SPREAD
    return Word.AS_IN_PAPER if (difference.mean > 0) == (published > 0) else Word.OPPOSITE
