"""Estimates what a branch needs on a device to embed, from its sizes; without torch."""

from collections.abc import Iterable, Mapping
from typing import Final

from models.config import ModelConfig

BATCH_SIZES: Final[Mapping[str, int]] = {"text": 32, "image": 32, "audio": 8}
"""By modality, how many samples are embedded at a time where nothing else is said."""
MAX_TEXT_TOKENS: Final = 72  # class, 70 tokens, end; models/modalities/text.py
MAX_AUDIO_S: Final = 15.0  # models/modalities/audio.py
SAMPLE_RATE_HZ: Final = 16_000  # models/modalities/audio.py
WIDE_VALUES = 3  # of the feed-forward's width that stand at once, for each token
NARROW_VALUES = 3  # of the token's own width beside them
STEM_VALUES = 3  # windows, their products and what they were cut from, as multiples of the first convolution's output


def longest_tokens(config: ModelConfig, *, max_duration_s: float, text_tokens: int | None) -> dict[str, int]:
    """Give the longest sequences of a model's modalities, the class included.

    Raises:
        ValueError: a modality whose length is not known here.
    """
    tokens = {}
    for name, options in config.modalities.items():
        if name == "text":
            tokens[name] = min(text_tokens or MAX_TEXT_TOKENS, int(options["max_positions"]))
        elif name == "image":
            tokens[name] = int(options["bias_grid_size"]) ** 2 + 1
        elif name == "audio":
            tokens[name] = _count_frames(int(max_duration_s * SAMPLE_RATE_HZ), options["extractor"]) + 1
        else:
            raise ValueError(f"the tokens of modality {name!r} are not known; expected text, image or audio")
    return tokens


def _count_frames(num_samples: int, extractor: Iterable[tuple[int, int, int]]) -> int:
    for _, kernel, stride in extractor:
        num_samples = (num_samples - kernel) // stride + 1
    return num_samples


def embed_bytes(config: ModelConfig, name: str, *, num_parameters: int, bytes_per_value: int) -> int:
    """Estimate what a branch needs to embed: its weights, and its largest batch of the longest samples.

    Args:
        config: of the model.
        name: modality.
        num_parameters: of the branch, the shared encoder included.
        bytes_per_value: of weights and of what is computed, 2 for bfloat16.

    Raises:
        ValueError: a modality whose length is not known here.
    """
    tokens = longest_tokens(config.branch(name), max_duration_s=MAX_AUDIO_S, text_tokens=None)[name]
    batch_size = BATCH_SIZES[name]
    batch = forward_bytes(config, name, tokens=tokens, batch_size=batch_size, bytes_per_value=bytes_per_value)
    return bytes_per_value * num_parameters + batch


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
