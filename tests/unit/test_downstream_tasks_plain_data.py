"""A split is opened with everything that its number depends on: what it is, how much of it, and what differs."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from downstream.tasks.base import RunOptions
from downstream.tasks.plain import find_task
from downstream.tasks.plain_data import SplitData, open_split, open_training_set
from downstream.workplace import Workplace
from miniworld.benchmarks import WRITERS

Open = Callable[..., SplitData]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for name in ("esc50", "audiocaps", "coco"):
        WRITERS[name](folder, scale=0.03)
    return folder


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path, tmp_path, "", is_resumed=False, say=lambda _: None, progress=lambda *_: None)


@pytest.fixture
def opened(workplace: Workplace) -> Open:
    def call(name: str, root: Path, split: str, *, is_judged: bool = True, limit: float | None = None) -> SplitData:
        task, config = find_task(name)
        options = RunOptions(data_root=root, limit=limit)
        return open_split(task, config, split, options=options, workplace=workplace, is_judged=is_judged)

    return call


def as_genuine(source: Path, target: Path) -> Path:
    """Copy a drawn data set without what says that it was drawn."""
    shutil.copytree(source, target)
    (target / "miniworld.json").unlink()
    return target


def test_drawn_data_says_so_and_differs_from_nothing(opened: Open, world: Path) -> None:
    for root in (world, world / "ESC-50-master", world / "ESC-50-master" / "esc50.tsv"):
        info = opened("esc50", root, "all").info
        assert (info.name, info.version) == ("ESC-50 layout of the miniworld", "miniworld")
        assert info.n == info.n_expected == 85
        assert info.differences == ()


def test_the_users_data_is_held_to_what_is_published(opened: Open, world: Path, tmp_path: Path) -> None:
    info = opened("esc50", as_genuine(world / "ESC-50-master", tmp_path / "copy"), "all").info
    assert (info.name, info.version) == ("ESC-50", "ESC-50 (2000 clips)")
    assert (info.n, info.n_expected) == (85, 2000)
    assert info.differences == (
        "85 samples are listed, 2000 are published",
        "17 classes are named, 50 are published",
        "85 clips are not at 44100 Hz, the first 1-100000-A-0.wav at 16000 Hz",
    )


def test_a_limit_holds_for_what_is_judged_alone(opened: Open, world: Path) -> None:
    whole = opened("coco", world, "test").samples
    few = opened("coco", world, "test", limit=3)
    assert few.samples == whole[:3]
    assert (few.info.n, few.info.is_complete) == (3, False)
    assert opened("coco", world, "test", limit=3, is_judged=False).samples == whole
    assert set(few.digests) == {sample.media for sample in few.samples}, "no other file is opened"


def test_the_digest_follows_content_and_not_place(opened: Open, world: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(world / "audiocaps", root)
    before = opened("audiocaps", world, "test").info.digest
    assert opened("audiocaps", root, "test").info.digest == before
    listed = root / "dataset" / "test.csv"
    content = listed.read_text()
    listed.write_text(content.rstrip("\r\n") + " indeed\n")
    assert opened("audiocaps", root, "test").info.digest != before, "another caption"
    listed.write_text(content, newline="")
    first, second = sorted((root / "audio" / "test").iterdir())[:2]
    shutil.copyfile(first, second)
    assert opened("audiocaps", root, "test").info.digest != before, "another sound"


def test_ids_are_the_same_in_both_layouts_and_lists_are_not(opened: Open, world: Path) -> None:
    root = world / "audiocaps"
    original, table = (opened("audiocaps", each, "test") for each in (root, root / "audiocaps_test_new.tsv"))
    assert original.info.ids_sha256 == table.info.ids_sha256
    assert original.info.digest != table.info.digest


def test_lengths_are_seconds_and_sizes_are_pixels(opened: Open, world: Path) -> None:
    sounds, pictures = opened("audiocaps", world, "test"), opened("coco", world, "test")
    assert all(0.9 < seconds < 5 for seconds in sounds.lengths.values())
    assert set(pictures.sizes.values()) == {(72, 72)}


def test_a_file_that_cannot_be_decoded_is_named_with_its_row(opened: Open, world: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(world / "ESC-50-master", root)
    bad = sorted((root / "audio").iterdir())[2]
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"listed in meta/esc50\.csv, line 4$") as caught:
        opened("esc50", root, "all")
    assert str(caught.value).startswith(str(bad))
    assert "\n" not in str(caught.value)


def test_a_training_set_is_the_training_split_of_the_task_that_is_named(world: Path, workplace: Workplace) -> None:
    task, config = find_task("coco")
    options = RunOptions(data_root=world, limit=2)
    data = open_training_set("audiocaps", task, config, options=options, workplace=workplace)
    assert data.info.name == "AudioCaps layout of the miniworld"
    assert len(data.samples) > 2


def test_a_table_that_a_recipe_names_is_known_by_its_captions_too(
    world: Path, workplace: Workplace, tmp_path: Path
) -> None:
    task, config = find_task("audiocaps")
    folder = tmp_path / "merged"
    shutil.copytree(world / "audiocaps" / "audio", folder / "audio")
    table = folder / "all.tsv"
    shutil.copyfile(world / "audiocaps" / "audiocaps_train_new.tsv", table)

    def read() -> SplitData:
        options = RunOptions(data_root=tmp_path)
        return open_training_set("merged/all.tsv", task, config, options=options, workplace=workplace)

    before = read()
    assert (before.info.name, before.info.n_expected) == ("all.tsv", None)
    assert len(before.samples) == before.info.n > 0
    rows = table.read_text().split("\n")
    rows[1] = rows[1].replace("\t", "\tA ", 2).replace("\tA ", "\t", 1)
    table.write_text("\n".join(rows))
    after = read()
    assert after.samples[0].captions != before.samples[0].captions
    assert after.info.digest != before.info.digest


def test_an_empty_split_is_missing_data(world: Path, workplace: Workplace) -> None:
    task, config = find_task("esc50")
    listing = task.read(world / "ESC-50-master", "all")
    bare = replace(task, read=lambda root, split: replace(listing, samples=()))
    with pytest.raises(FileNotFoundError, match="all of ESC-50 has no samples in"):
        open_split(bare, config, "all", options=RunOptions(data_root=world), workplace=workplace, is_judged=True)
