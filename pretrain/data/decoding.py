"""From a raw sample to tensors: each modality read and transformed by its own protocol."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from models.augment import draw_crop
from models.config import ModelConfig, unknown_name
from models.modalities import load_modality
from models.modalities.image import PATCH_SIZE_PX, ImageOptions
from models.tokenizer import Tokenizer
from pretrain.data.config import DecodingConfig

Step = Callable[[Any, np.random.Generator], Tensor]


class Decoder:
    """Turns the fields of raw samples into tensors.

    Args:
        model: the size that is trained; it fixes resolution and length.
        config: protocols, crop, duration.
        names: modalities to decode.
        tokenizer: needed for text.

    Raises:
        ValueError: an unknown modality or protocol, one that the model lacks, or no tokenizer.
    """

    def __init__(
        self, model: ModelConfig, config: DecodingConfig, *, names: Iterable[str], tokenizer: Tokenizer | None
    ) -> None:
        self._steps = {name: _build_step(name, model, config=config, tokenizer=tokenizer) for name in names}

    def decode(self, fields: Mapping[str, bytes | Path | str], rng: np.random.Generator) -> dict[str, Tensor]:
        """Decode one sample.

        Args:
            fields: by modality, as a source gives them; text as a string or UTF-8.
            rng: the sample's own random numbers.

        Raises:
            FileNotFoundError: a path that leads nowhere.
            ValueError: content that cannot be decoded, or a text longer than the model.
        """
        return {name: step(fields[name], rng) for name, step in self._steps.items()}


def _build_step(name: str, model: ModelConfig, *, config: DecodingConfig, tokenizer: Tokenizer | None) -> Step:
    """Choose how one modality is decoded; one that needs nothing more is read and transformed."""
    if name not in model.modalities:
        raise ValueError(f"the data has {name!r}, but size {model.name!r} only {', '.join(model.modalities)}")
    modality = load_modality(name)
    protocol = config.protocols.get(name, "")
    if protocol not in modality.transforms:
        raise ValueError(f"modality {name!r}: {unknown_name('protocol', protocol, modality.transforms)}")
    read, transform = modality.read, modality.transforms[protocol]
    if name == "text":
        if tokenizer is None:
            raise ValueError("the data has texts, but there is no tokenizer; give that of the model's vocabulary")
        longest = int(model.modalities[name]["max_positions"]) - 1
        return partial(_decode_text, transform=partial(transform, tokenizer=tokenizer), longest=longest)
    if name == "image":
        grid = ImageOptions.parse(model.modalities[name], where=f"size {model.name!r}").bias_grid_size
        size_px = grid * PATCH_SIZE_PX
        return partial(_decode_image, read=read, transform=partial(transform, size_px=size_px), scale=config.crop_scale)
    if name == "audio":
        transform = partial(transform, max_duration_s=config.max_duration_s)
    return partial(_decode_plain, read=read, transform=transform)


def _decode_plain(
    source: Any, rng: np.random.Generator, *, read: Callable[[Any], Any], transform: Callable[[Any], Tensor]
) -> Tensor:
    del rng
    return transform(read(source))


def _decode_text(source: Any, rng: np.random.Generator, *, transform: Callable[[str], Tensor], longest: int) -> Tensor:
    del rng
    ids = transform(source.decode("utf-8") if isinstance(source, bytes) else source)
    if len(ids) > longest:
        raise ValueError(f"a text of {len(ids)} tokens, but the model has positions for {longest}")
    return ids


def _decode_image(
    source: Any,
    rng: np.random.Generator,
    *,
    read: Callable[[Any], Image.Image],
    transform: Callable[[Image.Image], Tensor],
    scale: tuple[float, float] | None,
) -> Tensor:
    picture = read(source)
    return transform(picture if scale is None else picture.crop(draw_crop(picture.size, scale, rng=rng)))
