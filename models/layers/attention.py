"""Self-attention shared by all modalities, with the Sub-LN norm before its output projection."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Multi-head self-attention; query, value and output projections have a bias, the key projection has none.

    Args:
        dim: width of a token.
        num_heads: heads; must divide `dim`.
        has_inner_norm: LayerNorm on the concatenated heads before the output projection (Sub-LN).
        has_head_scales: one learned factor for each head, on its output.

    Source: paper, Architecture; reference one_peace/models/transformer/multihead_attention.py.
    Differs: one fused attention call; the reference spells it out.
    """

    def __init__(self, dim: int, num_heads: int, *, has_inner_norm: bool, has_head_scales: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.inner_norm = nn.LayerNorm(dim) if has_inner_norm else nn.Identity()
        self.head_scales = nn.Parameter(torch.ones(num_heads)) if has_head_scales else None

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Mix the tokens of all modalities.

        Args:
            x: (batch, tokens, dim), normalised; modalities side by side in config order.
            bias: broadcastable to (batch, heads, tokens, tokens), added to the scores: position bias within a
                modality, 0 between two, -inf on padded keys; None adds nothing.

        Returns:
            (batch, tokens, dim); rows of padding mean nothing.
        """
        q, k, v = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        mask = None if bias is None else bias.to(q.dtype)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if self.head_scales is not None:
            mixed = mixed * self.head_scales[:, None, None]
        merged: Tensor = self.inner_norm(mixed.transpose(1, 2).flatten(2))
        projected: Tensor = self.out_proj(merged)
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        """Cut (batch, tokens, dim) into (batch, heads, tokens, dim / heads)."""
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)
