"""Shards of pairs: tar files in the convention of webdataset, the files of one sample side by side."""

import io
import itertools
import json
import multiprocessing
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from miniworld.samples import SAMPLE_RATE_HZ, PictureSample, SoundSample, encode_sound, make_picture, make_sound

Kind: TypeAlias = Literal["pictures", "sounds"]


@dataclass(frozen=True)
class Shard:
    """One shard to make: `num_samples` training samples from number `first` on."""

    name: str
    kind: Kind
    seed: int
    first: int
    num_samples: int
    side_px: int


def plan_shards(kind: Kind, num_samples: int, *, seed: int, side_px: int, samples_per_shard: int) -> tuple[Shard, ...]:
    """Cut samples into shards of equal size; what is left over makes a smaller last one."""
    firsts = range(0, num_samples, samples_per_shard)
    return tuple(
        Shard(f"{kind}-{number:06d}.tar", kind, seed, first, min(samples_per_shard, num_samples - first), side_px)
        for number, first in enumerate(firsts)
    )


def make_shards(shards: Sequence[Shard], *, num_workers: int) -> Iterator[tuple[str, bytes]]:
    """Make shards in their order, each as name and bytes, in several processes or in this one."""
    if num_workers == 1 or len(shards) == 1:
        yield from zip((shard.name for shard in shards), map(make_shard, shards), strict=True)
        return
    # A fork would copy the locks of whatever threads the caller has.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=num_workers, mp_context=fresh) as pool:
        yield from zip((shard.name for shard in shards), pool.map(make_shard, shards), strict=True)


def make_shard(shard: Shard) -> bytes:
    """Make one shard; the same bytes every time."""
    numbers = range(shard.first, shard.first + shard.num_samples)
    if shard.kind == "pictures":
        pictures = (make_picture(shard.seed, number, side_px=shard.side_px) for number in numbers)
        return _pack(itertools.chain.from_iterable(map(picture_files, pictures)))
    return _pack(itertools.chain.from_iterable(sound_files(make_sound(shard.seed, number)) for number in numbers))


def picture_files(picture: PictureSample) -> tuple[tuple[str, bytes], ...]:
    """Give the files of one picture: its pixels, its sentence, and what is known about it."""
    caption = picture.captions[0]
    facts = {
        "key": picture.key,
        "width": picture.side_px,
        "height": picture.side_px,
        "caption": caption,
        "score": picture.score,
        "things": [{"name": each.name, "colour": each.colour, "box": list(each.box_px)} for each in picture.things],
    }
    return (
        (f"{picture.key}.jpg", picture.jpeg),
        (f"{picture.key}.txt", caption.encode()),
        (f"{picture.key}.json", _dump(facts)),
    )


def sound_files(sound: SoundSample) -> tuple[tuple[str, bytes], ...]:
    """Give the files of one sound: its samples, its sentence, and what is known about it."""
    facts = {
        "key": sound.key,
        "label": sound.sound.name,
        "concept": sound.sound.concept,
        "duration": sound.duration_s,
        "sample_rate": SAMPLE_RATE_HZ,
        "caption": sound.caption,
    }
    return (
        (f"{sound.key}.flac", encode_sound(sound.samples, "FLAC")),
        (f"{sound.key}.txt", sound.caption.encode()),
        (f"{sound.key}.json", _dump(facts)),
    )


def _dump(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode()


def _pack(files: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)  # its time is 0 and its owner nobody, so the bytes follow from the seed
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
