"""Our vision branch as an MMSegmentation backbone, and the whole segmentor around it."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from downstream.engines.openmmlab.imports import prepare
from downstream.engines.settings import NORM_GROUPS, AdapterSettings, HeadSettings, SegmentationProfile
from downstream.engines.vit_adapter import MODALITY, ViTAdapter
from models.config import ModelConfig, load_config
from models.modalities.image import PATCH_SIZE_PX
from models.onepeace import OnePeace, initialise

prepare()

from mmengine.config import ConfigDict  # noqa: E402
from mmseg.models import Mask2FormerHead  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402

Segmentor = Any  # mmseg.models.EncoderDecoder; the stack has no types

NUM_LEVELS = 4
LEVEL_STRIDES = (4, 8, 16, 32)


def branch_config(profile: SegmentationProfile) -> ModelConfig:
    """Narrow a size to its vision branch at the profile's resolution, as the released backbone is built."""
    grid = profile.geometry.crop_px // PATCH_SIZE_PX
    branch = load_config(profile.size).branch(
        MODALITY,
        has_per_layer_bias=True,
        has_final_norm=False,
        has_projection=False,
        drop_path_rate=profile.training.drop_path_rate,
    )
    options = {**branch.modalities[MODALITY], "grid_size": grid, "bias_grid_size": grid}
    return branch.model_copy(update={"modalities": {MODALITY: options}})


@MODELS.register_module(name="OnePeaceViTAdapter")
class OnePeaceViTAdapter(ViTAdapter):
    """The backbone under the name that MMSegmentation configs use.

    Args:
        branch: `ModelConfig` of the vision branch, as plain values.
        adapter: `AdapterSettings`, as plain values.
        drop_activations: recompute activations in the backward pass.
    """

    def __init__(self, branch: dict[str, Any], adapter: dict[str, Any], *, drop_activations: bool) -> None:
        model = OnePeace(ModelConfig.parse(branch, where="backbone"))
        super().__init__(model, AdapterSettings.parse(adapter, where="backbone"), drop_activations=drop_activations)

    def init_weights(self) -> None:
        """Start the encoder as the published code does; the adapter's parts start as they are built."""
        self.model.apply(initialise)


