"""FusionEncoder: self-attention shared by all modalities, one feed-forward and one final norm for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from models.batch import Tokens
from models.config import ModelConfig
from models.layers.attention import Scores, SelfAttention
from models.layers.feed_forward import FeedForward
from models.layers.position_bias import PositionBias
from models.layers.recompute import recompute as run_layer
from models.layers.residual import Residual
from models.layers.rows import join, take_rows
from models.layout import Layout, lay_out
from models.training import Recompute


@dataclass(frozen=True)
class Sequenced:
    """One pass: the tokens of several modalities side by side, and what a layer needs to know of them."""

    features: Tensor
    """(batch, tokens, dim)"""
    spans: Mapping[str, slice]
    """Where each modality's tokens stand."""
    biases: Mapping[str, PositionBias | None]
    paddings: Mapping[str, Tensor | None]
    """By modality, (batch, its tokens), bool, True is padding; None where it is not padded."""
    kept: Tensor | None = None
    """(layers, 2, batch) bool on the CPU: whose attention and whose feed-forward drop path leaves in; None where all
    are."""

    @cached_property
    def padding_mask(self) -> Tensor | None:
        """(batch, tokens), bool, True is padding; None when nothing is padded."""
        if all(mask is None for mask in self.paddings.values()):
            return None
        masks = [
            torch.zeros(self.features[:, span].shape[:2], dtype=torch.bool, device=self.features.device)
            if (mask := self.paddings[name]) is None
            else mask
            for name, span in self.spans.items()
        ]
        return torch.cat(masks, dim=1)


@dataclass(frozen=True)
class LayerView:
    """What one layer is told of the passes that go through it together."""

    layout: Layout
    scores: Sequence[Scores]
    """By pass."""
    kept: Sequence[Tensor] | None
    """By pass, (2, batch) bool on the CPU, see `Sequenced`; None where all samples stay."""
    has_classes_only: bool = False
    """Whether the class tokens alone leave the layer."""

    def take_classes(self) -> tuple["LayerView", Tensor]:
        """Go on with the class tokens alone; returns their rows' numbers besides."""
        layout, index = self.layout.take_classes()
        return replace(self, layout=layout), index

    def choose(self, branch: int) -> tuple[Layout, Sequence[Scores], Tensor | None]:
        """Leave out the samples whose branch is dropped; the last is the rows that are left, or None for all."""
        if self.kept is None or all(bool(kept[branch].all()) for kept in self.kept):
            return self.layout, self.scores, None
        kept = [part[branch] for part in self.kept]
        layout, index = self.layout.keep(kept)
        scores = [part.keep(keeps.nonzero()[:, 0]) for part, keeps in zip(self.scores, kept, strict=True)]
        return layout, scores, index


class FusionLayer(nn.Module):
    """One pre-norm layer: attention over all tokens of a sequence, then each modality's own feed-forward."""

    def __init__(self, config: ModelConfig, *, drop_path_rate: float) -> None:
        super().__init__()
        dim = config.embed_dim
        self.attn_norm = nn.LayerNorm(dim)
        self.attn = SelfAttention(
            dim, config.num_heads, has_inner_norm=config.has_inner_norm, has_head_scales=config.has_head_scales
        )
        self.attn_output_norm = nn.LayerNorm(dim) if config.has_attn_output_norm else nn.Identity()
        self.attn_residual = Residual(dim, scale_init=config.layer_scale_init, drop_rate=drop_path_rate)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = nn.ModuleDict(
            {name: FeedForward(dim, config.ffn_dim, has_inner_norm=config.has_inner_norm) for name in config.modalities}
        )
        self.ffn_residual = Residual(dim, scale_init=config.layer_scale_init, drop_rate=drop_path_rate)

    def forward(self, x: Tensor, view: LayerView) -> Tensor:
        """Transform the tokens of one or several passes, (rows, dim) in and out; fewer out where classes alone are.

        Differs: padding is no row at all; the published code computes it, and hides it only where there is a relative
        bias.
        """
        layout, scores, index = view.choose(0)
        normed = self.attn_norm(_take(x, index))
        mixed = self.attn.attend(normed, layout, scores, has_classes_only=view.has_classes_only)
        if view.has_classes_only:
            view, classes = view.take_classes()
            x, (_, _, index) = take_rows(x, classes), view.choose(0)
        x = self.attn_residual(x, self.attn_output_norm(mixed), index)
        layout, _, index = view.choose(1)
        counts = layout.counts
        normed = self.ffn_norm(_take(x, index)).split(list(counts.values()))
        parts = [self.ffn[name](own) for name, own in zip(counts, normed, strict=True)]
        out: Tensor = self.ffn_residual(x, join(parts), index)
        return out


def _take(x: Tensor, index: Tensor | None) -> Tensor:
    return x if index is None else take_rows(x, index)


