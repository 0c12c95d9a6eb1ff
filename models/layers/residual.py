"""The residual connection: layer scale and drop path."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.layers.rows import add_rows, take_rows


class Residual(nn.Module):
    """Add a branch to its input, scaled per channel, and in training left out for whole samples.

    Args:
        dim: width of a token.
        scale_init: start of the layer scale; None builds none (the pretraining decoder has none).
        drop_rate: probability that a sample loses the branch in training; what stays is scaled by 1 / (1 - rate).

    Differs: a branch that is left out is not computed; the reference computes it and multiplies by zero.
    """

    def __init__(self, dim: int, *, scale_init: float | None, drop_rate: float) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.gamma = None if scale_init is None else nn.Parameter(torch.full((dim,), scale_init))

    @property
    def drops(self) -> bool:
        """Whether samples are left out now."""
        return self.training and self.drop_rate > 0

    def draw(self, num_samples: int) -> Tensor:
        """Draw which samples keep the branch, (samples,) bool, from the CPU's random numbers, as many in any case."""
        drawn = torch.rand(num_samples)
        return drawn >= self.drop_rate if self.drops else torch.ones(num_samples, dtype=torch.bool)

    def run(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Add a branch to (batch, ...), computed for the samples that keep it.

        Args:
            x: whose first dimension counts samples.
            branch: gives it for some of them, in the same shape.
        """
        kept = self.draw(len(x)) if self.drops else None
        if kept is None or kept.all():
            return self.forward(x, branch(x))
        index = kept.nonzero()[:, 0].to(x.device)
        return self.forward(x, branch(take_rows(x, index)), index)

    def forward(self, x: Tensor, branch: Tensor, index: Tensor | None = None) -> Tensor:
        """Return `x` plus the branch.

        Args:
            x: (rows, dim), or (batch, tokens, dim).
            branch: as `x`; with `index`, of the rows that it was computed for.
            index: (rows of the branch,) int64, none twice; None where none is left out.
        """
        scale = 1 / (1 - self.drop_rate) if self.drops and self.drop_rate < 1 else 1.0
        if self.gamma is not None and index is None and branch.dtype == x.dtype:  # else it would keep a widened copy
            return torch.addcmul(x, branch, self.gamma, value=scale)
        if self.gamma is not None:
            branch = branch * (self.gamma * scale)
        elif scale != 1:
            branch = branch * scale
        return x + branch if index is None else add_rows(x, index, branch)
