"""VGGSound's layout: three lists without headers and two tables that agree."""

import csv
from pathlib import Path

import pytest

from miniworld.samples import encode_sound, make_sound_of
from miniworld.sound import SOUNDS
from miniworld.vggsound import LABELS, write_vggsound

COUNTS = {"train": 20, "test": 17}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {f"num_{split}": count for split, count in COUNTS.items()}
    return write_vggsound(tmp_path_factory.mktemp("world"), **counts)


def _read(tree: Path, name: str) -> list[list[str]]:
    with (tree / name).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _clips(tree: Path, split: str) -> dict[str, str]:
    return {f"{row[0]}_{int(row[1]):06d}": row[2] for row in _read(tree, "vggsound.csv") if row[3] == split}


def test_the_list_has_ids_starts_labels_and_splits_without_a_header(tree: Path) -> None:
    rows = _read(tree, "vggsound.csv")
    assert {split: sum(row[3] == split for row in rows) for split in COUNTS} == COUNTS
    assert all(len(row[0]) == 11 and row[1] == str(int(row[1])) for row in rows)
    assert {f"{row[0]}_{int(row[1]):06d}.flac" for row in rows} == {path.name for path in (tree / "audio").iterdir()}


def test_some_ids_begin_with_a_dash_and_some_labels_hold_commas(tree: Path) -> None:
    rows = _read(tree, "vggsound.csv")
    assert any(row[0].startswith("-") for row in rows)
    assert any("," in row[2] for row in rows)


def test_the_classes_stand_in_stat_with_their_clips(tree: Path) -> None:
    rows, labels = _read(tree, "stat.csv"), [row[2] for row in _read(tree, "vggsound.csv")]
    assert [row[0] for row in rows] == [label for label, _ in LABELS.values()]
    assert [int(row[1]) for row in rows] == [labels.count(row[0]) for row in rows]
    assert (tree / "stat.csv").read_bytes().count(b"\r\n") == len(rows) == len(SOUNDS)


def test_no_two_labels_are_the_same_up_to_the_first_comma() -> None:
    assert set(LABELS) == {sound.name for sound in SOUNDS}
    assert len({label.split(",")[0] for label, _ in LABELS.values()}) == len(SOUNDS)


def test_the_makers_test_list_is_the_test_split(tree: Path) -> None:
    assert {name.removesuffix(".mp4"): label for name, label in _read(tree, "test.csv")} == _clips(tree, "test")


@pytest.mark.parametrize("split", COUNTS)
def test_labels_are_true_of_what_is_heard(tree: Path, split: str) -> None:
    contents = {(tree / "audio" / f"{stem}.flac").read_bytes(): label for stem, label in _clips(tree, split).items()}
    for index in range(COUNTS[split]):
        sound = make_sound_of(0, f"vggsound-{split}", index=index)
        assert contents[encode_sound(sound.samples, "FLAC")] == LABELS[sound.sound.name][0]


@pytest.mark.parametrize("split", COUNTS)
def test_tables_say_what_the_lists_say(tree: Path, split: str) -> None:
    labels = [row[0] for row in _read(tree, "stat.csv")]
    _, *rows = [line.split("\t") for line in (tree / f"vggsound_{split}_new.tsv").read_text().splitlines()]
    assert [(row[0], labels[int(row[2])]) for row in rows] == list(_clips(tree, split).items())
    assert all(row[1] == f"audio/{row[0]}.flac" for row in rows)


def test_every_class_stays_when_scaled(tmp_path: Path) -> None:
    tree = write_vggsound(tmp_path, scale=0.001)
    for split in COUNTS:
        assert len(set(_clips(tree, split).values())) == len(SOUNDS)