def score_pixels(classes: Tensor, masks: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Score every class at every pixel: masks are weighed by their classes as small as they are, then enlarged.

    Args:
        classes: (batch, queries, classes + 1), logits; the last one is "no object".
        masks: (batch, queries, height / 4, width / 4), logits.
        size: height and width of the picture.

    Returns:
        (batch, classes, height, width).

    Source: reference one_peace_vision/seg, mmseg_custom/models: mask2former_head.py, then
        encoder_decoder_mask2former.py.
    """
    shares = classes.softmax(-1)[..., :-1]
    scores = torch.einsum("bqc,bqhw->bchw", shares, masks.sigmoid())
    return functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)


@MODELS.register_module()
class ReleasedMask2FormerHead(Mask2FormerHead):  # type: ignore[misc]  # the stack has no types
    """Mask2Former that predicts as the published numbers were made.

    Differs from the installed head, which enlarges the logits of the masks first: at their edges the scores, and where
    two classes come close the class, are others.
    """

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict[str, Any]], test_cfg: Any) -> Tensor:  # noqa: ARG002, the head's signature
        """Score the pixels of windows by the last layer: (batch, classes, height, width)."""
        classes, masks = self(x, batch_img_metas)  # of every layer; the samples' facts are not looked at
        height, width = batch_img_metas[0]["img_shape"]  # the sliding window's
        return score_pixels(classes[-1], masks[-1], size=(height, width))


def build_segmentor(profile: SegmentationProfile, *, num_classes: int, seed: int) -> Segmentor:
    """Build backbone, adapter and head with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        segmentor = MODELS.build(segmentor_config(profile, num_classes=num_classes))
        segmentor.init_weights()
    return segmentor


def segmentor_config(profile: SegmentationProfile, *, num_classes: int) -> ConfigDict:
    """Say the profile in MMSegmentation's words."""
    geometry = profile.geometry
    crop = (geometry.crop_px, geometry.crop_px)
    branch = branch_config(profile)
    return ConfigDict(
        type="EncoderDecoder",
        data_preprocessor={
            "type": "SegDataPreProcessor",
            "mean": list(profile.mean),
            "std": list(profile.std),
            "bgr_to_rgb": True,
            "pad_val": 0,
            "seg_pad_val": 255,
            "size": crop,  # of training pictures; test pictures keep their own
        },
        backbone={
            "type": "OnePeaceViTAdapter",
            "branch": branch.model_dump(),
            "adapter": profile.adapter.model_dump(),
            "drop_activations": profile.training.drop_activations,
        },
        decode_head=_head_config(profile.head, embed_dim=branch.embed_dim, num_classes=num_classes),
        train_cfg={},
        test_cfg={"mode": "slide", "crop_size": crop, "stride": (geometry.stride_px, geometry.stride_px)},
    )


def _head_config(head: HeadSettings, *, embed_dim: int, num_classes: int) -> dict[str, Any]:
    """Mask2Former as released: reference one_peace_vision/seg/configs/_base_/models/mask2former_onepeace.py."""
    positions = {"num_feats": head.channels // 2, "normalize": True}
    return {
        "type": "ReleasedMask2FormerHead",
        "in_channels": [embed_dim] * NUM_LEVELS,
        "strides": list(LEVEL_STRIDES),
        "feat_channels": head.channels,
        "out_channels": head.channels,
        "num_classes": num_classes,
        "num_queries": head.num_queries,
        "num_transformer_feat_level": 3,
        "align_corners": False,
        "enforce_decoder_input_project": False,
        "positional_encoding": positions,
        "pixel_decoder": _pixel_decoder_config(head, positions),
        "transformer_decoder": _transformer_decoder_config(head),
        **_loss_config(head, num_classes=num_classes),
    }


def _feed_forward_config(head: HeadSettings) -> dict[str, Any]:
    return {
        "embed_dims": head.channels,
        "feedforward_channels": head.ffn_dim,
        "num_fcs": 2,
        "ffn_drop": 0.0,
        "act_cfg": {"type": "ReLU", "inplace": True},
    }


def _pixel_decoder_config(head: HeadSettings, positions: dict[str, Any]) -> dict[str, Any]:
    attention = {
        "embed_dims": head.channels,
        "num_heads": head.num_heads,
        "num_levels": 3,
        "num_points": 4,
        "dropout": 0.0,
        "batch_first": True,
    }
    return {
        "type": "mmdet.MSDeformAttnPixelDecoder",
        "num_outs": 3,
        "norm_cfg": {"type": "GN", "num_groups": NORM_GROUPS},
        "act_cfg": {"type": "ReLU"},
        "encoder": {
            "num_layers": head.num_encoder_layers,
            "layer_cfg": {"self_attn_cfg": attention, "ffn_cfg": _feed_forward_config(head)},
            "init_cfg": None,
        },
        "positional_encoding": positions,
        "init_cfg": None,
    }


def _transformer_decoder_config(head: HeadSettings) -> dict[str, Any]:
    attention = {
        "embed_dims": head.channels,
        "num_heads": head.num_heads,
        "attn_drop": 0.0,
        "proj_drop": 0.0,
        "batch_first": True,
    }
    layer = {"self_attn_cfg": attention, "cross_attn_cfg": attention, "ffn_cfg": _feed_forward_config(head)}
    return {"return_intermediate": True, "num_layers": head.num_decoder_layers, "layer_cfg": layer, "init_cfg": None}


def _loss_config(head: HeadSettings, *, num_classes: int) -> dict[str, Any]:
    costs = [
        {"type": "mmdet.ClassificationCost", "weight": 2.0},
        {"type": "mmdet.CrossEntropyLossCost", "weight": 5.0, "use_sigmoid": True},
        {"type": "mmdet.DiceCost", "weight": 5.0, "pred_act": True, "eps": 1.0},
    ]
    return {
        "loss_cls": {
            "type": "mmdet.CrossEntropyLoss",
            "use_sigmoid": False,
            "loss_weight": 2.0,
            "reduction": "mean",
            "class_weight": [1.0] * num_classes + [head.no_object_weight],
        },
        "loss_mask": {"type": "mmdet.CrossEntropyLoss", "use_sigmoid": True, "reduction": "mean", "loss_weight": 5.0},
        "loss_dice": {
            "type": "mmdet.DiceLoss",
            "use_sigmoid": True,
            "activate": True,
            "reduction": "mean",
            "naive_dice": True,
            "eps": 1.0,
            "loss_weight": 5.0,
        },
        "train_cfg": {
            "num_points": head.num_points,
            "oversample_ratio": 3.0,
            "importance_sample_ratio": 0.75,
            "assigner": {"type": "mmdet.HungarianAssigner", "match_costs": costs},
            "sampler": {"type": "mmdet.MaskPseudoSampler"},
        },
    }
