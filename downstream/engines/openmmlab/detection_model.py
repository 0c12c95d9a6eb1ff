"""The whole detector around the windowed branch, in MMDetection's words."""

from typing import Any

import torch

from downstream.engines.openmmlab.detection_backbone import MODALITY
from downstream.engines.openmmlab.detection_heads import BoxHead, CascadeHeads
from downstream.engines.openmmlab.detection_settings import STRIDES, CascadeSettings, DetectionProfile
from downstream.engines.openmmlab.imports import prepare
from models.config import ModelConfig, load_config

prepare()

from mmdet.registry import MODELS  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402

Detector = Any  # mmdet.models.CascadeRCNN; the stack has no types

BOX_SIDE, MASK_SIDE = 7, 14  # cells of a region
STAGE_IOUS = (0.5, 0.6, 0.7)
STAGE_STDS = ((1 / 10, 1 / 5), (1 / 20, 1 / 10), (1 / 30, 1 / 15))  # of places and of sides
NORM = {"type": "OnePeaceChannelNorm"}
SMALLEST_MATCH = 0.01  # detectron2 has none, and matches things that no anchor touches with all anchors


def branch_config(profile: DetectionProfile) -> ModelConfig:
    """Narrow a size to its vision branch at the picture's resolution, as the released backbone is built."""
    branch = load_config(profile.size).branch(
        MODALITY,
        has_per_layer_bias=False,
        has_final_norm=False,
        has_projection=False,
        drop_path_rate=profile.training.drop_path_rate,
    )
    grid = profile.picture.grid
    options = {**branch.modalities[MODALITY], "grid_size": grid, "bias_grid_size": grid}
    return branch.model_copy(update={"modalities": {MODALITY: options}})


def build_detector(profile: DetectionProfile, *, num_classes: int, seed: int) -> Detector:
    """Build backbone, pyramid and heads with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = MODELS.build(detector_config(profile, num_classes=num_classes))
        detector.init_weights()
    return detector


def detector_config(profile: DetectionProfile, *, num_classes: int) -> ConfigDict:
    """Say the profile in MMDetection's words."""
    branch, cascade = branch_config(profile), profile.cascade
    return ConfigDict(
        type="CascadeRCNN",
        _scope_="mmdet",
        data_preprocessor={
            "type": "DetDataPreprocessor",
            "mean": list(profile.mean),
            "std": list(profile.std),
            "bgr_to_rgb": True,
            "pad_mask": True,
            "pad_size_divisor": profile.picture.side_px,  # every picture becomes the one square
        },
        backbone={
            "type": "OnePeaceWindowed",
            "branch": branch.model_dump(),
            "table_grid": load_config(profile.size).modalities[MODALITY]["bias_grid_size"],
            "picture": profile.picture.model_dump(),
            "drop_activations": profile.training.drop_activations,
        },
        neck={"type": "OnePeaceSimplePyramid", "dim": branch.embed_dim, "channels": cascade.channels},
        rpn_head=_proposal_config(cascade),
        roi_head=_cascade_config(cascade, num_classes=num_classes),
        train_cfg={
            "rpn": _proposal_training(cascade),
            "rpn_proposal": _proposal_limits(cascade, cascade.num_candidates[0]),
            "rcnn": [_stage_training(cascade, iou, is_first=iou == STAGE_IOUS[0]) for iou in STAGE_IOUS],
        },
        test_cfg={
            "rpn": _proposal_limits(cascade, cascade.num_candidates[1]),
            "rcnn": {"settings": profile.test.model_dump(), "mask_thr_binary": profile.test.mask_threshold},
        },
    )


def _proposal_config(cascade: CascadeSettings) -> dict[str, Any]:
    return {
        "type": "RPNHead",
        "in_channels": cascade.channels,
        "feat_channels": cascade.channels,
        "num_convs": cascade.num_rpn_convs,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "scales": [cascade.anchor_scale],
            "ratios": [0.5, 1.0, 2.0],
            "strides": list(STRIDES),
        },
        "bbox_coder": _coder_config(1.0, 1.0),
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def _coder_config(place: float, side: float) -> dict[str, Any]:
    return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [place, place, side, side]}


