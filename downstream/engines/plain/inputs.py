"""Sources to batches: read, transform, collate, each file of a batch once however many of its sequences share it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downstream.engines.plain.settings import InputSettings
from downstream.engines.plain.units import Source, Unit
from models.augment import draw_crop
from models.batch import Shared
from models.config import ModelConfig, unknown_name
from models.modalities import load_modality
from models.modalities.image import SecondImages
from models.tokenizer import Tokenizer

Pass = dict[str, Any]
"""By modality, what its adapter takes."""


@dataclass(frozen=True)
class Crop:
    """Random parts of pictures, in training."""

    scale: tuple[float, float]
    """Least and greatest share of the area."""
    seed: int

    def __call__(self, picture: Any, *, number: int) -> Any:
        """Cut a picture; `number` says which of all that are ever cut."""
        rng = np.random.default_rng((self.seed, number))
        return picture.crop(draw_crop(picture.size, self.scale, rng=rng))


class Preparer:
    """Makes batches of one model's inputs.

    Args:
        config: of the model.
        inputs: by modality, its protocol.
        tokenizer: needed for texts.

    Raises:
        ValueError: an unknown protocol, an argument that it does not take, or texts without a tokenizer.
    """

    def __init__(
        self, config: ModelConfig, inputs: Mapping[str, InputSettings], tokenizer: Tokenizer | None = None
    ) -> None:
        self.options = config.modalities
        self.inputs = dict(inputs)
        self._transforms = {name: _find_transform(name, settings, tokenizer) for name, settings in inputs.items()}
        self._texts: dict[tuple[str, str], Tensor] = {}

    def measure(self, unit: Unit, lengths: Mapping[Path, float]) -> tuple[float, ...]:
        """Give numbers that are close for units of nearly the same length: tokens of texts, seconds of sounds."""
        sources = [(name, source) for sources in unit.passes for name, source in sources]
        return tuple(
            lengths.get(source, 0.0) if isinstance(source, Path) else float(len(self.transform(name, source)))
            for name, source in sources
        )

    def transform(self, name: str, source: Source, crop: Callable[[Any], Any] | None = None) -> Tensor:
        """Read and prepare one source; texts, which are short, once and for all.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file that cannot be decoded.
        """
        if isinstance(source, str):
            if (name, source) not in self._texts:
                self._texts[name, source] = self._transforms[name](load_modality(name).read(source))
            return self._texts[name, source]
        decoded = load_modality(name).read(source)
        tensor: Tensor = self._transforms[name](decoded if crop is None or name != "image" else crop(decoded))
        return tensor

    def collate(self, units: Sequence[Unit], *, crop: Crop | None = None, first_number: int = 0) -> list[Pass]:
        """Batch units of one signature: for each pass, its inputs by modality.

        Args:
            units: at least one.
            crop: of pictures, in training.
            first_number: of the first unit among all that are ever cropped.
        """
        if len({unit.signature for unit in units}) != 1:
            raise ValueError("units of different modalities do not make one batch")
        passes = []
        for number, names in enumerate(units[0].signature):
            columns = ([dict(unit.passes[number])[name] for unit in units] for name in names)
            passes.append(
                {
                    name: self._batch(name, column, crop=crop, first_number=first_number, is_second=number > 0)
                    for name, column in zip(names, columns, strict=True)
                }
            )
        return passes

    def _batch(
        self, name: str, sources: Sequence[Source], *, crop: Crop | None, first_number: int, is_second: bool
    ) -> Any:
        """Batch the distinct sources of a modality, and say which sequence has which."""
        distinct: dict[Source, int] = {}
        rows = [distinct.setdefault(source, len(distinct)) for source in sources]
        first = {source: rows.index(place) for source, place in distinct.items()}
        examples = [
            self.transform(name, source, None if crop is None else partial(crop, number=first_number + first[source]))
            for source in distinct
        ]
        batch = load_modality(name).collate(examples, self.options[name])
        if is_second and name == "image" and self.options[name].get("has_type_embedding"):
            batch = SecondImages(batch)
        return batch if len(distinct) == len(sources) else Shared(batch, torch.tensor(rows))


def _find_transform(name: str, settings: InputSettings, tokenizer: Tokenizer | None) -> Callable[[Any], Tensor]:
    modality = load_modality(name)
    if settings.protocol not in modality.transforms:
        raise ValueError(unknown_name(f"protocol of {name}", settings.protocol, modality.transforms))
    transform = modality.transforms[settings.protocol]
    taken = list(inspect.signature(transform).parameters)[1:]
    arguments: dict[str, Any] = dict(settings.arguments)
    if "tokenizer" in taken:
        if tokenizer is None:
            raise ValueError(f"protocol {settings.protocol!r} of {name} needs a vocabulary, and this model has none")
        arguments["tokenizer"] = tokenizer
    for argument in arguments:
        if argument not in taken:
            raise ValueError(f"protocol {settings.protocol!r}: {unknown_name('argument', argument, taken)}")
    return partial(transform, **arguments)
