"""What all benchmarks have in common: every byte from the seed, nothing that pretraining saw, tables that are true."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from miniworld.benchmarks import WRITERS
from miniworld.samples import FIRST_STREAM, STREAMS

SCALE = 0.01
MEDIA = (".wav", ".flac", ".jpg", ".JPEG", ".png")
PICTURES = ("coco", "flickr30k", "refcoco", "refcoco_plus", "refcocog", "imagenet", "vqav2", "nlvr2")
NUM_TABLES = {"esc50": 1, "vggsound": 2, "avqa": 2, "refcoco": 4, "refcoco_plus": 4, "vqav2": 2}
SPLIT_STREAMS = {name: [stream for stream in STREAMS if stream.split("-")[0] == name] for name in WRITERS}


ASKED: dict[str, set[str]] = {}  # streams, by benchmark


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("world")
    return lambda name: _write_watched(root, name)


def _write_watched(root: Path, name: str) -> Path:
    """Write a benchmark, or reuse it, and note which streams its samples are drawn from."""
    real, asked = np.random.SeedSequence, ASKED.setdefault(name, set())

    def watch(seed: int, *, spawn_key: tuple[int, ...]) -> Any:
        asked.add(STREAMS[spawn_key[0] - FIRST_STREAM])
        return real(seed, spawn_key=spawn_key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "SeedSequence", watch)
        return WRITERS[name](root, scale=SCALE)


def _media(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.suffix in MEDIA}


def _tables(tree: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for path in sorted(tree.glob("*.tsv")):
        with path.open(newline="", encoding="utf-8") as file:
            found[path.name] = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return found


def test_all_fourteen_are_there() -> None:
    assert list(WRITERS) == ["esc50", "fsd50k", "vggsound", "audiocaps", "clotho", "avqa", *PICTURES]


@pytest.mark.parametrize("name", WRITERS)
def test_same_arguments_give_the_same_bytes(name: str, trees: Callable[[str], Path], tmp_path: Path) -> None:
    tree, again = trees(name), WRITERS[name](tmp_path, scale=SCALE)
    assert again.parent == tmp_path
    files = [path.relative_to(tree) for path in tree.rglob("*") if path.is_file()]
    assert len(files) == json.loads((tree / "miniworld.json").read_text())["num_files"] + 1
    assert all((again / file).read_bytes() == (tree / file).read_bytes() for file in files)


@pytest.mark.parametrize("name", WRITERS)
def test_another_seed_gives_other_samples(name: str, trees: Callable[[str], Path], tmp_path: Path) -> None:
    first, other = _media(trees(name)), _media(WRITERS[name](tmp_path, scale=SCALE, seed=1))
    assert not set(first.values()) & set(other.values())


@pytest.mark.parametrize("name", WRITERS)
def test_no_sample_is_drawn_from_what_pretraining_or_another_benchmark_draws(
    name: str, trees: Callable[[str], Path]
) -> None:
    trees(name)
    assert sorted(ASKED[name]) == sorted(SPLIT_STREAMS[name])
    assert not ASKED[name] & {"picture", "sound", "test-picture", "test-sound"}


@pytest.mark.parametrize("name", WRITERS)
def test_no_two_samples_are_the_same(name: str, trees: Callable[[str], Path]) -> None:
    media = _media(trees(name))
    assert len({hashlib.sha256(content).digest() for content in media.values()}) == len(media)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "imagenet"])
def test_tables_name_every_file_and_no_other(name: str, trees: Callable[[str], Path]) -> None:
    tree = trees(name)
    tables = _tables(tree)
    columns = ("audio", "image", "image1", "image2")
    listed = [{row[column] for row in table for column in columns if column in row} for table in tables.values()]
    assert len(tables) == NUM_TABLES.get(name, 3)
    assert set().union(*listed) == set(_media(tree))
    assert sum(map(len, listed)) == len(_media(tree))


@pytest.mark.parametrize("name", ["esc50", "fsd50k", "vggsound", "audiocaps", "clotho", "avqa"])
def test_tables_of_sounds_tell_their_length(name: str, trees: Callable[[str], Path]) -> None:
    tree = trees(name)
    for row in (row for table in _tables(tree).values() for row in table):
        assert list(row) == ["uniq_id", "audio", "text", "duration"]
        info = soundfile.info(tree / row["audio"])
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert info.duration == pytest.approx(float(row["duration"]), abs=1e-4)
        assert 1.0 <= info.duration <= 2.0


@pytest.mark.parametrize("name", [name for name in PICTURES if name not in ("imagenet", "nlvr2")])
def test_pictures_are_small_and_in_colour(name: str, trees: Callable[[str], Path]) -> None:
    for path in trees(name).rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (72, 72))


@pytest.mark.parametrize("name", ["audiocaps", "clotho", "coco", "flickr30k"])
def test_captions_beside_a_table_are_those_of_its_rows(name: str, trees: Callable[[str], Path]) -> None:
    tree = trees(name)
    tables = _tables(tree)
    texts = sorted(tree.glob("*_texts.json"))
    assert len(texts) == 2
    for path in texts:
        split = path.name.removesuffix("_texts.json")
        rows = next(table for file, table in tables.items() if f"{split}_new.tsv" in file)
        said: dict[str, list[str]] = {}
        for row in rows:
            said.setdefault(row.get("uniq_id") or row["image_id"], []).append(row.get("text") or row["caption"])
        assert json.loads(path.read_text(encoding="utf-8")) == said
        assert all(len(set(each)) == len(each) >= 5 for each in said.values())


@pytest.mark.parametrize("name", WRITERS)
def test_a_complete_tree_is_reused(name: str, trees: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tree = trees(name)
    monkeypatch.setattr(np.random, "SeedSequence", _fail)
    assert WRITERS[name](tree.parent, scale=SCALE) == tree


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"scale": 0.0}, "scale is 0.0; expected a number above 0"),
        ({"scale": float("nan")}, "scale is nan"),
    ],
)
def test_impossible_orders_write_nothing(name: str, changes: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        WRITERS[name](tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def _fail(*args: object, **options: object) -> None:
    raise AssertionError("something was made that is already there")
