"""Accuracy of boxes that were asked for in words: the share that overlaps the true box by half."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.interval import measure_share
from reports.record import MetricValue

Boxes = NDArray[Any]
Floats = NDArray[np.float64]

MIN_IOU = 0.5  # reference one_peace/metrics/iou_acc.py


def overlaps(predicted: Boxes, truth: Boxes) -> Floats:
    """Give each pair of boxes its intersection over union, (boxes,).

    It is 0 where the overlap has no width or no height, as that of crossed corners: two negative sides would pass for
    an area. So areas need no care, and are taken as they come.

    Args:
        predicted: (boxes, 4), corners x0, y0, x1, y1 in pixels of the original picture.
        truth: (boxes, 4), as well.

    Raises:
        ValueError: other shapes, or a corner that is not finite.

    Source: reference one_peace/metrics/iou_acc.py.
    """
    one, other = _check_boxes(predicted, truth)
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    inside = np.where((sides > 0).all(axis=1), sides.prod(axis=1), 0)
    union = _areas(one) + _areas(other) - inside
    shares: Floats = np.divide(inside, union, out=np.zeros_like(union), where=inside > 0)
    return shares


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas


def _check_boxes(predicted: Boxes, truth: Boxes) -> tuple[Floats, Floats]:
    if predicted.shape != truth.shape or predicted.ndim != 2 or predicted.shape[1] != 4:
        raise ValueError(f"predicted {predicted.shape} and true {truth.shape} boxes: expected (boxes, 4) twice")
    for name, boxes in (("predicted", predicted), ("true", truth)):
        if not np.isfinite(boxes).all():
            row = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
            raise ValueError(f"{name} box {row} is {boxes[row].tolist()}, expected finite corners")
    return predicted.astype(np.float64), truth.astype(np.float64)


def score_boxes(predicted: Boxes, truth: Boxes, *, clusters: NDArray[Any] | None = None, seed: int) -> MetricValue:
    """Score boxes by the share whose overlap with the true one reaches half: `accuracy_at_iou_50`.

    Args:
        predicted: (boxes, 4), corners x0, y0, x1, y1 in pixels of the original picture.
        truth: (boxes, 4), as well.
        clusters: (boxes,) what each belongs to, as its picture, where several belong to one; they are then drawn again
            together for the interval.
        seed: of the bootstrap over clusters.

    Raises:
        ValueError: see `overlaps`; no box.
    """
    is_hit = overlaps(predicted, truth) >= MIN_IOU
    return measure_share("accuracy_at_iou_50", is_hit, clusters=clusters, over="clusters", seed=seed)
