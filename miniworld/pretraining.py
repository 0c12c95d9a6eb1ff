"""Pictures and sounds with a sentence each, as pretraining reads them: shards of pairs and a held-out part to judge by.

`miniworld-pairs/`, from `write_pairs`:

    sizes.json                    {shard file name: number of samples}, the convention of webdataset and open_clip
    pictures-000000.tar ...       webdataset shards: picture-000000.jpg, .txt, .json, picture-000001.jpg, ...
                                  json: width, height, caption, score, things [{name, colour, box}]
    sounds-000000.tar ...         webdataset shards: sound-000000.flac, .txt, .json, ...
                                  json: label, concept (or null), duration (seconds), sample_rate (Hz), caption
    held_out/
        dataset_miniworld.json    Karpathy json, split test, two sentences a picture; `things`: those in it, by name
        images/                   test-picture-000000.jpg ...
        pictures.tsv              image_id image caption: a row a picture, its first sentence
        pictures_captions.json    {image_id: [both sentences]}
        audio/                    <fold>-<src_file>-<take>-<target>.wav, named as in ESC-50
        meta/esc50.csv            filename,fold,target,category,esc10,src_file,take
        sounds.tsv                uniq_id audio text duration
        sounds_captions.json      {uniq_id: [its sentence]}
        sound_concepts.json       {category: the thing in a picture that makes it, or null}

`miniworld-pair-tables/`, from `write_pair_tables`, holds the pairs of the shards under the same names and with the same
bytes as plain files: `images/`, `audio/`, `pictures.tsv`, `sounds.tsv` and `dataset_miniworld.json` (split train).

Paths in tables are relative to the folder that the table stands in.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from miniworld.esc50 import ESC50_COLUMNS, NUM_FOLDS, list_clip, name_clip
from miniworld.samples import PictureSample, SoundSample, encode_sound, make_picture, make_sound
from miniworld.scene import check_seed, check_size
from miniworld.shards import Kind, make_shards, plan_shards
from miniworld.sound import SOUNDS
from miniworld.tables import (
    PICTURE_COLUMNS,
    SOUND_COLUMNS,
    Files,
    format_csv,
    format_duration,
    format_json,
    format_table,
)
from miniworld.tree import write_tree

PAIRS_VERSION: Final = 3  # goes up with every change that moves a byte of these layouts


def write_pairs(
    root: Path,
    *,
    seed: int = 0,
    num_pictures: int = 16_000,
    num_sounds: int = 4_000,
    num_held_out: int = 500,
    clips_per_class: int = 15,
    side_px: int = 72,
    samples_per_shard: int = 768,
    num_workers: int = 2,
) -> Path:
    """Write `miniworld-pairs` below `root`; the layout stands at the top of this module.

    No held-out sample is a training sample, and asking for more of anything leaves the first ones alone.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_pictures: training pictures.
        num_sounds: training sounds; the classes take turns.
        num_held_out: held-out pictures.
        clips_per_class: held-out sounds of every class, a multiple of 5 as ESC-50 has 5 folds.
        side_px: width and height of all pictures.
        samples_per_shard: of every shard but the last of a kind.
        num_workers: processes; changes no byte. Above 1, the caller's script needs the usual `__main__` guard.

    Returns:
        The folder `miniworld-pairs`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {
        "num_pictures": num_pictures,
        "num_sounds": num_sounds,
        "num_held_out": num_held_out,
        "clips_per_class": clips_per_class,
        "samples_per_shard": samples_per_shard,
    }
    _check_order(seed, side_px, counts={**counts, "num_workers": num_workers})
    if clips_per_class % NUM_FOLDS:
        raise ValueError(f"clips_per_class is {clips_per_class}; expected a multiple of {NUM_FOLDS}, one for each fold")
    wanted: dict[Kind, int] = {"pictures": num_pictures, "sounds": num_sounds}
    shards = [
        shard
        for kind, count in wanted.items()
        for shard in plan_shards(kind, count, seed=seed, side_px=side_px, samples_per_shard=samples_per_shard)
    ]

    def make_files() -> Files:
        yield from make_shards(shards, num_workers=num_workers)
        yield "sizes.json", format_json({shard.name: shard.num_samples for shard in shards})
        pictures = (make_picture(seed, index, side_px=side_px, is_test=True) for index in range(num_held_out))
        sounds = (make_sound(seed, index, is_test=True) for index in range(clips_per_class * len(SOUNDS)))
        for name, content in (*_make_held_out_pictures(pictures), *_make_held_out_sounds(sounds)):
            yield f"held_out/{name}", content

    recipe = _make_recipe("pairs", seed, counts=counts, side_px=side_px)
    return write_tree(root / "miniworld-pairs", recipe, files=make_files())


