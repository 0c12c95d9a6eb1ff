"""Soft suppression does what its paper spells out, and torchvision stands in for mmcv's compiled operators."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torchvision.ops
from torch import Tensor

from downstream.engines.openmmlab.detection_operators import (
    align_regions,
    hard_nms,
    install_torchvision_operators,
    soft_nms,
)
from downstream.engines.openmmlab.detection_settings import TestSettings
from downstream.engines.openmmlab.operators import MODULE, _MissingOperators


def draw_boxes(seed: int, count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = 60 * torch.rand(count, 2, generator=generator)
    sizes = 5 + 40 * torch.rand(count, 2, generator=generator)
    classes = torch.randint(0, 3, (count,), generator=generator)
    return torch.cat([corners, corners + sizes], dim=1), torch.rand(count, generator=generator), classes


def overlap(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def spell_out(boxes: Tensor, scores: Tensor, classes: Tensor, settings: TestSettings) -> list[tuple[int, float]]:
    """Go by the definition, one box and one class at a time."""
    left = {number: float(score) for number, score in enumerate(scores)}
    kept: list[tuple[int, float]] = []
    while left:
        best = max(left, key=lambda number: left[number])
        kept.append((best, left.pop(best)))
        for number in list(left):
            iou = overlap(boxes[best].tolist(), boxes[number].tolist()) if classes[number] == classes[best] else 0.0
            if settings.soft_nms == "gaussian":
                left[number] *= float(torch.exp(torch.tensor(-(iou**2) / settings.sigma)))
            elif iou > settings.iou_threshold:
                left[number] *= 1 - iou if settings.soft_nms == "linear" else 0.0
            if left[number] <= settings.prune_threshold:
                del left[number]
    return kept


@pytest.mark.parametrize("method", ["linear", "gaussian", "hard"])
@pytest.mark.parametrize("seed", range(4))
def test_soft_suppression_is_its_definition(method: str, seed: int) -> None:
    settings = TestSettings.parse({"soft_nms": method, "iou_threshold": 0.3, "max_detections": 1000}, where="test")
    boxes, scores, classes = draw_boxes(seed)
    kept, lowered = soft_nms(boxes, scores, classes, settings=settings)
    expected = spell_out(boxes, scores, classes, settings)
    assert kept.tolist() == [number for number, _ in expected]
    assert lowered.tolist() == pytest.approx([score for _, score in expected], abs=1e-6)
    assert (lowered.diff() <= 0).all()


def test_the_hard_kind_is_what_everybody_calls_suppression() -> None:
    settings = TestSettings.parse({"soft_nms": "hard", "iou_threshold": 0.4, "max_detections": 1000}, where="test")
    boxes, scores, classes = draw_boxes(9)
    kept, lowered = soft_nms(boxes, scores, classes, settings=settings)
    assert kept.tolist() == torchvision.ops.batched_nms(boxes, scores, classes, 0.4).tolist()
    assert torch.equal(lowered, scores[kept])


def test_stopping_early_leaves_the_first_ones_as_they_are() -> None:
    boxes, scores, classes = draw_boxes(1)
    whole = soft_nms(boxes, scores, classes, settings=TestSettings(max_detections=1000))
    first = soft_nms(boxes, scores, classes, settings=TestSettings(max_detections=7))
    assert all(torch.equal(part, all_of_it[:7]) for part, all_of_it in zip(first, whole, strict=True))


def test_none_in_none_out_and_nothing_given_is_changed() -> None:
    kept, lowered = soft_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), settings=TestSettings())
    assert (len(kept), len(lowered)) == (0, 0)
    boxes, scores, classes = draw_boxes(2)
    before = scores.clone()
    soft_nms(boxes, scores, classes, settings=TestSettings())
    assert torch.equal(scores, before)


def test_averages_of_regions_are_torchvisions() -> None:
    images = torch.rand(2, 3, 12, 16)
    regions = torch.tensor([[0, 1.0, 2.0, 9.0, 11.0], [1, 0.0, 0.0, 16.0, 12.0]])
    output = torch.zeros(2, 3, 4, 5)
    options = {"aligned_height": 4, "aligned_width": 5, "spatial_scale": 1.0, "sampling_ratio": 0, "aligned": True}
    align_regions(images, regions, output, torch.zeros(0), torch.zeros(0), pool_mode=1, **options)
    assert torch.equal(output, torchvision.ops.roi_align(images, regions, (4, 5), 1.0, 0, True))
    with pytest.raises(ValueError, match="expected averages"):
        align_regions(images, regions, output, pool_mode=0, **options)
    with pytest.raises(ValueError, match="offset is 1"):
        hard_nms(images[0, 0], images[0, 0, 0], iou_threshold=0.5, offset=1)


def test_they_take_the_place_of_the_missing_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = _MissingOperators()
    monkeypatch.setitem(sys.modules, MODULE, stand_in)
    install_torchvision_operators()
    boxes, scores, _ = draw_boxes(3)
    nms: Any = stand_in.nms
    assert torch.equal(nms(boxes, scores, iou_threshold=0.5, offset=0), torchvision.ops.nms(boxes, scores, 0.5))
    with pytest.raises(NotImplementedError, match="'softnms'"):
        stand_in.softnms()
    real = ModuleType(MODULE)
    real.__spec__ = stand_in.__spec__
    monkeypatch.setitem(sys.modules, MODULE, real)
    install_torchvision_operators()
    assert not hasattr(real, "nms")
