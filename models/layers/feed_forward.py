"""The GeGLU feed-forward network that every modality has for itself."""

from torch import Tensor, nn

from models.layers.linear import Linear, gate


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
        self.gate_proj = Linear(dim, ffn_dim, bias=False)
        self.up_proj = Linear(dim, ffn_dim, bias=False)
        self.inner_norm = nn.LayerNorm(ffn_dim) if has_inner_norm else nn.Identity()
        self.down_proj = Linear(ffn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of (batch, tokens, dim) for itself."""
        hidden = gate(x, self.gate_proj.weight, self.up_proj.weight)
        out: Tensor = self.down_proj(self.inner_norm(hidden))
        return out
