"""mIoU, aAcc and mAcc from pixel counts, with intervals over pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.interval import bootstrap_ratio_of_sums
from reports.record import MetricValue

Counts = NDArray[np.int64]

NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Areas:
    """Pixel counts of one picture, each (classes,)."""

    intersect: Counts
    """Predicted and labelled as the class."""
    predicted: Counts
    labelled: Counts

    def to_sparse(self) -> dict[str, Any]:
        """Give the counts as JSON values, classes that do not occur left out."""
        sparse = {
            name: {str(index): int(counts[index]) for index in np.flatnonzero(counts)}
            for name, counts in vars(self).items()
        }
        return {"num_classes": len(self.intersect), **sparse}

    @classmethod
    def from_sparse(cls, row: Mapping[str, Any]) -> "Areas":
        """Undo `to_sparse`."""
        return cls(*(_dense(row[name], row["num_classes"]) for name in ("intersect", "predicted", "labelled")))


def _dense(counts: Mapping[str, int], num_classes: int) -> Counts:
    dense = np.zeros(num_classes, dtype=np.int64)
    for index, count in counts.items():
        dense[int(index)] = count
    return dense


def score(areas: Sequence[Areas], *, seed: int) -> tuple[MetricValue, ...]:
    """Score pictures as MMSegmentation's IoUMetric does, unrounded, with 95 % intervals.

    Args:
        areas: one entry a picture.
        seed: of the bootstrap over pictures.

    Returns:
        `miou` and `macc` over the classes that occur, `aacc` over all pixels.
    """
    intersect, predicted, labelled = _stack(areas)
    union = predicted + labelled - intersect
    return (
        _metric("miou", intersect, union, seed=seed),
        _metric("aacc", intersect.sum(1, keepdims=True), labelled.sum(1, keepdims=True), seed=seed),
        _metric("macc", intersect, labelled, seed=seed),
    )


def class_ious(areas: Sequence[Areas], names: Sequence[str]) -> dict[str, float | None]:
    """Give each class its IoU in per cent; None where it is neither predicted nor labelled."""
    intersect, predicted, labelled = (counts.sum(0) for counts in _stack(areas))
    union = predicted + labelled - intersect
    return {
        name: float(100 * hit / whole) if whole else None
        for name, hit, whole in zip(names, intersect, union, strict=True)
    }


def picture_ious(areas: Areas) -> float:
    """Score one picture: the mean IoU of its classes, in per cent; to tell good pictures from bad ones."""
    union = areas.predicted + areas.labelled - areas.intersect
    present = union > 0
    return float(100 * np.mean(areas.intersect[present] / union[present])) if present.any() else float("nan")


def _stack(areas: Sequence[Areas]) -> tuple[Counts, Counts, Counts]:
    """Stack pictures to (pictures, classes)."""
    return (
        np.stack([area.intersect for area in areas]),
        np.stack([area.predicted for area in areas]),
        np.stack([area.labelled for area in areas]),
    )


def _metric(name: str, numerators: Counts, denominators: Counts, *, seed: int) -> MetricValue:
    """Divide the sums over pictures class by class, and average over classes that occur."""
    hits, wholes = numerators.sum(0), denominators.sum(0)
    present = wholes > 0
    value = float(100 * np.mean(hits[present] / wholes[present])) if present.any() else float("nan")
    low, high = bootstrap_ratio_of_sums(numerators, denominators, num_resamples=NUM_RESAMPLES, seed=seed)
    method = f"bootstrap over pictures, {NUM_RESAMPLES} resamples, seed {seed}"
    return MetricValue(name=name, value=value, n=len(numerators), ci_low=low, ci_high=high, ci_method=method)
