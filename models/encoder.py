"""FusionEncoder: self-attention shared by all modalities, one feed-forward and one final norm for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.batch import Tokens
from models.config import ModelConfig
from models.layers.attention import SelfAttention
from models.layers.feed_forward import FeedForward
from models.layers.position_bias import PositionBias
from models.layers.residual import Residual


@dataclass(frozen=True)
class Sequenced:
    """The tokens of several modalities side by side, and what a layer needs to know of them."""

    features: Tensor
    """(batch, tokens, dim)"""
    spans: Mapping[str, slice]
    """Where each modality's tokens stand."""
    biases: Mapping[str, PositionBias | None]
    padding_mask: Tensor | None
    """(batch, tokens), bool, True is padding."""


class FusionLayer(nn.Module):
    """One pre-norm layer: attention over all tokens, then each modality's own feed-forward."""

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

    def forward(self, x: Tensor, bias: Tensor | None, sequence: Sequenced) -> Tensor:
        """Transform (batch, tokens, dim) under an additive bias; `sequence` says whose tokens are where, and padding.

        Differs: padding is hidden everywhere; the published code hides it only where there is a relative bias.
        """
        mixed = self.attn(self.attn_norm(x), bias, sequence.padding_mask)
        x = self.attn_residual(x, self.attn_output_norm(mixed))
        normed = self.ffn_norm(x)
        parts = [self.ffn[name](normed[:, span]) for name, span in sequence.spans.items()]
        out: Tensor = self.ffn_residual(x, parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        return out


class FusionEncoder(nn.Module):
    """All layers and the final norms.

    Attributes:
        is_checkpointed: recompute each layer in the backward pass instead of keeping its activations.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        last = max(config.num_layers - 1, 1)
        rates = [config.drop_path_rate * index / last for index in range(config.num_layers)]
        self.layers = nn.ModuleList(FusionLayer(config, drop_path_rate=rate) for rate in rates)
        norms = {name: nn.LayerNorm(config.embed_dim) for name in config.modalities} if config.has_final_norm else {}
        self.norms = nn.ModuleDict(norms)
        self.modality_names = tuple(config.modalities)
        self.is_checkpointed = False

    def forward(self, tokens: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """Run all layers over the modalities of a batch as one sequence.

        Args:
            tokens: adapter outputs by modality, each with the same batch size.

        Returns:
            The same keys; features after the last layer and the modality's final norm, where there is one.

        Raises:
            ValueError: a modality that this model was not built with.
        """
        sequence = self.join(tokens)
        features = self.run_layers(sequence, range(len(self.layers)))
        return {
            name: Tokens(self._final_norm(name, features[:, span]), tokens[name].padding_mask, tokens[name].bias)
            for name, span in sequence.spans.items()
        }

    def join(self, tokens: Mapping[str, Tokens]) -> Sequenced:
        """Put modalities side by side in the model's order."""
        order = self.modality_names
        if unknown := [name for name in tokens if name not in order]:
            raise ValueError(f"this model has no modality {unknown[0]!r}, only {', '.join(order)}")
        names = [name for name in order if name in tokens]
        spans, start = {}, 0
        for name in names:
            spans[name] = slice(start, start + tokens[name].features.shape[1])
            start = spans[name].stop
        return Sequenced(
            features=torch.cat([tokens[name].features for name in names], dim=1),
            spans=spans,
            biases={name: tokens[name].bias for name in names},
            padding_mask=_join_padding([tokens[name] for name in names]),
        )

    def run_layers(self, sequence: Sequenced, indices: Sequence[int]) -> Tensor:
        """Run some layers, (batch, tokens, dim) in and out, without the final norm."""
        x = sequence.features
        shared = all(bias is None or bias.is_shared for bias in sequence.biases.values())
        bias = attention_bias(sequence, 0) if shared else None
        for index in indices:
            if self.is_checkpointed and torch.is_grad_enabled():
                x = checkpoint(self._run_layer, index, x, bias, sequence, use_reentrant=False)
            else:
                x = self._run_layer(index, x, bias, sequence)
        return x

    def _run_layer(self, index: int, x: Tensor, shared_bias: Tensor | None, sequence: Sequenced) -> Tensor:
        bias = attention_bias(sequence, index) if shared_bias is None else shared_bias
        out: Tensor = self.layers[index](x, bias, sequence)
        return out

    def _final_norm(self, name: str, features: Tensor) -> Tensor:
        return self.norms[name](features) if name in self.norms else features


def _join_padding(tokens: Sequence[Tokens]) -> Tensor | None:
    """Join the padding masks of several modalities; None when none is padded."""
    if all(part.padding_mask is None for part in tokens):
        return None
    masks = [
        torch.zeros(part.features.shape[:2], dtype=torch.bool, device=part.features.device)
        if part.padding_mask is None
        else part.padding_mask
        for part in tokens
    ]
    return torch.cat(masks, dim=1)


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
