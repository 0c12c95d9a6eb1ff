"""The GeGLU feed-forward network that every modality has for itself."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Module):
    """GeGLU, the inner Sub-LN norm, and the projection back.

    Args:
        dim: width of a token.
        ffn_dim: inner width.
        has_inner_norm: LayerNorm of width `ffn_dim` before the projection back (Sub-LN).

    Source: paper, Architecture; reference one_peace/models/transformer/transformer_layer.py, GeGLU.
    """

    def __init__(self, dim: int, ffn_dim: int, *, has_inner_norm: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, ffn_dim, bias=False)
        self.up_proj = nn.Linear(dim, ffn_dim, bias=False)
        self.inner_norm = nn.LayerNorm(ffn_dim) if has_inner_norm else nn.Identity()
        self.down_proj = nn.Linear(ffn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of (batch, tokens, dim) for itself."""
        hidden = functional.gelu(self.gate_proj(x))
        hidden = hidden * self.up_proj(x) if torch.is_grad_enabled() else hidden.mul_(self.up_proj(x))
        out: Tensor = self.down_proj(self.inner_norm(hidden))
        return out
