"""Clips with several sentences each, for the layouts of AudioCaps and Clotho."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from miniworld.clips import Clip, compose_clip, pick_names
from miniworld.phrases import describe_clip
from miniworld.samples import pair_seed
from miniworld.sentence import begin_sentence, say_differently
from miniworld.tables import SOUND_COLUMNS, Files, format_duration, format_json, format_table

TURN_SHARE: Final = 0.45  # how often one of two sounds follows the other


@dataclass(frozen=True, eq=False)
class CaptionedClip:
    """A clip, the sentences that are true of it, and what its layout may choose its names by."""

    clip: Clip
    captions: tuple[str, ...]
    rng: np.random.Generator


@dataclass(frozen=True)
class CaptionedFile:
    """A clip as tables list it; `audio` is relative to the data set's own folder."""

    uniq_id: str
    audio: str
    captions: tuple[str, ...]
    duration_s: float


def draw_captioned_clip(seed: int, stream: str, *, index: int, num_captions: int, alone_share: float) -> CaptionedClip:
    """Draw a clip of two sounds, or of one as often as `alone_share` has it, with different sentences about it."""
    own_seed = pair_seed(seed, stream, index=index)
    rng = np.random.default_rng([own_seed, 1])
    names = pick_names(rng, 1 if rng.random() < alone_share else 2)
    clip = compose_clip(names, own_seed, is_sequence=len(names) == 2 and bool(rng.random() < TURN_SHARE))
    said = say_differently(lambda: describe_clip(clip, rng), num_captions)
    return CaptionedClip(clip, tuple(begin_sentence(each) for each in said), rng)


def make_caption_table(name: str, files: Sequence[CaptionedFile]) -> Files:
    """Make the authors' table of a split: a row a caption."""
    rows = [
        (file.uniq_id, file.audio, caption, format_duration(file.duration_s))
        for file in files
        for caption in file.captions
    ]
    yield name, format_table(SOUND_COLUMNS, rows)


def make_caption_texts(name: str, files: Sequence[CaptionedFile]) -> Files:
    """Make what the authors keep beside the table of a judged split: all captions by id."""
    yield name, format_json({file.uniq_id: list(file.captions) for file in files})
