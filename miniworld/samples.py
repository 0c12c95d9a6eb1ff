"""Single pairs of picture and sentence or sound and sentence, in the bytes that go into a file."""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import soundfile
from PIL import Image

from miniworld.pairs import draw_pair_scene
from miniworld.scene import Thing
from miniworld.sentence import describe_scene, describe_sound
from miniworld.sound import SOUNDS, Samples, SoundClass, compose_sound

SAMPLE_RATE_HZ: Final = 16_000
DURATIONS_MS: Final = (1000, 2000)
LOWEST_SCORE: Final = 0.3
HIGHEST_SCORE: Final = 0.45

STREAMS: Final = ("picture", "sound", "test-picture", "test-sound")
FIRST_STREAM: Final = 16  # below it lie the splits of `layouts.scene_seed`


@dataclass(frozen=True)
class PictureSample:
    """A picture with its sentences.

    Attributes:
        key: its name in every layout.
        jpeg: the encoded picture.
        captions: as many different sentences as were asked for; the same one twice where chance has it.
        score: a made-up number where real pairs have the similarity that CLIP gave them.
    """

    key: str
    jpeg: bytes
    captions: tuple[str, ...]
    things: tuple[Thing, ...]
    side_px: int
    score: float


@dataclass(frozen=True, eq=False)
class SoundSample:
    """A sound with its sentence; `key` is its name in every layout but ESC-50's."""

    key: str
    sound: SoundClass
    samples: Samples
    caption: str

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


def pair_seed(seed: int, stream: str, *, index: int) -> int:
    """Derive the seed of one sample: no two streams share any, and asking for more leaves the first ones alone."""
    if stream not in STREAMS:
        raise ValueError(f"unknown stream {stream!r}; expected one of: {', '.join(STREAMS)}")
    key = (FIRST_STREAM + STREAMS.index(stream), index)
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])


def make_picture(seed: int, index: int, *, side_px: int, is_test: bool = False) -> PictureSample:
    """Make one picture with one sentence, or with two for the test part."""
    stream = "test-picture" if is_test else "picture"
    own_seed = pair_seed(seed, stream, index=index)
    scene = draw_pair_scene(own_seed, width_px=side_px, height_px=side_px)
    rng = np.random.default_rng([own_seed, 1])  # apart from the picture's, so that new words leave its pixels alone
    captions = tuple(describe_scene(scene, rng) for _ in range(2 if is_test else 1))
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", quality=90, subsampling=0)
    score = round(float(rng.uniform(LOWEST_SCORE, HIGHEST_SCORE)), 4)
    return PictureSample(f"{stream}-{index:06d}", buffer.getvalue(), captions, scene.things, side_px, score)


def make_sound(seed: int, index: int, *, is_test: bool = False) -> SoundSample:
    """Make one sound with its sentence; the classes take turns."""
    stream, found = "test-sound" if is_test else "sound", SOUNDS[index % len(SOUNDS)]
    own_seed = pair_seed(seed, stream, index=index)
    rng = np.random.default_rng([own_seed, 1])
    duration_s = int(rng.integers(DURATIONS_MS[0], DURATIONS_MS[1] + 1)) / 1000
    composed = compose_sound(found.name, own_seed, duration_s=duration_s, sample_rate_hz=SAMPLE_RATE_HZ)
    caption = describe_sound(found.name, rng, num_events=composed.num_events)
    return SoundSample(f"{stream}-{index:06d}", found, composed.samples, caption)


def encode_sound(samples: Samples, kind: str) -> bytes:
    """Encode a sound as "FLAC" or "WAV" of 16 bits."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE_HZ, format=kind, subtype="PCM_16")
    return buffer.getvalue()
