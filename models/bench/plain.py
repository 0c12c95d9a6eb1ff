"""The same arithmetic, formulated plainly: what one writes first, kept to be compared with.

Query, key and value one after the other; attention spelled out, with a softmax in float32; the bias expanded for every
sample and padding written into it; convolutions as such, with the channels brought to the norms and back; every pass
embeds its input anew; texts padded to the longest. It reads the weights of a `OnePeace` and has none of its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoder import FusionEncoder, FusionLayer
from models.layers.attention import SelfAttention
from models.layers.extractor import ExtractorBlock
from models.layers.feed_forward import FeedForward
from models.layers.position_bias import RelativeTables, grid_buckets, token_buckets
from models.layers.residual import Residual
from models.modalities.audio import AudioAdapter, Waveforms
from models.modalities.image import ImageAdapter
from models.modalities.text import TextAdapter
from models.onepeace import OnePeace
from models.tokenizer import PAD_ID


@dataclass(frozen=True)
class Part:
    """One modality's tokens with everything spelled out for each sample."""

    features: Tensor
    """(batch, tokens, dim)"""
    padding: Tensor
    """(batch, tokens), bool, True is padding."""
    biases: Sequence[Tensor] = ()
    """Each (batch, heads, tokens, tokens): one for all layers, or one a layer; empty where there is none."""


