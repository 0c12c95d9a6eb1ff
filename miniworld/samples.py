"""Single pairs of picture and sentence or sound and sentence, in the bytes that go into a file."""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import soundfile
from PIL import Image

from miniworld.canvas import Pixels
from miniworld.pairs import draw_pair_scene
from miniworld.scene import Scene, Thing
from miniworld.sentence import describe_scene, describe_sound, say_differently
from miniworld.sound import SOUNDS, Samples, SoundClass, compose_sound

SAMPLE_RATE_HZ: Final = 16_000
DURATIONS_MS: Final = (1000, 2000)
LOWEST_SCORE: Final = 0.3
HIGHEST_SCORE: Final = 0.45

# The place of a stream goes into its seeds: new ones stand at the end.
STREAMS: Final = (
    *("picture", "sound", "test-picture", "test-sound"),  # of pretraining; the others are the benchmarks', one a split
    "esc50",
    *("fsd50k-train", "fsd50k-val", "fsd50k-eval"),
    *("vggsound-train", "vggsound-test"),
    *("audiocaps-train", "audiocaps-val", "audiocaps-test"),
    *("clotho-development", "clotho-validation", "clotho-evaluation"),
    *("avqa-train", "avqa-val"),
    *("coco-train", "coco-restval", "coco-val", "coco-test"),
    *("flickr30k-train", "flickr30k-val", "flickr30k-test"),
    *("refcoco-train", "refcoco-val", "refcoco-testA", "refcoco-testB"),
    *("refcoco_plus-train", "refcoco_plus-val", "refcoco_plus-testA", "refcoco_plus-testB"),
    *("refcocog-train", "refcocog-val", "refcocog-test"),
    *("imagenet-train", "imagenet-val"),
    *("vqav2-train", "vqav2-val"),
    *("nlvr2-train", "nlvr2-dev", "nlvr2-test1"),
    *("coco_detection-train", "coco_detection-val"),
)
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
    """A sound with its sentence.

    Attributes:
        key: its name in the layouts of pretraining, but in ESC-50's.
        sound: its class.
        samples: (samples,), at `SAMPLE_RATE_HZ`.
        caption: a sentence that is true of it.
        num_events: see `sound.Sound`.
    """

    key: str
    sound: SoundClass
    samples: Samples
    caption: str
    num_events: int | None

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
    scene, rng = _draw_scene(own_seed, side_px=side_px)
    captions = tuple(describe_scene(scene, rng) for _ in range(2 if is_test else 1))
    return _finish_picture(f"{stream}-{index:06d}", scene, captions=captions, rng=rng)


def make_captioned_picture(seed: int, stream: str, *, index: int, side_px: int, num_captions: int) -> PictureSample:
    """Make one picture of any stream with so many different sentences."""
    own_seed = pair_seed(seed, stream, index=index)
    scene, rng = _draw_scene(own_seed, side_px=side_px)
    captions = say_differently(lambda: describe_scene(scene, rng), num_captions)
    return _finish_picture(f"{stream}-{index:06d}", scene, captions=captions, rng=rng)


def make_sound(seed: int, index: int, *, is_test: bool = False) -> SoundSample:
    """Make one sound with its sentence; the classes take turns."""
    return make_sound_of(seed, "test-sound" if is_test else "sound", index=index)


def make_sound_of(seed: int, stream: str, *, index: int) -> SoundSample:
    """Make one sound of any stream with its sentence; the classes take turns."""
    found = SOUNDS[index % len(SOUNDS)]
    own_seed = pair_seed(seed, stream, index=index)
    rng = np.random.default_rng([own_seed, 1])
    duration_s = int(rng.integers(DURATIONS_MS[0], DURATIONS_MS[1] + 1)) / 1000
    composed = compose_sound(found.name, own_seed, duration_s=duration_s, sample_rate_hz=SAMPLE_RATE_HZ)
    caption = describe_sound(found.name, rng, num_events=composed.num_events)
    return SoundSample(f"{stream}-{index:06d}", found, composed.samples, caption, composed.num_events)


def encode_sound(samples: Samples, kind: str) -> bytes:
    """Encode a sound as "FLAC" or "WAV" of 16 bits."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE_HZ, format=kind, subtype="PCM_16")
    return buffer.getvalue()


def encode_picture(image: Pixels, kind: str = "JPEG") -> bytes:
    """Encode a picture as "JPEG" or "PNG"."""
    buffer = io.BytesIO()
    options = {"quality": 90, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _draw_scene(own_seed: int, *, side_px: int) -> tuple[Scene, np.random.Generator]:
    """Draw a picture, and make what chooses its words: apart, so that new words leave the pixels alone."""
    scene = draw_pair_scene(own_seed, width_px=side_px, height_px=side_px)
    return scene, np.random.default_rng([own_seed, 1])


def _finish_picture(key: str, scene: Scene, *, captions: tuple[str, ...], rng: np.random.Generator) -> PictureSample:
    score = round(float(rng.uniform(LOWEST_SCORE, HIGHEST_SCORE)), 4)
    return PictureSample(key, encode_picture(scene.image), captions, scene.things, len(scene.image), score)