class FusionEncoder(nn.Module):
    """All layers and the final norms.

    Attributes:
        recompute: what of a layer is computed again in the backward pass instead of being kept.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        last = max(config.num_layers - 1, 1)
        rates = [config.drop_path_rate * index / last for index in range(config.num_layers)]
        self.layers = nn.ModuleList(FusionLayer(config, drop_path_rate=rate) for rate in rates)
        norms = {name: nn.LayerNorm(config.embed_dim) for name in config.modalities} if config.has_final_norm else {}
        self.norms = nn.ModuleDict(norms)
        self.modality_names = tuple(config.modalities)
        self.recompute: Recompute = "none"

    def forward(self, tokens: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """Run all layers over the modalities of a batch as one sequence.

        Args:
            tokens: adapter outputs by modality, each with the same batch size.

        Returns:
            The same keys; features after the last layer and the modality's final norm, where there is one.

        Raises:
            ValueError: a modality that this model was not built with.
        """
        return self.encode([self.join(tokens)])[0]

    def encode(self, passes: Sequence[Sequenced]) -> list[dict[str, Tokens]]:
        """Run all layers over several passes at once, each attending within its own sequences.

        Returns:
            By pass, as `forward` does.
        """
        layout, x = self._run(passes, range(len(self.layers)))
        return [
            {
                name: Tokens(self._final_norm(name, features), sequence.paddings[name], sequence.biases[name])
                for name, features in blocks.items()
            }
            for sequence, blocks in zip(passes, layout.unpack(x), strict=True)
        ]

    def encode_classes(self, passes: Sequence[Sequenced]) -> list[dict[str, Tensor]]:
        """Run all layers over several passes at once, the last one for the class tokens alone.

        Returns:
            By pass and modality, (batch, dim): the class tokens that `encode` gives.
        """
        layout, x = self._run(passes, range(len(self.layers)), has_classes_only=True)
        return [{name: self._final_norm(name, rows) for name, rows in blocks.items()} for blocks in layout.split(x)]

    def join(self, tokens: Mapping[str, Tokens]) -> Sequenced:
        """Put modalities side by side in the model's order, and draw what drop path leaves out."""
        order = self.modality_names
        if unknown := [name for name in tokens if name not in order]:
            raise ValueError(f"this model has no modality {unknown[0]!r}, only {', '.join(order)}")
        names = [name for name in order if name in tokens]
        spans, start = {}, 0
        for name in names:
            spans[name] = slice(start, start + tokens[name].features.shape[1])
            start = spans[name].stop
        parts = [tokens[name].features for name in names]
        return Sequenced(
            features=join(parts, dim=1),
            spans=spans,
            biases={name: tokens[name].bias for name in names},
            paddings={name: tokens[name].padding_mask for name in names},
            kept=self._draw(len(parts[0])),
        )

    def run_layers(self, sequence: Sequenced, indices: Sequence[int]) -> Tensor:
        """Run some layers over one pass, without the final norm; (batch, tokens, dim), zero where padded."""
        layout, x = self._run([sequence], indices)
        return join(list(layout.unpack(x)[0].values()), dim=1)

    def _run(
        self, passes: Sequence[Sequenced], indices: Sequence[int], *, has_classes_only: bool = False
    ) -> tuple[Layout, Tensor]:
        """Run some layers over several passes at once; the rows that come out, and how they stand."""
        layout = _lay_out(passes)
        x = _pack(passes, layout)
        shared = [_score(sequence, 0) if _has_shared_bias(sequence) else None for sequence in passes]
        for index in indices:
            scores = [
                _score(sequence, index) if ready is None else ready
                for sequence, ready in zip(passes, shared, strict=True)
            ]
            is_last = has_classes_only and index == indices[-1]
            view = LayerView(layout, scores, _keeps(passes, index), is_last)
            x = run_layer(self.layers[index], x, view, choice=self.recompute)
        return (layout.take_classes()[0] if has_classes_only else layout), x

    def _draw(self, batch: int) -> Tensor | None:
        layers = [cast("FusionLayer", layer) for layer in self.layers]
        branches = [(layer.attn_residual, layer.ffn_residual) for layer in layers]
        if not any(branch.drops for pair in branches for branch in pair):
            return None
        return torch.stack([torch.stack([branch.draw(batch) for branch in pair]) for pair in branches])

    def _final_norm(self, name: str, features: Tensor) -> Tensor:
        return self.norms[name](features) if name in self.norms else features


def _lay_out(passes: Sequence[Sequenced]) -> Layout:
    shapes = [
        {name: (len(sequence.features), span.stop - span.start) for name, span in sequence.spans.items()}
        for sequence in passes
    ]
    return lay_out(shapes, [sequence.paddings for sequence in passes], device=passes[0].features.device)


def _pack(passes: Sequence[Sequenced], layout: Layout) -> Tensor:
    return join(
        [
            layout.passes[number][name].pack(passes[number].features[:, passes[number].spans[name]])
            for number, name in layout.ordered()
        ]
    )


def _has_shared_bias(sequence: Sequenced) -> bool:
    return all(bias is None or bias.is_shared for bias in sequence.biases.values())


def _score(sequence: Sequenced, layer: int) -> Scores:
    return Scores(attention_bias(sequence, layer), sequence.padding_mask)


def _keeps(passes: Sequence[Sequenced], layer: int) -> list[Tensor] | None:
    """Give by pass whose branches stay in a layer; None where all do."""
    if all(sequence.kept is None for sequence in passes):
        return None
    return [
        torch.ones(2, len(sequence.features), dtype=torch.bool) if sequence.kept is None else sequence.kept[layer]
        for sequence in passes
    ]


def attention_bias(sequence: Sequenced, layer: int) -> Tensor | None:
    """Spell out what a layer adds to its attention scores.

    Returns:
        (1, heads, tokens, tokens), or (batch, ...) where samples keep different tokens: each modality's relative bias
        on its own block, 0 between two. None when there is no bias.

    Source: paper, Architecture.
    """
    blocks = {name: bias.at_layer(layer) for name, bias in sequence.biases.items() if bias is not None}
    if not blocks:
        return None
    if len(sequence.spans) == 1:
        return next(iter(blocks.values()))
    batch = max(len(block) for block in blocks.values())
    any_block = next(iter(blocks.values()))
    length = sequence.features.shape[1]
    bias = any_block.new_zeros(batch, any_block.shape[1], length, length)
    for name, block in blocks.items():
        span = sequence.spans[name]
        bias[:, :, span, span] = block
    return bias
