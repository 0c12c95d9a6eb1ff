"""What each name in a checkpoint is for: a branch, the shared encoder, a head, the pretraining decoder, or unknown."""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from models.checkpoint.names import HEAD_PREFIX, is_derived, our_name, published_name

# What wrappers put in front of the encoder's names; the first that explains most names is taken.
_PREFIXES = ("", "backbone.", "backbone.net.", "backbone.model.", "model.", "module.")
_DECODER = re.compile(r"decoder\..+|decoder_wrapper\..+|decoder_\w+_embed\..+|\w+_mask_token|\w+_mask_head\..+")
_HEAD = re.compile(
    r"(classify_head|head|fc_norm|cls_head|decode_head|auxiliary_head|proposal_generator|roi_heads|neck)\..+"
)
_ADAPTER = re.compile(r"(spm|interactions|up|norms|norm[1-4])\..+|level_embed")
_OF_MODALITY = re.compile(r"(?:adapters|projections|encoder\.norms|encoder\.layers\.\d+\.ffn)\.(\w+)\..+")


class Part(StrEnum):
    """The part of a checkpoint that a name belongs to; the value is how it is told."""

    ENCODER = "encoder"
    HEAD = "task head"
    DENSE = "dense-prediction adapter"
    DECODER = "pretraining decoder"
    DERIVED = "buffers that follow from the sizes"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Role:
    """What one name is for."""

    part: Part
    ours: str
    """Our name of an encoder's parameter; of anything else the name without the wrapper's prefix."""
    modality: str | None = None
    """None is shared by all."""


def find_roles(names: Iterable[str]) -> dict[str, Role]:
    """Say what every name is for, by name."""
    names = list(names)
    prefix = find_prefix(names)
    return {name: _role(name, prefix) for name in names}


def find_prefix(names: Iterable[str]) -> str:
    """Find what a wrapper has put in front of the encoder's names."""
    counts: Counter[str] = Counter()
    for name in names:
        for prefix in _PREFIXES:
            if name.startswith(prefix) and encoder_name(name.removeprefix(prefix)) is not None:
                counts[prefix] += 1
    return max(_PREFIXES, key=lambda prefix: counts[prefix])


def encoder_name(name: str) -> str | None:
    """Give our name of an encoder's parameter, published or ours; None for anything else."""
    ours = _any_name(name)
    return None if ours is None or ours.startswith(HEAD_PREFIX) else ours


@functools.lru_cache(maxsize=2**12)  # loading asks eight times for each name, and tries some seventy patterns on it
def _any_name(name: str) -> str | None:
    """Give our name of a published parameter, or of one that has our name already."""
    ours = our_name(name)
    return name if ours is None and published_name(name) is not None else ours


def _role(name: str, prefix: str) -> Role:
    inner = name.removeprefix(prefix)
    ours = encoder_name(inner) if name.startswith(prefix) else None
    if ours is not None:
        match = _OF_MODALITY.fullmatch(ours)
        return Role(Part.ENCODER, ours, match[1] if match else None)
    if (head := _any_name(inner)) is not None and head.startswith(HEAD_PREFIX):
        return Role(Part.HEAD, head)
    for part, is_part in (
        (Part.DERIVED, is_derived(inner) or is_derived(inner.replace("decoder_wrapper", "encoder_wrapper"))),
        (Part.DECODER, _DECODER.fullmatch(inner)),
        (Part.DENSE, _ADAPTER.fullmatch(inner)),
        (Part.HEAD, _HEAD.fullmatch(inner)),
    ):
        if is_part:
            return Role(part, inner)
    is_outside = bool(prefix) and not name.startswith(prefix)  # a wrapper's other modules
    return Role(Part.HEAD if is_outside else Part.UNKNOWN, inner)


def names_of(roles: Mapping[str, Role], part: Part) -> tuple[str, ...]:
    """List the names of one part."""
    return tuple(name for name, role in roles.items() if role.part is part)
