"""The types that travel between the stages of the model."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from models.layers.position_bias import PositionBias


@dataclass(frozen=True)
class Tokens:
    """One modality's tokens between adapter, encoder and head."""

    features: Tensor
    """(batch, tokens, dim); the class token stands first. Padding is zero."""
    padding_mask: Tensor | None = None
    """(batch, tokens), bool, True is padding; None when nothing is padded."""
    bias: PositionBias | None = None
    """Relative position bias of these tokens; None when the model has none."""


@dataclass(frozen=True)
class Embedded:
    """One modality's input after its stem and before its positions: what every pass over the same input shares."""

    units: Tensor
    """(batch, units, dim); whether the class stands among them is the adapter's own affair."""
    padding_mask: Tensor | None = None
    """(batch, tokens), bool, True is padding, the class column first; None when nothing is padded."""


@dataclass(frozen=True)
class Units:
    """Which tokens of a batch of one modality are there, and which of them a masked pass may hide."""

    real: Tensor
    """(batch, tokens), bool: not padding; the class first."""
    maskable: Tensor
    """(batch, tokens), bool: real, and neither the class nor an end mark."""


@dataclass(frozen=True)
class Shared:
    """One modality's input of which several sequences of a batch share parts: a sound with four questions about it."""

    inputs: Any
    """What the adapter takes, each distinct example once."""
    rows: Tensor
    """(batch,) int64: which of them each sequence has."""


def move(value: Any, device: torch.device, *, dtype: torch.dtype | None = None) -> Any:
    """Bring a batch to a device: tensors, and whatever holds them in dataclasses and mappings.

    Args:
        value: a batch or a part of one; what is no tensor and holds none stays as it is.
        device: where to.
        dtype: of floating numbers, where given; integers and flags keep theirs.
    """
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: move(part, device, dtype=dtype) for name, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: move(getattr(value, field.name), device, dtype=dtype) for field in fields(value)}
        return type(value)(**parts)
    return value
