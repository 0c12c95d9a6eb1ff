"""ESC-50's layout: names, folds and categories agree."""

import csv
import json
from pathlib import Path

import pytest

from miniworld.esc50 import list_clip, name_clip, write_esc50
from miniworld.samples import encode_sound, make_sound_of
from miniworld.sound import SOUNDS


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_esc50(tmp_path_factory.mktemp("world"), clips_per_class=5)


def test_names_tell_fold_source_take_and_target(tree: Path) -> None:
    assert tree.name == "ESC-50-master"
    with (tree / "meta" / "esc50.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    assert {row["filename"] for row in rows} == {path.name for path in (tree / "audio").iterdir()}
    assert all(row["filename"] == "{fold}-{src_file}-{take}-{target}.wav".format(**row) for row in rows)
    assert {(row["fold"], row["target"]) for row in rows} == {
        (str(fold), str(target)) for fold in range(1, 6) for target in range(len(SOUNDS))
    }


def test_the_category_is_the_sound(tree: Path) -> None:
    for index in (0, 7, 40):
        sound, clip = make_sound_of(0, "esc50", index=index), name_clip(index)
        assert (tree / "audio" / f"{clip.stem}.wav").read_bytes() == encode_sound(sound.samples, "WAV")
        assert list_clip(clip)[3] == sound.sound.name


def test_the_table_says_what_the_list_says(tree: Path) -> None:
    with (tree / "meta" / "esc50.csv").open(newline="", encoding="utf-8") as file:
        listed = [(row["filename"].removesuffix(".wav"), row["category"]) for row in csv.DictReader(file)]
    _, *rows = [line.split("\t") for line in (tree / "esc50.tsv").read_text().splitlines()]
    assert [(row[0], row[2]) for row in rows] == listed
    assert all(row[1] == f"audio/{row[0]}.wav" for row in rows)
    labels = json.loads((tree / "esc50_label.json").read_text())
    assert labels == [sound.name for sound in SOUNDS]
    assert all(labels[int(stem.split("-")[-1])] == category for stem, category in listed)


def test_folds_stay_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clips_per_class is 12; expected a multiple of 5"):
        write_esc50(tmp_path, clips_per_class=12)
