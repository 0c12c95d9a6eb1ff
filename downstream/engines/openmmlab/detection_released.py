"""The published detection file, which has detectron2's names, into MMDetection's detector."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from downstream.engines.account import count_names
from downstream.engines.openmmlab.detection_model import Detector
from models.checkpoint.describe import describe
from models.checkpoint.inert import printable
from models.checkpoint.load import LeftOut, LoadReport, load_state
from models.checkpoint.names import our_name
from models.checkpoint.reader import Checkpoint
from models.checkpoint.roles import Part

Shape = tuple[int, ...]

NET = "backbone.net."
VARIANT = "detection"
"""What `describe` calls a detector with published names."""

# Buffers that follow from the sizes; which of them a file holds depends on the version of detectron2 that wrote it.
_DERIVED = re.compile(
    r"backbone\.net\.image_adapter\.rp_bucket(_window)?|pixel_(mean|std)"
    r"|proposal_generator\.anchor_generator\.cell_anchors\.\d"
)

_RULES = (
    (r"backbone\.net\.encoder\.layers\.(\d+)\.self_attn\.rel_pos_h", r"backbone.relative.\1.height"),
    (r"backbone\.net\.encoder\.layers\.(\d+)\.self_attn\.rel_pos_w", r"backbone.relative.\1.width"),
    (r"proposal_generator\.rpn_head\.conv\.conv(\d+)\.(\w+)", r"rpn_head.rpn_conv.\1.conv.\2"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn_head.rpn_cls.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn_head.rpn_reg.\1"),
    (r"roi_heads\.box_head\.(\d)\.fc1\.(\w+)", r"roi_head.bbox_head.\1.shared_fcs.0.\2"),
    (r"roi_heads\.box_predictor\.(\d)\.cls_score\.(\w+)", r"roi_head.bbox_head.\1.fc_cls.\2"),
    (r"roi_heads\.box_predictor\.(\d)\.bbox_pred\.(\w+)", r"roi_head.bbox_head.\1.fc_reg.\2"),
    (r"roi_heads\.mask_head\.deconv\.(\w+)", r"roi_head.mask_head.0.upsample.\1"),
    (r"roi_heads\.mask_head\.predictor\.(\w+)", r"roi_head.mask_head.0.conv_logits.\1"),
)

# Counted from another number there: stages of the pyramid by the logarithm of their stride, convolutions from 1.
_COUNTED_RULES = (
    (r"backbone\.simfp_(?P<number>\d)\.(?P<rest>.+)", 2, "neck.stages.{number}.{rest}"),
    (
        r"roi_heads\.box_head\.(?P<stage>\d)\.conv(?P<number>\d+)\.weight",
        1,
        "roi_head.bbox_head.{stage}.shared_convs.{number}.conv.weight",
    ),
    (
        r"roi_heads\.box_head\.(?P<stage>\d)\.conv(?P<number>\d+)\.norm\.(?P<rest>\w+)",
        1,
        "roi_head.bbox_head.{stage}.shared_convs.{number}.ln.{rest}",
    ),
    (r"roi_heads\.mask_head\.mask_fcn(?P<number>\d+)\.weight", 1, "roi_head.mask_head.0.convs.{number}.conv.weight"),
    (
        r"roi_heads\.mask_head\.mask_fcn(?P<number>\d+)\.norm\.(?P<rest>\w+)",
        1,
        "roi_head.mask_head.0.convs.{number}.ln.{rest}",
    ),
)


@dataclass(frozen=True)
class Renamed:
    """Which published name fills each of ours, and what has none."""

    sources: Mapping[str, str]
    """Published names by ours."""
    derived: tuple[str, ...]
    """Buffers that follow from the sizes."""
    unknown: tuple[str, ...]
    """Names without a rule."""


def is_released(checkpoint: Checkpoint) -> bool:
    """Tell whether a file is a detector with published names, from its names and shapes alone."""
    return describe(checkpoint).variant == VARIANT


def rename_released(names: Sequence[str]) -> Renamed:
    """Say which published name of a detector fills each of MMDetection's.

    Raises:
        ValueError: two names mean the same parameter.

    Source: reference one_peace_vision/det, configs/onepeace and models; detectron2 modeling/backbone/vit.py,
        proposal_generator/rpn.py, roi_heads/cascade_rcnn.py, box_head.py and mask_head.py.
    """
    sources: dict[str, str] = {}
    derived, unknown = [], []
    for published in names:
        if _DERIVED.fullmatch(published):
            derived.append(published)
        elif (ours := _our_name(published)) is None:
            unknown.append(published)
        elif ours in sources:
            both = f"{printable(sources[ours])} and {printable(published)}"
            raise ValueError(f"the checkpoint has two names for {printable(ours)}: {both}; nothing was loaded")
        else:
            sources[ours] = published
    return Renamed(sources, tuple(derived), tuple(unknown))


def _our_name(published: str) -> str | None:
    for pattern, replacement in _RULES:
        if match := re.fullmatch(pattern, published):
            return match.expand(replacement)
    for pattern, first, template in _COUNTED_RULES:
        if match := re.fullmatch(pattern, published):
            return template.format(**{**match.groupdict(), "number": int(match["number"]) - first})
    ours = our_name(published.removeprefix(NET)) if published.startswith(NET) else None
    return f"backbone.model.{ours}" if ours else None


def load_released(detector: Detector, state: Mapping[str, Tensor]) -> LoadReport:
    """Load a published state into a detector, all or nothing.

    It has to be of the detector's own resolution: nothing is resized.

    Args:
        detector: of any size, on any device, `meta` included.
        state: tensors by published name.

    Returns:
        What became of every name; buffers that follow from the sizes are left out.

    Raises:
        ValueError: a name is missing, unexpected or there twice, or a shape differs; the message holds the account of
            all names, and the detector is unchanged.
    """
    renamed = rename_released(tuple(state))
    _refuse_misfit(detector, {name: tuple(value.shape) for name, value in state.items()}, renamed)
    report = load_state(detector, {name: state[published] for name, published in renamed.sources.items()})
    left_out = (LeftOut(Part.DERIVED.value, renamed.derived),) if renamed.derived else ()
    return replace(report, left_out=left_out)


def _refuse_misfit(detector: Detector, shapes: Mapping[str, Shape], renamed: Renamed) -> None:
    """Account for all names on both sides, and for the shapes of those that are on both."""
    wanted = {name: tuple(value.shape) for name, value in detector.state_dict().items()}
    missing = [name for name in wanted if name not in renamed.sources]
    unexpected = [*renamed.unknown, *(name for ours, name in renamed.sources.items() if ours not in wanted)]
    expected = {name: wanted[ours] for ours, name in renamed.sources.items() if ours in wanted}
    sides = {f"{NET}image_adapter.rp_bucket": max(detector.backbone.sides)}
    sides[f"{NET}image_adapter.rp_bucket_window"] = min(detector.backbone.sides)
    expected.update({name: (sides[name] ** 2,) * 2 for name in renamed.derived if name in sides})
    others = [f"{name} is {shapes[name]}, not {shape}" for name, shape in expected.items() if shapes[name] != shape]
    if missing or unexpected or others:
        fitting = len(expected) - len(others)
        sorts = {"missing": missing, "unexpected": unexpected, "of another shape": others}
        told = [count_names(word, names) for word, names in sorts.items()]
        raise ValueError(
            f"the checkpoint does not fit the detector: {fitting} names fit, {', '.join(told)}; nothing was loaded"
        )
