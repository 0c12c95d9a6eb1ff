"""The operators that a cascade needs: soft suppression in torch, and torchvision in the place of mmcv's compiled ones.

No compiler is needed: hard suppression and region alignment come out of torchvision's wheel, on a CPU and on a GPU.
"""

import sys
from typing import Any

import torch
import torchvision.ops
from torch import Tensor

from downstream.engines.openmmlab.detection_settings import TestSettings
from downstream.engines.openmmlab.operators import MODULE, has_compiled_operators


def install_torchvision_operators() -> None:
    """Give the stand-in for mmcv's operators those that torchvision has; real ones are left where they are.

    To be called after `imports.prepare`.
    """
    if not has_compiled_operators():
        module = sys.modules[MODULE]
        module.nms = hard_nms  # type: ignore[attr-defined]
        module.roi_align_forward = align_regions  # type: ignore[attr-defined]


def hard_nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    """Number the boxes that are kept, best first, as mmcv's operator does; `offset` has to be 0."""
    if offset:
        raise ValueError(f"offset is {offset}, expected 0: torchvision counts no pixel twice")
    kept: Tensor = torchvision.ops.nms(boxes, scores, iou_threshold)
    return kept


def align_regions(images: Tensor, regions: Tensor, output: Tensor, *_: Tensor, **options: Any) -> None:
    """Write the averages of regions, (number, left, top, right, bottom), into `output`, as mmcv's operator does.

    Without a gradient: the cascade trains through torchvision's own.
    """
    if options["pool_mode"] != 1:
        raise ValueError("maxima of regions are asked for, expected averages: torchvision has no others")
    size = (options["aligned_height"], options["aligned_width"])
    scale, samples = options["spatial_scale"], options["sampling_ratio"]
    output.copy_(torchvision.ops.roi_align(images, regions, size, scale, samples, options["aligned"]))


def soft_nms(boxes: Tensor, scores: Tensor, classes: Tensor, *, settings: TestSettings) -> tuple[Tensor, Tensor]:
    """Pick the best box, lower the scores of those of its class that it overlaps, and again.

    What is picked comes out in descending order of its score, so the search ends with the last one that is wanted.

    Args:
        boxes: (boxes, 4) left, top, right, bottom.
        scores: (boxes,)
        classes: (boxes,); boxes of two classes leave each other alone.
        settings: how much is lowered, and when a box is forgotten.

    Returns:
        Numbers of the boxes that were picked, and their lowered scores; at most `settings.max_detections`.

    Source: Bodla et al. 2017, Soft-NMS; reference one_peace_vision/det/layers/soft_nms.py.
    Differs: classes are compared; the reference moves them apart in float32, which rounds their overlaps.
    """
    left = torch.arange(len(scores), device=scores.device)
    scores = scores.clone()
    picked: list[Tensor] = []
    lowered: list[Tensor] = []
    while len(left) and len(picked) < settings.max_detections:
        best = int(scores.argmax())
        picked.append(left[best])
        lowered.append(scores[best].clone())
        overlaps = torchvision.ops.box_iou(boxes[left[best]][None], boxes[left])[0]
        overlaps = torch.where(classes[left] == classes[left[best]], overlaps, 0.0)
        scores = scores * _decay(overlaps, settings)
        is_kept = scores > settings.prune_threshold
        is_kept[best] = False
        left, scores = left[is_kept], scores[is_kept]
    if not picked:
        return left, scores
    return torch.stack(picked), torch.stack(lowered)


def _decay(overlaps: Tensor, settings: TestSettings) -> Tensor:
    """Say by how much each score is multiplied."""
    if settings.soft_nms == "gaussian":
        return torch.exp(-(overlaps**2) / settings.sigma)
    is_over = overlaps > settings.iou_threshold
    return torch.where(is_over, 1 - overlaps if settings.soft_nms == "linear" else 0.0, 1.0)
