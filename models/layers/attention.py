"""Self-attention shared by all modalities, with the Sub-LN norm before its output projection."""

import torch
from torch import Tensor, nn
from torch.nn import functional

EXTRA_CHANNELS = 8  # fused kernels want widths that are multiples of it
LOWEST_SCORE = -1e30


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

    def forward(self, x: Tensor, bias: Tensor | None, padding_mask: Tensor | None = None) -> Tensor:
        """Mix the tokens of all modalities.

        Args:
            x: (batch, tokens, dim), normalised; modalities side by side in config order.
            bias: broadcastable to (batch, heads, tokens, tokens), added to the scores: position bias within a
                modality, 0 between two; None adds nothing.
            padding_mask: (batch, tokens), bool, True is padding, which no query sees; None when nothing is padded.

        Returns:
            (batch, tokens, dim); rows of padding mean nothing.
        """
        q, k, v = (self._heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        width = q.shape[-1]
        if padding_mask is not None:
            q, k, v = hide_keys(q, k, v, padding_mask)
        mask = None if bias is None else bias.to(q.dtype)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=width**-0.5)
        mixed = mixed[..., :width]
        if self.head_scales is not None:
            mixed = mixed * self.head_scales[:, None, None]
        merged: Tensor = self.inner_norm(mixed.transpose(1, 2).flatten(2))
        projected: Tensor = self.out_proj(merged)
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        """Cut (batch, tokens, dim) into (batch, heads, tokens, dim / heads)."""
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


def hide_keys(q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hide padded keys by one more channel instead of a mask, so that one bias serves the whole batch.

    A mask would have to be spelled out for every sample, head, query and key. Here every query carries a one and every
    padded key a number so low that its weight is exactly zero; the channels are a multiple of what fused kernels need.

    Args:
        q: (batch, heads, tokens, width).
        k: as q.
        v: as q.
        padding_mask: (batch, tokens), bool, True is padding.

    Returns:
        The same, each `EXTRA_CHANNELS` wider; those of v are zero.
    """
    low = max(LOWEST_SCORE, torch.finfo(k.dtype).min / 2)
    hidden = torch.zeros_like(padding_mask, dtype=k.dtype).masked_fill(padding_mask, low)
    channel = hidden[:, None, :, None].expand(-1, k.shape[1], -1, 1)
    extra = EXTRA_CHANNELS
    return (
        functional.pad(functional.pad(q, (0, 1), value=1.0), (0, extra - 1)),
        functional.pad(torch.cat([k, channel], dim=-1), (0, extra - 1)),
        functional.pad(v, (0, extra)),
    )
