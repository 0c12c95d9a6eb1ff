"""The types that travel between the stages of the model."""

from dataclasses import dataclass

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
