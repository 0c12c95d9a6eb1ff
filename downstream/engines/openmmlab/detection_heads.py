"""The cascade's heads as detectron2 runs them: averaged probabilities, one mask head, masks ranked by certainty."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from downstream.engines.openmmlab.detection_operators import install_torchvision_operators, soft_nms
from downstream.engines.openmmlab.detection_settings import TestSettings
from downstream.engines.openmmlab.imports import prepare

prepare()
install_torchvision_operators()

from mmdet.models.roi_heads import CascadeRoIHead  # noqa: E402
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures.bbox import bbox2roi, scale_boxes  # noqa: E402
from mmengine.model import ModuleList  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402


@MODELS.register_module(name="OnePeaceBoxHead")
class BoxHead(ConvFCBBoxHead):  # type: ignore[misc]  # the stack has no types
    """A box head whose boxes are thinned out by soft suppression; its class scores come in as probabilities."""

    def _predict_by_feat_single(
        self,
        roi: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        img_meta: dict[str, Any],
        rescale: bool = False,
        rcnn_test_cfg: Any = None,
    ) -> InstanceData:
        boxes = self.bbox_coder.decode(roi[:, 1:], bbox_pred, max_shape=img_meta["img_shape"])
        if rescale:
            boxes = scale_boxes(boxes, [1 / factor for factor in img_meta["scale_factor"]])
        settings = TestSettings(**rcnn_test_cfg.settings)
        probabilities = cls_score[:, :-1].float()  # background comes last
        is_scored = probabilities > settings.score_threshold
        rows, classes = is_scored.nonzero(as_tuple=True)
        kept, scores = soft_nms(boxes[rows].float(), probabilities[is_scored], classes, settings=settings)
        return InstanceData(bboxes=boxes[rows[kept]], scores=scores, labels=classes[kept])


@MODELS.register_module(name="OnePeaceCascade")
class CascadeHeads(CascadeRoIHead):  # type: ignore[misc]
    """Three box heads, each on the boxes of the one before it, and one mask head.

    Source: detectron2 CascadeROIHeads; reference one_peace_vision/det/models/cascade_rcnn.py.
    Differs: in training, boxes that a stage made out of true ones do not go on to the next stage.
    """

    def init_mask_head(self, mask_roi_extractor: Any, mask_head: Any) -> None:
        """Build one mask head for all stages."""
        self.mask_head = ModuleList([MODELS.build(mask_head)])
        self.mask_roi_extractor = ModuleList([MODELS.build(mask_roi_extractor)])
        self.share_roi_extractor = False

    def mask_loss(self, stage: int, *args: Any) -> dict[str, Any]:
        """Train masks on the first stage's boxes alone."""
        loss: dict[str, Any] = {"loss_mask": {}} if stage else super().mask_loss(stage, *args)
        return loss

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        """Run one box head; the pyramid gets its share of the gradient, the head all of it."""
        extract = self.bbox_roi_extractor[stage]
        features = extract(x[: extract.num_inputs], rois)
        share = 1 / self.num_stages
        features = features * share + features.detach() * (1 - share)
        cls_score, bbox_pred = self.bbox_head[stage](features)
        return {"cls_score": cls_score, "bbox_pred": bbox_pred, "bbox_feats": features}

    def _refine_roi(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        batch_img_metas: Sequence[dict[str, Any]],
        num_proposals_per_img: Sequence[int],
    ) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """Give regions, mean probabilities over the stages and the last stage's steps, by picture."""
        counts = list(num_proposals_per_img)
        total: Tensor | float = 0.0
        for stage in range(self.num_stages):
            results = self._bbox_forward(stage, x, rois)
            total = total + results["cls_score"].float().softmax(dim=-1)
            if stage < self.num_stages - 1:
                parts = zip(rois.split(counts), results["bbox_pred"].split(counts), batch_img_metas, strict=True)
                moved = [self.bbox_head[stage].regress_by_class(part[:, 1:], None, *rest) for part, *rest in parts]
                rois = torch.cat([rois[:, :1], torch.cat(moved)], dim=1)
        assert isinstance(total, Tensor)
        return rois.split(counts), (total / self.num_stages).split(counts), results["bbox_pred"].split(counts)

    def predict_mask(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: Sequence[dict[str, Any]],
        results_list: list[InstanceData],
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Give every box its mask, and the score that its mask is ranked by as `mask_scores`."""
        settings = TestSettings(**self.test_cfg.settings)
        rois = bbox2roi([each.bboxes for each in results_list])
        logits = self._mask_forward(0, x, rois)["mask_preds"] if len(rois) else rois.new_zeros(0, 1, 1, 1)
        parts = logits.split([len(each) for each in results_list])
        for each, part in zip(results_list, parts, strict=True):
            own = part[torch.arange(len(each)), each.labels] if len(each) else part[:, 0]
            each.mask_scores = each.scores * maskness(own.float().sigmoid(), settings.maskness_threshold)
        masked: list[InstanceData] = self.mask_head[0].predict_by_feat(
            mask_preds=parts,
            results_list=results_list,
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=self.test_cfg,
            rescale=rescale,
        )
        return masked


def maskness(probabilities: Tensor, threshold: float | None) -> Tensor:
    """Measure how certain masks are of themselves.

    Args:
        probabilities: (masks, height, width)
        threshold: pixels above it count.

    Returns:
        (masks,) mean probability of the pixels that count, 0 where none does; 1 without a threshold.

    Source: reference one_peace_vision/det/models/cascade_rcnn.py.
    """
    if threshold is None:
        return probabilities.new_ones(len(probabilities))
    is_counted = (probabilities > threshold).float()
    count = is_counted.sum(dim=(1, 2))
    return (probabilities * is_counted).sum(dim=(1, 2)) / count.clamp(min=1)
