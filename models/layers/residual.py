"""The residual connection: layer scale and drop path."""

import torch
from torch import Tensor, nn
from torchvision.ops import stochastic_depth


class Residual(nn.Module):
    """Add a branch to its input, scaled per channel, and in training dropped for whole samples.

    Args:
        dim: width of a token.
        scale_init: start of the layer scale; None builds none (the pretraining decoder has none).
        drop_rate: probability that a sample loses the branch in training; the rest is scaled by 1 / (1 - rate).
    """

    def __init__(self, dim: int, *, scale_init: float | None, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.gamma = None if scale_init is None else nn.Parameter(torch.full((dim,), scale_init))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Return `x` plus the branch; both are (batch, tokens, dim)."""
        if self.gamma is not None:
            branch = branch * self.gamma
        kept: Tensor = stochastic_depth(branch, self.drop_rate, mode="row", training=self.training)
        return x + kept