def _cascade_config(cascade: CascadeSettings, *, num_classes: int) -> dict[str, Any]:
    return {
        "type": CascadeHeads,
        "num_stages": len(STAGE_IOUS),
        "stage_loss_weights": [1.0] * len(STAGE_IOUS),
        "bbox_roi_extractor": _extractor_config(cascade, BOX_SIDE),
        "bbox_head": [_box_head_config(cascade, stds, num_classes=num_classes) for stds in STAGE_STDS],
        "mask_roi_extractor": _extractor_config(cascade, MASK_SIDE),
        "mask_head": {
            "type": "FCNMaskHead",
            "num_convs": cascade.num_convs,
            "in_channels": cascade.channels,
            "conv_out_channels": cascade.channels,
            "num_classes": num_classes,
            "norm_cfg": NORM,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        },
    }


def _extractor_config(cascade: CascadeSettings, side: int) -> dict[str, Any]:
    align = {"type": "RoIAlign", "output_size": side, "sampling_ratio": cascade.sampling_ratio, "aligned": True}
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {**align, "use_torchvision": True},  # it has a gradient without compiled operators
        "out_channels": cascade.channels,
        "featmap_strides": list(STRIDES[:-1]),
        "finest_scale": cascade.finest_scale_px,
    }


def _box_head_config(cascade: CascadeSettings, stds: tuple[float, float], *, num_classes: int) -> dict[str, Any]:
    return {
        "type": BoxHead,
        "num_shared_convs": cascade.num_convs,
        "num_shared_fcs": 1,
        "in_channels": cascade.channels,
        "conv_out_channels": cascade.channels,
        "fc_out_channels": cascade.fc_dim,
        "roi_feat_size": BOX_SIDE,
        "num_classes": num_classes,
        "reg_class_agnostic": True,
        "norm_cfg": NORM,
        "bbox_coder": _coder_config(*stds),
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
    }


def _assigner_config(low: float, high: float, *, smallest: float, is_generous: bool) -> dict[str, Any]:
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": high,
        "neg_iou_thr": low,
        "min_pos_iou": smallest,
        "match_low_quality": is_generous,
        "ignore_iof_thr": -1,
    }


def _proposal_training(cascade: CascadeSettings) -> dict[str, Any]:
    return {
        "assigner": _assigner_config(0.3, 0.7, smallest=SMALLEST_MATCH, is_generous=True),
        "sampler": {
            "type": "RandomSampler",
            "num": cascade.num_anchor_samples,
            "pos_fraction": 0.5,
            "neg_pos_ub": -1,
            "add_gt_as_proposals": False,
        },
        "allowed_border": -1,
        "pos_weight": -1,
        "debug": False,
    }


def _proposal_limits(cascade: CascadeSettings, num_candidates: int) -> dict[str, Any]:
    return {
        "nms_pre": num_candidates,
        "max_per_img": cascade.num_proposals,
        "nms": {"type": "nms", "iou_threshold": 0.7},
        "min_bbox_size": 0,
    }


def _stage_training(cascade: CascadeSettings, iou: float, *, is_first: bool) -> dict[str, Any]:
    """Sample regions in the first stage; the later ones take all that it passes on."""
    sampler: dict[str, Any] = {
        "type": "RandomSampler",
        "num": cascade.num_region_samples,
        "pos_fraction": 0.25,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": True,
    }
    return {
        "assigner": _assigner_config(iou, iou, smallest=iou, is_generous=False),
        "sampler": sampler if is_first else {"type": "PseudoSampler"},
        "mask_size": 2 * MASK_SIDE,
        "pos_weight": -1,
        "debug": False,
    }
