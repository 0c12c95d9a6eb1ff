"""The cascade averages probabilities, has one mask head, and ranks masks by how certain they are of themselves."""

from typing import Any

import pytest
import torch

from downstream.config import load_task_config
from downstream.engines.openmmlab.detection_settings import DetectionProfile
from models.config import override


@pytest.fixture(scope="module")
def detector() -> Any:
    from downstream.engines.openmmlab.detection_model import build_detector

    values = override(load_task_config("coco_det").profiles["mini"], ["size=tiny", "cascade.channels=8"])
    return build_detector(DetectionProfile.parse(values, where="test"), num_classes=5, seed=0).eval()


@pytest.fixture(scope="module")
def maps(detector: Any) -> Any:
    with torch.no_grad():
        return detector.neck(detector.backbone(torch.randn(2, 3, 128, 128)))


ROIS = torch.tensor([[0, 4.0, 4, 60, 60], [0, 30, 20, 90, 120], [1, 0, 0, 128, 96]])
METAS = [{"img_shape": (96, 128), "ori_shape": (48, 64), "scale_factor": (2.0, 2.0)}] * 2


def test_maskness_is_the_mean_of_what_is_above_the_threshold() -> None:
    from downstream.engines.openmmlab.detection_heads import maskness

    masks = torch.tensor([[[0.9, 0.7], [0.5, 0.1]], [[0.2, 0.3], [0.5, 0.1]]])
    assert maskness(masks, 0.5).tolist() == pytest.approx([0.8, 0.0])
    assert maskness(masks, None).tolist() == [1, 1]


def test_stages_are_averaged_as_probabilities_and_boxes_move_on(detector: Any, maps: Any) -> None:
    heads = detector.roi_head
    with torch.no_grad():
        for stage, head in enumerate(heads.bbox_head):
            head.fc_cls.bias.copy_(torch.arange(6) * (stage - 1.0))
            head.fc_reg.bias.copy_(torch.tensor([3.0, -2.0, 1.0, 0.5]))
        rois, probabilities, steps = heads._refine_roi(maps, ROIS, METAS, (2, 1))
        total, moved = torch.zeros(3, 6), ROIS
        for head in heads.bbox_head:
            features = heads.bbox_roi_extractor[0](maps[:4], moved)
            scores, delta = head(features)
            total += scores.softmax(-1)
            before = moved
            moved = torch.cat([moved[:, :1], head.bbox_coder.decode(moved[:, 1:], delta, max_shape=(96, 128))], dim=1)
    assert (
        [len(part) for part in probabilities] == [len(part) for part in rois] == [len(part) for part in steps] == [2, 1]
    )
    torch.testing.assert_close(torch.cat(probabilities), total / 3)
    torch.testing.assert_close(torch.cat(rois), before)
    assert not torch.equal(before, ROIS)


def test_the_pyramid_gets_a_third_of_the_gradient_and_the_head_all_of_it(detector: Any) -> None:
    heads = detector.roi_head
    inputs = [torch.randn(2, 8, side, side, requires_grad=True) for side in (32, 16, 8, 4)]
    scores = heads._bbox_forward(0, tuple(inputs), ROIS)["cls_score"]
    own = heads.bbox_head[0].fc_cls.weight
    through_cascade = torch.autograd.grad(scores.square().sum(), [inputs[0], inputs[1], own], allow_unused=True)
    plain, _ = heads.bbox_head[0](heads.bbox_roi_extractor[0](inputs, ROIS))
    directly = torch.autograd.grad(plain.square().sum(), [inputs[0], inputs[1], own], allow_unused=True)
    torch.testing.assert_close(scores, plain)
    for got, whole in zip(through_cascade[:2], directly[:2], strict=True):
        if whole is not None:
            torch.testing.assert_close(got, whole / 3)
    torch.testing.assert_close(through_cascade[2], directly[2])


def test_one_mask_head_learns_from_the_first_stage_alone(detector: Any) -> None:
    assert len(detector.roi_head.mask_head) == 1
    assert detector.roi_head.mask_loss(1, None, None, None) == {"loss_mask": {}}


def test_masks_come_in_the_pictures_own_pixels_with_scores_of_their_own(detector: Any, maps: Any) -> None:
    from mmengine.structures import InstanceData

    def found() -> list[Any]:
        boxes = [ROIS[:2, 1:].clone(), torch.zeros(0, 4)]
        return [
            InstanceData(bboxes=box, scores=torch.full((len(box),), 0.5), labels=torch.arange(len(box)))
            for box in boxes
        ]

    with torch.no_grad():
        detector.roi_head.mask_head[0].conv_logits.bias.copy_(torch.tensor([4.0, -9.0, 0, 0, 0]))
        some, none = detector.roi_head.predict_mask(maps, METAS, found(), rescale=True)
    assert (tuple(some.masks.shape), len(none.masks), len(none.mask_scores)) == ((2, 48, 64), 0, 0)
    assert 0.4 < some.mask_scores[0] < 0.5
    assert some.mask_scores[1] == 0
    assert some.masks[0].sum() > some.masks[1].sum() == 0
    assert torch.equal(some.bboxes, ROIS[:2, 1:] / 2)
