"""Estimates what a branch needs on a device to embed, from its sizes; without torch."""

from collections.abc import Iterable

from models.config import ModelConfig

WIDE_VALUES = 3  # of the feed-forward's width that stand at once, for each token
NARROW_VALUES = 3  # of the token's own width beside them
STEM_VALUES = 3  # windows, their products and what they were cut from, as multiples of the first convolution's output


def forward_bytes(config: ModelConfig, name: str, *, tokens: int, batch_size: int, bytes_per_value: int) -> int:
    """Estimate the most that a pass without gradient needs beside the weights.

    Layers come one after the other and leave nothing, so that one counts. A sound's first convolution has a value for
    each of its channels 3 200 times a second: it needs more than a layer.

    Args:
        config: of the model.
        name: modality.
        tokens: of the longest sample, the class included.
        batch_size: samples at once.
        bytes_per_value: of the type that is computed in, 2 for bfloat16.

    Returns:
        Bytes, without what the device's own libraries take.
    """
    layer = tokens * (WIDE_VALUES * config.ffn_dim + NARROW_VALUES * config.embed_dim)
    extractor = config.modalities[name].get("extractor", ())
    stem = STEM_VALUES * _first_map(extractor, tokens - 1) if extractor else 0
    bias = config.num_heads * tokens**2
    return bytes_per_value * (batch_size * max(layer, stem) + bias)


def _first_map(extractor: Iterable[tuple[int, int, int]], frames: int) -> int:
    """Count what the first convolution gives, from the frames that the last one gives."""
    (width, *_), *others = extractor
    length = frames
    for _, kernel, stride in reversed(others):
        length = (length - 1) * stride + kernel
    return width * length
