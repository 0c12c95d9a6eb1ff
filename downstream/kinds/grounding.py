"""Grounding: a sentence about a picture is answered by a box."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from downstream.boxes import Located, draw_sheet, pick_extremes
from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Referred
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, number_clusters
from downstream.losses import Loss, box_loss
from downstream.metrics.grounding import overlaps, score_boxes

NUM_CORNERS = 4
SHEET_FILE = "boxes.png"
NUM_SHOWN = 6  # pictures of the best and of the worst boxes
Floats = NDArray[np.float64]


class Grounding:
    """The kind."""

    def count_outputs(self, facts: Facts) -> int:  # noqa: ARG002
        """Four: the box's left, top, right and bottom."""
        return NUM_CORNERS

    def list_units(self, samples: Sequence[Referred], facts: Facts) -> tuple[Unit, ...]:
        """List every sentence with its picture."""
        return tuple(Unit.of(text=sample.text, **{facts.media: sample.media}) for sample in samples)

    def judge(self, samples: Sequence[Referred], outputs: Outputs, facts: Facts) -> Judged:
        """Count boxes that overlap the true one by half; sentences about one picture are one cluster."""
        predicted = to_pixels(outputs(self.list_units(samples, facts)), samples, facts)
        truth = np.array([sample.box for sample in samples], dtype=np.float64)
        clusters = number_clusters(sample.media for sample in samples)
        metric = score_boxes(predicted, truth, clusters=clusters, seed=facts.seed)
        ious = overlaps(predicted, truth)
        located = [
            Located(sample.media, sample.text, sample.box, tuple(box), iou)
            for sample, box, iou in zip(samples, predicted.tolist(), ious.tolist(), strict=True)
        ]
        return Judged((metric,), _rows(samples, predicted, ious), files={SHEET_FILE: partial(_draw_extremes, located)})

    def list_examples(self, samples: Sequence[Referred], facts: Facts) -> tuple[Example, ...]:
        """Take each sentence once; the target is its box as shares of the picture's sides.

        Source: reference one_peace/data/vl_data/refcoco_dataset.py.
        """
        units = self.list_units(samples, facts)
        boxes = np.array([sample.box for sample in samples], dtype=np.float64).reshape(-1, NUM_CORNERS)
        shares = boxes / _sides(samples, facts)
        return tuple(Example((unit,), tuple(row)) for unit, row in zip(units, shares.tolist(), strict=True))

    def compute_loss(self, batch: Batch) -> Loss:
        """Distance of corners and lack of overlap."""
        (logits,) = batch.outputs
        return box_loss(logits, batch.targets)


def _draw_extremes(located: Sequence[Located], path: Path) -> None:
    """Draw the boxes that overlap best and worst."""
    draw_sheet(pick_extremes(located, NUM_SHOWN)).save(path, format="PNG")


def to_pixels(logits: Tensor, samples: Sequence[Referred], facts: Facts) -> Floats:
    """Turn what the head gives into boxes, (samples, 4) corners in the pixels of each one's own picture.

    Args:
        logits: (samples, 4).
        samples: whose pictures' sizes `facts` knows.
        facts: of the task.
    """
    boxes: Floats = logits.sigmoid().double().numpy() * _sides(samples, facts)
    return boxes


def _sides(samples: Sequence[Referred], facts: Facts) -> Floats:
    """Give the width, height, width and height of each sample's picture, (samples, 4)."""
    sides = [facts.sizes[sample.media] * 2 for sample in samples]
    return np.array(sides, dtype=np.float64).reshape(-1, NUM_CORNERS)


def _rows(samples: Sequence[Referred], predicted: Floats, ious: Floats) -> Iterator[Row]:
    for sample, box, iou in zip(samples, predicted.tolist(), ious.tolist(), strict=True):
        yield {
            "id": sample.id,
            "picture": sample.media.name,
            "text": sample.text,
            "truth": list(sample.box),
            "prediction": [round(corner, 3) for corner in box],
            "iou": round(iou, 6),
        }


KIND: Kind = Grounding()
