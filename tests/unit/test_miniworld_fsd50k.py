"""FSD50K's layout: labels are the sounds that were mixed and all that these imply."""

import csv
from pathlib import Path

import pytest

from miniworld.fsd50k import PARENTS, VOCABULARY, draw_labelled_clip, find_labels, write_fsd50k
from miniworld.samples import encode_sound
from miniworld.sound import SOUNDS

COUNTS = {"train": 20, "val": 3, "eval": 17}
TABLES = {"train": "fsd50K_dev.tsv", "val": "fsd50K_val.tsv", "eval": "fsd50K_eval.tsv"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {f"num_{split}": count for split, count in COUNTS.items()}
    return write_fsd50k(tmp_path_factory.mktemp("world"), **counts)


def _read(tree: Path, name: str) -> list[dict[str, str]]:
    with (tree / "FSD50K.ground_truth" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _by_split(tree: Path) -> dict[str, list[dict[str, str]]]:
    dev = _read(tree, "dev")
    return {
        "train": [row for row in dev if row["split"] == "train"],
        "val": [row for row in dev if row["split"] == "val"],
        "eval": _read(tree, "eval"),
    }


def _vocabulary(tree: Path) -> list[list[str]]:
    with (tree / "FSD50K.ground_truth" / "vocabulary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_columns_and_counts_are_those_of_the_layout(tree: Path) -> None:
    assert tree.name == "FSD50K"
    assert list(_read(tree, "dev")[0]) == ["fname", "labels", "mids", "split"]
    assert list(_read(tree, "eval")[0]) == ["fname", "labels", "mids"]
    assert {split: len(rows) for split, rows in _by_split(tree).items()} == COUNTS
    assert {path.stem for path in (tree / "FSD50K.dev_audio").iterdir()} == {row["fname"] for row in _read(tree, "dev")}
    assert {path.stem for path in (tree / "FSD50K.eval_audio").iterdir()} == {
        row["fname"] for row in _read(tree, "eval")
    }


def test_file_names_are_numbers_that_occur_once(tree: Path) -> None:
    fnames = [row["fname"] for rows in _by_split(tree).values() for row in rows]
    assert len(set(fnames)) == len(fnames)
    assert all(fname.isdecimal() for fname in fnames)


def test_the_vocabulary_ascends_from_0_without_a_header(tree: Path) -> None:
    rows = _vocabulary(tree)
    names = [row[1] for row in rows]
    assert names == sorted(set(names)) == list(VOCABULARY)
    assert [int(row[0]) for row in rows] == list(range(len(rows)))
    assert len({row[2] for row in rows}) == len(rows)


def test_mids_stand_in_the_order_of_the_labels(tree: Path) -> None:
    mids = {row[1]: row[2] for row in _vocabulary(tree)}
    for row in (*_read(tree, "dev"), *_read(tree, "eval")):
        assert row["mids"].split(",") == [mids[label] for label in row["labels"].split(",")]


@pytest.mark.parametrize("split", COUNTS)
def test_labels_are_true_of_what_was_mixed(tree: Path, split: str) -> None:
    labels = {row["fname"]: row["labels"].split(",") for row in _by_split(tree)[split]}
    folder = tree / f"FSD50K.{'eval' if split == 'eval' else 'dev'}_audio"
    for index in range(COUNTS[split]):
        drawn = draw_labelled_clip(0, split, index=index)
        names = [heard.name for heard in drawn.clip.heard]
        assert sorted(labels[str(drawn.fname)]) == sorted(find_labels(names))
        assert names[0] == SOUNDS[index % len(SOUNDS)].name
        assert (folder / f"{drawn.fname}.wav").read_bytes() == encode_sound(drawn.clip.samples, "WAV")


def test_one_to_three_sounds_are_mixed_and_labels_stand_in_free_order() -> None:
    drawn = [draw_labelled_clip(0, "train", index=index) for index in range(30)]
    assert {len(each.clip.heard) for each in drawn} == {1, 2, 3}
    assert not any(each.clip.is_sequence for each in drawn)
    assert any(each.labels != find_labels([heard.name for heard in each.clip.heard]) for each in drawn)


def test_a_class_implies_its_parents_and_theirs() -> None:
    assert set(find_labels(["car_engine"])) == {
        "Car_engine",
        "Engine",
        "Mechanisms",
        "Motor_vehicle_(road)",
        "Vehicle",
    }
    assert set(find_labels(["cow", "sheep"])) == {"Cow", "Sheep", "Livestock", "Animal"}
    assert {sound.name.capitalize() for sound in SOUNDS} <= set(PARENTS)


def test_every_class_is_heard_in_every_judged_split(tmp_path: Path) -> None:
    tree = write_fsd50k(tmp_path, scale=0.001)
    for name in ("dev", "eval"):
        heard = {label for row in _read(tree, name) for label in row["labels"].split(",")}
        assert heard == set(VOCABULARY)


@pytest.mark.parametrize("split", COUNTS)
def test_tables_say_what_the_lists_say(tree: Path, split: str) -> None:
    numbers = {row[1]: row[0] for row in _vocabulary(tree)}
    listed = {
        row["fname"]: ",".join(numbers[label] for label in row["labels"].split(",")) for row in _by_split(tree)[split]
    }
    _, *rows = [line.split("\t") for line in (tree / TABLES[split]).read_text().splitlines()]
    assert {row[0]: row[2] for row in rows} == listed
    assert all(Path(row[1]).stem == row[0] for row in rows)