def encode(model: OnePeace, inputs: Mapping[str, Any], kept: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Give features by modality, (batch, tokens, dim); see `encode_parts`."""
    return {name: part.features for name, part in encode_parts(model, inputs, kept).items()}


def encode_parts(
    model: OnePeace, inputs: Mapping[str, Any], kept: Mapping[str, Tensor] | None = None
) -> dict[str, Part]:
    """Give features and padding by modality, as `OnePeace.encode` does.

    Args:
        model: whose weights are used.
        inputs: by modality, what its adapter takes.
        kept: by modality, (batch, kept) numbers of the tokens that a masked pass sees, padded with -1.
    """
    parts = {name: _adapt(model, name, value, None if kept is None else kept[name]) for name, value in inputs.items()}
    features = run_encoder(model.encoder, parts)
    return {name: Part(features[name], part.padding) for name, part in parts.items()}


def embed(model: OnePeace, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Give (batch, dim) unit vectors by modality, as `OnePeace.embed` does."""
    return {name: project(model, name, encode(model, {name: value})[name]) for name, value in inputs.items()}


def project(model: OnePeace, name: str, features: Tensor) -> Tensor:
    """Bring the class tokens to where modalities are compared."""
    return functional.normalize(run_linear(model.projections[name], features[:, 0]), dim=1)


def run_encoder(encoder: FusionEncoder, parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """Run all layers and the final norms over modalities side by side."""
    x = torch.cat([part.features for part in parts.values()], dim=1)
    padding = torch.cat([part.padding for part in parts.values()], dim=1)
    spans, start = {}, 0
    for name, part in parts.items():
        spans[name] = slice(start, start + part.features.shape[1])
        start = spans[name].stop
    kept, heads = _draw(encoder, len(x)), cast("FusionLayer", encoder.layers[0]).attn.num_heads
    count = max([1, *(len(part.biases) for part in parts.values())])
    biases = [_join_bias(heads, parts, spans, padding, x, layer) for layer in range(count)]
    for number, layer in enumerate(encoder.layers):
        x = _run_layer(cast("FusionLayer", layer), x, biases[min(number, count - 1)], spans, kept[number])
    return {name: encoder.norms[name](x[:, span]) for name, span in spans.items()}


def _join_bias(
    heads: int,
    parts: Mapping[str, Part],
    spans: Mapping[str, slice],
    padding: Tensor,
    x: Tensor,
    layer: int,
) -> Tensor:
    bias = x.new_zeros(len(x), heads, x.shape[1], x.shape[1])
    for name, part in parts.items():
        if part.biases:
            bias[:, :, spans[name], spans[name]] = part.biases[min(layer, len(part.biases) - 1)]
    return bias.masked_fill(padding[:, None, None, :], -math.inf) if padding.any() else bias


def _draw(encoder: FusionEncoder, batch: int) -> Sequence[Tensor | None]:
    """Draw by layer which samples keep attention and feed-forward, (2, batch), as the encoder does."""
    layers = [cast("FusionLayer", layer) for layer in encoder.layers]
    if not any(layer.attn_residual.drops for layer in layers):
        return [None for _ in layers]
    return [torch.stack([layer.attn_residual.draw(batch), layer.ffn_residual.draw(batch)]) for layer in layers]


def _run_layer(layer: FusionLayer, x: Tensor, bias: Tensor, spans: Mapping[str, slice], kept: Tensor | None) -> Tensor:
    x = _add(layer.attn_residual, x, _attend(layer.attn, layer.attn_norm(x), bias), None if kept is None else kept[0])
    normed = layer.ffn_norm(x)
    parts = [_feed_forward(cast("FeedForward", layer.ffn[name]), normed[:, span]) for name, span in spans.items()]
    return _add(layer.ffn_residual, x, torch.cat(parts, dim=1), None if kept is None else kept[1])


def _attend(attn: SelfAttention, x: Tensor, bias: Tensor) -> Tensor:
    batch, length, dim = x.shape
    heads = attn.num_heads
    q = run_linear(attn.q_proj, x) * (dim // heads) ** -0.5
    k = run_linear(attn.k_proj, x)
    v = run_linear(attn.v_proj, x)
    q, k, v = (
        part.view(batch, length, heads, dim // heads).transpose(1, 2).reshape(batch * heads, length, dim // heads)
        for part in (q, k, v)
    )
    scores = torch.bmm(q, k.transpose(1, 2)) + bias.view(batch * heads, length, length)
    weights = functional.softmax(scores, dim=-1, dtype=torch.promote_types(torch.float32, scores.dtype)).to(x.dtype)
    mixed = torch.bmm(weights, v).view(batch, heads, length, dim // heads).transpose(1, 2).reshape(batch, length, dim)
    return run_linear(attn.out_proj, attn.inner_norm(mixed))


def _feed_forward(ffn: FeedForward, x: Tensor) -> Tensor:
    gate, up = run_linear(ffn.gate_proj, x), run_linear(ffn.up_proj, x)
    return run_linear(ffn.down_proj, ffn.inner_norm(functional.gelu(gate) * up))


def run_linear(module: nn.Module, x: Tensor) -> Tensor:
    """Run a linear map as torch does, whatever the module makes of it."""
    linear = cast("nn.Linear", module)
    return functional.linear(x, linear.weight, linear.bias)


def _add(residual: Residual, x: Tensor, branch: Tensor, kept: Tensor | None) -> Tensor:
    if residual.gamma is not None:
        branch = residual.gamma * branch
    if kept is not None and residual.drops:
        branch = branch * (kept.to(branch.dtype) / (1 - residual.drop_rate))[:, None, None]
    return x + branch


def _adapt(model: OnePeace, name: str, inputs: Any, kept: Tensor | None) -> Part:
    adapt: Callable[..., Part] = _ADAPTERS[name]
    return adapt(model.adapters[name], inputs, kept)


def _adapt_text(adapter: TextAdapter, ids: Tensor, kept: Tensor | None) -> Part:
    x = torch.cat([adapter.cls_embedding.expand(len(ids), -1, -1), adapter.embed_tokens(ids)], dim=1)
    padding = torch.cat([torch.zeros_like(ids[:, :1], dtype=torch.bool), ids == PAD_ID], dim=1)
    x = x + adapter.positions[: x.shape[1]]
    biases = _spell_out(adapter.bias, token_buckets(x.shape[1], adapter.bucket_size, x.device), len(x))
    return _keep(x, padding, biases, kept)


def _adapt_image(adapter: ImageAdapter, pictures: Tensor, kept: Tensor | None) -> Part:
    stem = cast("nn.Sequential", adapter.stem)
    x = pictures
    for number in (0, 3, 6):
        conv = cast("nn.Conv2d", stem[number])
        x = functional.conv2d(x, conv.weight, conv.bias, stride=conv.stride)
        if number < 6:
            norm = cast("nn.LayerNorm", stem[number + 1].norm)
            x = functional.layer_norm(x.permute(0, 2, 3, 1), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
            x = functional.gelu(x.permute(0, 3, 1, 2))
    x = torch.cat([adapter.cls_embedding.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = x + adapter.positions
    biases = _spell_out(adapter.bias, grid_buckets(adapter.grid_size, x.device), len(x))
    return _keep(x, x.new_zeros(x.shape[:2], dtype=torch.bool), biases, kept)


def _adapt_audio(adapter: AudioAdapter, clips: Waveforms, kept: Tensor | None) -> Part:
    x = clips.samples[:, None]
    for block in adapter.extractor:
        conv, norm = cast("ExtractorBlock", block).conv, cast("ExtractorBlock", block).norm
        x = functional.conv1d(x, conv.weight, conv.bias, stride=conv.stride)
        x = functional.gelu(norm(x.transpose(1, 2)).transpose(1, 2))
    frames = run_linear(adapter.extractor_proj, adapter.extractor_norm(x.transpose(1, 2)))
    padding = clips.padding_mask
    biases = _spell_out(adapter.bias, token_buckets(padding.shape[1], adapter.options.bucket_size, x.device), len(x))
    if kept is not None:
        slots, padding = kept.masked_fill(kept < 0, 1), kept < 0
        frames = frames.gather(1, (slots[:, 1:, None] - 1).expand(-1, -1, frames.shape[-1]))
        biases = [_keep_bias(bias, slots) for bias in biases]
    position = frames.transpose(1, 2)
    for position_conv in adapter.position_convs.values():
        convolved = position_conv(position.masked_fill(padding[:, None, 1:], 0))[..., : position.shape[2]]
        normed = functional.layer_norm(convolved.transpose(1, 2), convolved.shape[1:2])
        position = functional.gelu(normed.transpose(1, 2))
    x = torch.cat([adapter.cls_embedding.expand(len(x), -1, -1), frames], dim=1)
    x = x + torch.cat([adapter.cls_position.expand(len(x), -1, -1), position.transpose(1, 2)], dim=1)
    return Part(x.masked_fill(padding[..., None], 0), padding, biases)


_ADAPTERS: Mapping[str, Callable[..., Part]] = {"text": _adapt_text, "image": _adapt_image, "audio": _adapt_audio}


def _spell_out(relative: RelativeTables, buckets: Tensor, batch: int) -> list[Tensor]:
    spelled = [functional.embedding(buckets, table).permute(2, 0, 1) for table in relative.tables]
    return [bias.unsqueeze(0).expand(batch, -1, -1, -1).contiguous() for bias in spelled]


def _keep(x: Tensor, padding: Tensor, biases: Sequence[Tensor], kept: Tensor | None) -> Part:
    x = x.masked_fill(padding[..., None], 0)
    if kept is None:
        return Part(x, padding, biases)
    slots, is_empty = kept.clamp(min=0), kept < 0
    x = x.gather(1, slots[..., None].expand(-1, -1, x.shape[-1]))
    return Part(x.masked_fill(is_empty[..., None], 0), is_empty, [_keep_bias(bias, slots) for bias in biases])


def _keep_bias(bias: Tensor, slots: Tensor) -> Tensor:
    heads, length, count = bias.shape[1], bias.shape[-1], slots.shape[1]
    rows = bias.gather(2, slots[:, None, :, None].expand(-1, heads, -1, length))
    return rows.gather(3, slots[:, None, None, :].expand(-1, heads, count, -1))
