"""The published segmentation file, which has the names of MMSegmentation 0.x, into today's segmentor."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from downstream.engines.account import count_names
from downstream.engines.openmmlab.model import Segmentor
from downstream.engines.vit_adapter import MODALITY, rename_adapter_state
from models.checkpoint.describe import describe
from models.checkpoint.inert import printable
from models.checkpoint.load import LeftOut, LoadReport, load_state
from models.checkpoint.reader import Checkpoint
from models.checkpoint.roles import Part

Shape = tuple[int, ...]

BACKBONE = "backbone."
BUCKETS = "rp_bucket"
VARIANT = "segmentation"
"""What `describe` calls a segmentor whose encoder has published names; ours is called `ours, segmentation`."""
CLASSES = "CLASSES"
"""What the settings in a file call the names of its classes."""
CLASS_HEAD = "decode_head.cls_embed."
"""The only part whose shapes follow from the number of classes; published files call it the same."""

_PIXEL_LAYER = r"(decode_head\.pixel_decoder\.encoder\.layers\.\d+)"
_QUERY_LAYER = r"(decode_head\.transformer_decoder\.layers\.\d+)"

# Layers were lists of parts in the order of the config's `operation_order`; today each part has a name. Norms are still
# a list in the same order. Everything else of the head is called as it was.
_HEAD_RULES = (
    (rf"{_PIXEL_LAYER}\.attentions\.0\.(.+)", r"\1.self_attn.\2"),  # self_attn, norm, ffn, norm
    (rf"{_QUERY_LAYER}\.attentions\.0\.(.+)", r"\1.cross_attn.\2"),  # cross_attn, norm, self_attn, norm, ffn, norm
    (rf"{_QUERY_LAYER}\.attentions\.1\.(.+)", r"\1.self_attn.\2"),
    (rf"{_PIXEL_LAYER}\.ffns\.0\.(.+)", r"\1.ffn.\2"),
    (rf"{_QUERY_LAYER}\.ffns\.0\.(.+)", r"\1.ffn.\2"),
)


def is_released(checkpoint: Checkpoint) -> bool:
    """Tell whether a file is a segmentor with published names, from its names and shapes alone."""
    return describe(checkpoint).variant == VARIANT


def is_segmentor(checkpoint: Checkpoint) -> bool:
    """Tell whether a file is a whole segmentor, published or ours, from its names and shapes alone."""
    return describe(checkpoint).variant in (VARIANT, f"ours, {VARIANT}")


def count_classes(checkpoint: Checkpoint) -> int | None:
    """Count the classes that a segmentor's file was made for; None where it has no part that tells them apart."""
    info = checkpoint.names.get(f"{CLASS_HEAD}weight")
    return info.shape[0] - 1 if info is not None and info.shape else None


def check_classes(checkpoint: Checkpoint, expected: Sequence[str]) -> None:
    """Refuse a file that was made for other classes, or says it was made for the same ones in another order.

    Args:
        checkpoint: whose settings may name classes: `meta` of MMSegmentation 0.x and our own files hold `CLASSES`.
        expected: names by class number.

    Raises:
        ValueError: the classes differ; names that the file does not tell are not missed.
    """
    found = checkpoint.config.get(CLASSES) if isinstance(checkpoint.config, dict) else None
    names = [str(name).strip() for name in found] if isinstance(found, list) else None
    wanted = [name.strip() for name in expected]  # the libraries write 'bed '
    number = count_classes(checkpoint) if names is None else len(names)
    if number is not None and number != len(wanted):
        raise ValueError(
            f"checkpoint {checkpoint.path} was made for {number} classes, expected {len(wanted)}; name another, or "
            "fine-tune from it with --pretrained"
        )
    for place, (name, other) in enumerate(zip(names or wanted, wanted, strict=True)):
        if name != other:
            raise ValueError(
                f"checkpoint {checkpoint.path} was made for other classes: number {place} is {printable(name)!r}, "
                f"expected {other!r}; name another"
            )


def rename_released(state: Mapping[str, Tensor]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Say which published name of a segmentor fills each of today's.

    Args:
        state: tensors by published name, with the prefixes `backbone.` and `decode_head.`.

    Returns:
        Published names by today's, where a name without a rule stays as it is; and the names of buffers that follow
        from the sizes.

    Raises:
        ValueError: two names mean the same parameter.

    Source: reference one_peace_vision/seg, configs/ade20k and mmseg_custom/models; mmcv 1.x BaseTransformerLayer, which
        lists its attentions in the operations' order; mmdet 3.x mask2former_layers.py.
    """
    sources: dict[str, str] = {}
    derived = []
    for published, value in state.items():
        ours = _our_name(published, value)
        if ours is None:
            derived.append(published)
        elif ours in sources:
            names = f"{printable(sources[ours])} and {printable(published)}"
            raise ValueError(f"the checkpoint has two names for {printable(ours)}: {names}; nothing was loaded")
        else:
            sources[ours] = published
    return sources, tuple(derived)


def _our_name(published: str, value: Tensor) -> str | None:
    """Give today's name; None for a buffer that follows from the sizes."""
    if published.startswith(BACKBONE):
        renamed = rename_adapter_state({published.removeprefix(BACKBONE): value})
        return next((BACKBONE + name for name in renamed), None)
    for pattern, replacement in _HEAD_RULES:
        if match := re.fullmatch(pattern, published):
            return match.expand(replacement)
    return published


def load_released(segmentor: Segmentor, state: Mapping[str, Tensor], *, may_miss: Collection[str] = ()) -> LoadReport:
    """Load a published state into a segmentor, all or nothing.

    Unlike a state of an encoder, it has to be of the segmentor's own resolution: nothing is resized.

    Args:
        segmentor: of any size, on any device, `meta` included.
        state: tensors by published name.
        may_miss: prefixes of parameters that the file need not have.

    Returns:
        What became of every name; buckets that follow from the sizes are left out.

    Raises:
        ValueError: a name is missing, unexpected or there twice, or a shape differs; the segmentor is unchanged then.
    """
    sources, derived = rename_released(state)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    _refuse_misfit(segmentor, shapes, sources, derived, may_miss=may_miss)
    report = load_state(segmentor, {name: state[stored] for name, stored in sources.items()}, may_miss=may_miss)
    return replace(report, left_out=(LeftOut(Part.DERIVED.value, derived),) if derived else ())


def _refuse_misfit(
    segmentor: Segmentor,
    shapes: Mapping[str, Shape],
    sources: Mapping[str, str],
    derived: Sequence[str],
    *,
    may_miss: Collection[str],
) -> None:
    """Account for all names on both sides, and for the shapes of those that are on both."""
    wanted = {name: tuple(value.shape) for name, value in segmentor.state_dict().items()}
    missing = [name for name in wanted if name not in sources and not name.startswith(tuple(may_miss))]
    unexpected = [published for name, published in sources.items() if name not in wanted]
    expected = {published: wanted[name] for name, published in sources.items() if name in wanted}
    tokens = segmentor.backbone.model.adapters[MODALITY].grid_size ** 2 + 1
    expected.update({name: (tokens, tokens) for name in derived if name.endswith(BUCKETS)})
    others = [f"{name} is {shapes[name]}, not {shape}" for name, shape in expected.items() if shapes[name] != shape]
    if missing or unexpected or others:
        sorts = {"missing": missing, "unexpected": unexpected, "of another shape": others}
        told = [count_names(word, names) for word, names in sorts.items()]
        raise ValueError(f"the checkpoint does not fit the segmentor: {', '.join(told)}; nothing was loaded")
