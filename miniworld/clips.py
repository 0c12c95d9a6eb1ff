"""One clip of one or several sounds, at the same time or one after another, and what is known about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from miniworld.samples import DURATIONS_MS, SAMPLE_RATE_HZ
from miniworld.signals import Signal, Span, normalise, swell
from miniworld.sound import PEAK, SOUNDS, Samples, Sound, compose_sound

TURN_MS: Final = (700, 1000)  # length of each sound where one follows another; two of them stay within 2 s
LOUDER_DB: Final = (-4.0, 4.0)  # of each sound of a clip, before they are added
FADE_S: Final = 0.01

VIDEO_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # as YouTube's
VIDEO_ID_LENGTH: Final = 11
DASH_SHARE: Final = 0.1  # how many ids begin with a dash, which command lines and careless readers trip over
LATEST_START_S: Final = 600


@dataclass(frozen=True)
class Heard:
    """One sound of a clip: its class, and how many events are in it (see `sound.Sound`)."""

    name: str
    num_events: int | None


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip with everything that is known about it.

    Attributes:
        heard: its sounds, in their order where one follows another.
        is_sequence: one follows another; else all are heard at the same time.
        samples: (samples,), at `samples.SAMPLE_RATE_HZ`, within [-1, 1).
    """

    heard: tuple[Heard, ...]
    is_sequence: bool
    samples: Samples

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Video:
    """Where a clip of a video would come from: an id as YouTube gives them, and the second it was cut at."""

    id: str
    start_s: int

    @property
    def stem(self) -> str:
        """Its name as VGGSound and AVQA have it."""
        return f"{self.id}_{self.start_s:06d}"


def compose_clip(names: Sequence[str], seed: int, *, is_sequence: bool = False) -> Clip:
    """Make the clip of 1 to 2 seconds that belongs to classes of sounds and a seed.

    Raises:
        ValueError: there is no such class, none is named, or more than two are to follow each other.
    """
    if not names or (is_sequence and len(names) > 2):
        raise ValueError(f"a clip of {len(names)} sounds; expected at least 1, and at most 2 one after another")
    rng = np.random.default_rng(seed)
    # Seconds in thousandths, so that a table tells them exactly.
    lengths_ms = rng.integers(*(TURN_MS if is_sequence else DURATIONS_MS), endpoint=True, size=len(names)).tolist()
    sounds = [
        compose_sound(name, int(rng.integers(2**63)), duration_s=length_ms / 1000, sample_rate_hz=SAMPLE_RATE_HZ)
        for name, length_ms in zip(names, lengths_ms if is_sequence else lengths_ms[:1] * len(names), strict=True)
    ]
    heard = tuple(Heard(sound.name, sound.num_events) for sound in sounds)
    return Clip(heard, is_sequence, _put_together(rng, sounds, is_sequence=is_sequence))


def _put_together(rng: np.random.Generator, sounds: Sequence[Sound], *, is_sequence: bool) -> Samples:
    parts = [_level(rng, sound.samples) for sound in sounds]
    total: Signal = np.concatenate([_fade(part) for part in parts]) if is_sequence else np.sum(parts, axis=0)
    gain = float(rng.uniform(*PEAK)) / float(np.abs(total).max())
    return (total * gain).astype(np.float32)


def _level(rng: np.random.Generator, samples: Samples) -> Signal:
    return normalise(samples.astype(np.float64)) * 10 ** (float(rng.uniform(*LOUDER_DB)) / 20)


def _fade(part: Signal) -> Signal:
    return part * swell(Span(len(part), SAMPLE_RATE_HZ), attack_s=FADE_S, release_s=FADE_S)


def pick_names(rng: np.random.Generator, num_sounds: int, *, first: str | None = None) -> tuple[str, ...]:
    """Choose so many different classes of sounds, beginning with `first` if it is given."""
    drawn = [SOUNDS[place].name for place in rng.permutation(len(SOUNDS)).tolist()]
    begin = drawn[:1] if first is None else [first]
    return tuple([*begin, *(name for name in drawn if name not in begin)][:num_sounds])


def name_video(rng: np.random.Generator) -> Video:
    """Invent the video that a clip would come from."""
    letters = [VIDEO_CHARACTERS[place] for place in rng.integers(len(VIDEO_CHARACTERS), size=VIDEO_ID_LENGTH).tolist()]
    if rng.random() < DASH_SHARE:
        letters[0] = "-"
    return Video("".join(letters), int(rng.integers(LATEST_START_S)))
