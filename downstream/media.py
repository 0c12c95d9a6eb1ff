"""Every picture or sound of a run, opened and decoded once before anything is computed."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import soundfile

from downstream.formats.base import MissingDataError, Sample
from downstream.formats.tables import on_one_line
from models.config import unknown_name
from models.modalities.audio import read_audio
from models.modalities.image import read_image

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MediaFacts:
    """What a file is; of a picture the sound's facts are None, and the other way round."""

    sha256: str
    """Of the content, hexadecimal."""
    sample_rate_hz: int | None = None
    num_channels: int | None = None
    duration_s: float | None = None
    width_px: int | None = None
    height_px: int | None = None


def check_media(
    samples: Sequence[Sample],
    modality: str,
    *,
    num_threads: int = 4,
    progress: Progress | None = None,
) -> dict[Path, MediaFacts]:
    """Open and decode every distinct file of some samples; what was decoded is not kept.

    Args:
        samples: their files are checked in this order.
        modality: `image` or `audio`.
        num_threads: files that are open at a time.
        progress: told after each file how many of how many are done.

    Returns:
        By path, in the order of the samples.

    Raises:
        ValueError: unknown modality, or a faulty file: of several the first in order, in one line from its path to
            the place that lists it.
        MissingDataError: a file is not there.
    """
    if modality not in _LOOKS:
        raise ValueError(unknown_name("modality", modality, _LOOKS))
    origins: dict[Path, str] = {}
    for sample in samples:
        for path in sample.files:
            origins.setdefault(path, sample.origin)
    look = _LOOKS[modality]
    facts: dict[Path, MediaFacts] = {}
    # The reader of pictures sets this filter for itself, which threads undo for each other; see `warnings`.
    with warnings.catch_warnings(action="ignore", category=UserWarning), ThreadPoolExecutor(num_threads) as pool:
        for path, found in zip(
            origins, pool.map(lambda path: _look_at(path, look, origins[path]), origins), strict=True
        ):
            facts[path] = found
            if progress is not None:
                progress(len(facts), len(origins))
    return facts


def describe_media(
    facts: Mapping[Path, MediaFacts], *, sample_rate_hz: int | None, num_channels: int | None = None
) -> tuple[str, ...]:
    """Say in a sentence each what differs from the published sample rate and number of channels.

    Args:
        facts: as `check_media` gives them; pictures are passed over.
        sample_rate_hz: None where none is published.
        num_channels: None where none is published.
    """
    found = []
    rates = {
        path: fact.sample_rate_hz for path, fact in facts.items() if fact.sample_rate_hz not in (None, sample_rate_hz)
    }
    if sample_rate_hz is not None and rates:
        path, rate = next(iter(rates.items()))
        verb = "clips are" if len(rates) > 1 else "clip is"
        found.append(on_one_line(f"{len(rates)} {verb} not at {sample_rate_hz} Hz, the first {path.name} at {rate} Hz"))
    channels = {
        path: fact.num_channels for path, fact in facts.items() if fact.num_channels not in (None, num_channels)
    }
    if num_channels is not None and channels:
        path, number = next(iter(channels.items()))
        others = f"{len(channels)} clips have" if len(channels) > 1 else "1 clip has"
        found.append(
            on_one_line(f"{others} another number of channels than {num_channels}, the first {path.name} has {number}")
        )
    return tuple(found)


def _look_at(path: Path, look: Callable[[Path], MediaFacts], origin: str) -> MediaFacts:
    try:
        return look(path)
    except FileNotFoundError:
        raise MissingDataError(on_one_line(f"{path} is missing; listed in {origin}")) from None
    except (ValueError, OSError) as error:
        told = str(error) if str(error).startswith(str(path)) else f"{path} cannot be read: {error}"
        raise ValueError(on_one_line(f"{told}; listed in {origin}")) from None


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _look_at_sound(path: Path) -> MediaFacts:
    samples, sample_rate_hz = read_audio(path)
    with path.open("rb") as stream:
        num_channels = int(soundfile.info(stream).channels)
    return MediaFacts(
        sha256=_hash(path),
        sample_rate_hz=sample_rate_hz,
        num_channels=num_channels,
        duration_s=len(samples) / sample_rate_hz,
    )


def _look_at_picture(path: Path) -> MediaFacts:
    width, height = read_image(path).size
    return MediaFacts(sha256=_hash(path), width_px=width, height_px=height)


_LOOKS: Final[Mapping[str, Callable[[Path], MediaFacts]]] = MappingProxyType(
    {"image": _look_at_picture, "audio": _look_at_sound}
)