def write_pair_tables(
    root: Path,
    *,
    seed: int = 0,
    num_pictures: int = 600,
    num_sounds: int = 200,
    side_px: int = 72,
) -> Path:
    """Write `miniworld-pair-tables` below `root`: pairs of the shards as plain files with authors' tables.

    Returns:
        The folder `miniworld-pair-tables`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"num_pictures": num_pictures, "num_sounds": num_sounds}
    _check_order(seed, side_px, counts=counts)

    def make_files() -> Files:
        yield from _make_pictures((make_picture(seed, i, side_px=side_px) for i in range(num_pictures)), split="train")
        rows = []
        for sound in (make_sound(seed, index) for index in range(num_sounds)):
            yield f"audio/{sound.key}.flac", encode_sound(sound.samples, "FLAC")
            rows.append((sound.key, f"audio/{sound.key}.flac", sound.caption, format_duration(sound.duration_s)))
        yield "sounds.tsv", format_table(SOUND_COLUMNS, rows)

    recipe = _make_recipe("pair-tables", seed, counts=counts, side_px=side_px)
    return write_tree(root / "miniworld-pair-tables", recipe, files=make_files())


def _check_order(seed: int, side_px: int, *, counts: dict[str, int]) -> None:
    check_seed(seed)
    check_size(side_px, side_px)
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; expected at least 1")


def _make_recipe(layout: str, seed: int, *, counts: dict[str, int], side_px: int) -> dict[str, str | int]:
    return {
        "generator": "miniworld",
        "version": PAIRS_VERSION,
        "layout": layout,
        "seed": seed,
        **counts,
        "side_px": side_px,
    }


def _make_pictures(pictures: Iterable[PictureSample], *, split: str) -> Files:
    """Make picture files with the Karpathy json and the authors' table that list them."""
    images: list[dict[str, Any]] = []
    rows = []
    num_sentences = 0
    for imgid, picture in enumerate(pictures):
        yield f"images/{picture.key}.jpg", picture.jpeg
        images.append(_make_karpathy_image(picture, split, imgid=imgid, first_sentid=num_sentences))
        rows.append((picture.key, f"images/{picture.key}.jpg", picture.captions[0]))
        num_sentences += len(picture.captions)
    yield "dataset_miniworld.json", format_json({"images": images, "dataset": "miniworld"})
    yield "pictures.tsv", format_table(PICTURE_COLUMNS, rows)


def _make_held_out_pictures(pictures: Iterable[PictureSample]) -> Files:
    held = list(pictures)
    yield from _make_pictures(held, split="test")
    yield "pictures_captions.json", format_json({picture.key: list(picture.captions) for picture in held})


def _make_karpathy_image(picture: PictureSample, split: str, *, imgid: int, first_sentid: int) -> dict[str, Any]:
    sentids = [first_sentid + number for number in range(len(picture.captions))]
    return {
        "filename": f"{picture.key}.jpg",
        "imgid": imgid,
        "split": split,
        "sentids": sentids,
        "sentences": [
            {"raw": caption, "tokens": caption.replace(",", "").split(), "imgid": imgid, "sentid": sentid}
            for caption, sentid in zip(picture.captions, sentids, strict=True)
        ],
        "things": [thing.name for thing in picture.things],
    }


def _make_held_out_sounds(sounds: Iterable[SoundSample]) -> Files:
    """Make sound files with ESC-50's list and the authors' table; a class's clips go round the folds."""
    listing, rows, captions = [], [], {}
    for index, sound in enumerate(sounds):
        clip = name_clip(index)
        yield f"audio/{clip.stem}.wav", encode_sound(sound.samples, "WAV")
        listing.append(list_clip(clip))
        rows.append((clip.stem, f"audio/{clip.stem}.wav", sound.caption, format_duration(sound.duration_s)))
        captions[clip.stem] = [sound.caption]
    yield "meta/esc50.csv", format_csv(ESC50_COLUMNS, sorted(listing))
    yield "sounds.tsv", format_table(SOUND_COLUMNS, sorted(rows))
    yield "sounds_captions.json", format_json(dict(sorted(captions.items())))
    yield "sound_concepts.json", format_json({sound.name: sound.concept for sound in SOUNDS})
