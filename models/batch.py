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
