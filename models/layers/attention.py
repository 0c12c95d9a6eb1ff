"""Self-attention shared by all modalities, with the Sub-LN norm before its output projection."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.layers.linear import Linear
from models.layers.rows import join, take_rows
from models.layout import Layout

EXTRA_CHANNELS = 8  # fused kernels want widths that are multiples of it
LOWEST_SCORE = -1e30


@dataclass(frozen=True)
class Scores:
    """What is added to the scores of one pass."""

    bias: Tensor | None
    """Broadcastable to (batch, heads, tokens, tokens): position bias within a modality, 0 between two."""
    padding_mask: Tensor | None = None
    """(batch, tokens), bool, True is padding, which no query sees; None when nothing is padded."""

    def ask(self, tokens: Sequence[int]) -> "Scores":
        """Take what belongs to the queries of some tokens, by their numbers in the sequence."""
        return self if self.bias is None else replace(self, bias=self.bias[:, :, list(tokens)])

    def keep(self, samples: Tensor) -> "Scores":
        """Take what belongs to some samples, (kept,) int64."""
        bias, mask = self.bias, self.padding_mask
        if bias is not None and len(bias) > 1:
            bias = bias[samples.to(bias.device)]
        return Scores(bias, None if mask is None else mask[samples.to(mask.device)])


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
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(dim, dim, bias=False)
        self.v_proj = Linear(dim, dim)
        self.out_proj = Linear(dim, dim)
        self.inner_norm = nn.LayerNorm(dim) if has_inner_norm else nn.Identity()
        self.head_scales = nn.Parameter(torch.ones(num_heads)) if has_head_scales else None

    def forward(self, x: Tensor, bias: Tensor | None, padding_mask: Tensor | None = None) -> Tensor:
        """Mix the tokens of one batch, (batch, tokens, dim) in and out, normalised before; see `Scores`."""
        q, k, v = (project(x) for project in (self.q_proj, self.k_proj, self.v_proj))
        return self._finish(self._mix(q, k, v, Scores(bias, padding_mask)))

    def attend(
        self, rows: Tensor, layout: Layout, scores: Sequence[Scores], *, has_classes_only: bool = False
    ) -> Tensor:
        """Mix the tokens of several passes, each within its own sequences.

        Args:
            rows: (rows, dim), normalised.
            layout: where whose tokens stand among them.
            scores: by pass.
            has_classes_only: mix the class tokens alone, each with all tokens of its sequence.

        Returns:
            (rows, dim), those of `layout.take_classes` where there are classes only.
        """
        asking, asked = layout, rows
        if has_classes_only:
            asking, index = layout.take_classes()
            asked, scores = take_rows(rows, index), _ask_classes(layout, scores)
        q, k, v = self.q_proj(asked), self.k_proj(rows), self.v_proj(rows)
        mixed: dict[tuple[int, str], Tensor] = {}
        sequences = zip(_unpack(q, asking), _unpack(k, layout), _unpack(v, layout), scores, strict=True)
        for number, (blocks, sequence) in enumerate(zip(asking.passes, sequences, strict=True)):
            tokens = self._mix(*sequence)
            parts = tokens.split([block.length for block in blocks.values()], dim=1)
            for (name, block), part in zip(blocks.items(), parts, strict=True):
                mixed[number, name] = block.pack(part)
        return self._finish(join([mixed[place] for place in asking.ordered()]))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, scores: Scores) -> Tensor:
        """Attend, (batch, tokens, dim) in and out."""
        q, k, v = (part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in (q, k, v))
        bias = None if scores.bias is None else scores.bias.to(q.dtype)
        mixed = attend(q, k, v, bias, scores.padding_mask)
        if self.head_scales is not None:
            mixed = mixed * self.head_scales[:, None, None]
        return mixed.transpose(1, 2).flatten(2)

    def _finish(self, mixed: Tensor) -> Tensor:
        out: Tensor = self.out_proj(self.inner_norm(mixed))
        return out


def _unpack(rows: Tensor, layout: Layout) -> list[Tensor]:
    """Give every pass's sequences, (batch, tokens, dim)."""
    return [join(list(blocks.values()), dim=1) for blocks in layout.unpack(rows)]


def _ask_classes(layout: Layout, scores: Sequence[Scores]) -> list[Scores]:
    firsts = [[0, *accumulate(block.length for block in blocks.values())][:-1] for blocks in layout.passes]
    return [part.ask(tokens) for part, tokens in zip(scores, firsts, strict=True)]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, padding_mask: Tensor | None) -> Tensor:
    """Attend with the library's fused kernel, or where that has no gradient of the bias, with our own.

    Args:
        q: (batch, heads, tokens, width).
        k: as q, or of more tokens.
        v: as k.
        bias: as in `Scores`.
        padding_mask: as in `Scores`.

    Returns:
        As q; rows of padding mean nothing.
    """
    if bias is not None and bias.requires_grad and torch.is_grad_enabled() and q.device.type == "cpu" and len(q):
        spelled: Tensor = _Attend.apply(q, k, v, bias, padding_mask)  # type: ignore[no-untyped-call]
        return spelled
    width = q.shape[-1]
    if padding_mask is not None:
        q, k, v = hide_keys(q, k, v, padding_mask)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=width**-0.5)[..., :width]


class _Attend(torch.autograd.Function):
    """Attention with a gradient of the bias: as few runs over the scores as there can be, and in place."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, padding_mask: Tensor | None) -> Tensor:
        scores = torch.matmul(q, k.transpose(2, 3)).mul_(q.shape[-1] ** -0.5).add_(bias)
        if padding_mask is not None:
            scores.masked_fill_(padding_mask[:, None, None, :], max(LOWEST_SCORE, torch.finfo(scores.dtype).min / 2))
        weights = torch.softmax(scores, dim=-1, out=scores)
        ctx.save_for_backward(q, k, v, weights)
        ctx.bias_size = len(bias)
        return torch.matmul(weights, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        grad_v = torch.matmul(weights.transpose(2, 3), grad)
        grad_scores = torch.matmul(grad, v.transpose(2, 3))
        grad_scores = torch._softmax_backward_data(grad_scores, weights, -1, weights.dtype)
        grad_bias = None
        if ctx.needs_input_grad[3]:
            grad_bias = grad_scores if ctx.bias_size > 1 else grad_scores.sum(dim=0, keepdim=True)
        scale = q.shape[-1] ** -0.5
        grad_q = torch.matmul(grad_scores, k).mul_(scale)
        grad_k = torch.matmul(grad_scores.transpose(2, 3), q).mul_(scale)
        return grad_q, grad_k, grad_v, grad_bias, None


def hide_keys(q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hide padded keys by one more channel instead of a mask, so that one bias serves the whole batch.

    A mask would have to be spelled out for every sample, head, query and key. Here every query carries a one and every
    padded key a number so low that its weight is exactly zero; the channels are a multiple of what fused kernels need.

    Args:
        q: (batch, heads, tokens, width).
        k: as q, or of more tokens.
        v: as k.
        padding_mask: (batch, tokens of k), bool, True is padding.

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
