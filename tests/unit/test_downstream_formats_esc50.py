"""ESC-50 is read from the makers' list, and from the authors' table in every form its labels may have."""

import json
from pathlib import Path

import pytest

from downstream.formats.base import Labelled, MissingDataError
from downstream.formats.esc50 import CATEGORIES, read, read_labels

HEADER = "filename,fold,target,category,esc10,src_file,take\n"
TABLE = "uniq_id\taudio\ttext\tduration\n"


def write(root: Path, rows: str) -> Path:
    for name in ("1-1-A-0.wav", "1-2-A-1.wav", "1-3-A-1.wav"):
        (root / "audio").mkdir(parents=True, exist_ok=True)
        (root / "audio" / name).touch()
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text(HEADER + rows)
    return root


def write_table(root: Path, rows: str, labels: object) -> Path:
    for name in ("1-1-A-0.wav", "1-2-A-1.wav", "1-3-A-1.wav"):
        (root / name).touch()
    (root / "esc50.tsv").write_text(TABLE + rows)
    (root / "esc50_label.json").write_text(json.dumps(labels))
    return root


@pytest.mark.parametrize("folder", [".", "ESC-50-master"])
def test_a_clip_is_known_by_its_file_name_and_has_one_class(tmp_path: Path, folder: str) -> None:
    tree = write(tmp_path / folder, "1-2-A-1.wav,1,1,rooster,False,2,A\n1-1-A-0.wav,1,0,dog,True,1,A\n")
    listing = read(tmp_path, "all")
    assert listing.samples == (
        Labelled("1-2-A-1", tree / "audio" / "1-2-A-1.wav", (1,)),
        Labelled("1-1-A-0", tree / "audio" / "1-1-A-0.wav", (0,)),
    )
    assert [sample.origin for sample in listing.samples] == ["meta/esc50.csv, line 2", "meta/esc50.csv, line 3"]


def test_a_part_of_the_real_list_has_all_fifty_classes(tmp_path: Path) -> None:
    listing = read(write(tmp_path, "1-2-A-1.wav,1,1,rooster,False,2,A\n"), "all")
    assert listing.class_names == CATEGORIES
    assert (len(set(CATEGORIES)), CATEGORIES[11], CATEGORIES[49]) == (50, "sea_waves", "hand_saw")


def test_a_list_of_other_categories_has_its_own(tmp_path: Path) -> None:
    rows = "1-2-A-1.wav,1,1,church_bell,False,2,A\n1-1-A-0.wav,1,0,dog,True,1,A\n"
    assert read(write(tmp_path, rows), "all").class_names == ("dog", "church_bell")


@pytest.mark.parametrize(
    "labels",
    [
        ["dog", "sea waves"],
        {"0": "dog", "1": "sea waves"},
        {"1": ["sea waves"], "0": ["dog"]},
        {"sea waves": 1, "dog": 0},
    ],
    ids=["list", "by number", "lists by number", "by label"],
)
def test_labels_are_read_in_every_form(tmp_path: Path, labels: object) -> None:
    write_table(tmp_path, "", labels)
    assert read_labels(tmp_path / "esc50_label.json") == ("dog", "sea waves")


@pytest.mark.parametrize("text", ["sea waves", "1"])
def test_the_text_of_a_table_is_a_label_or_its_number(tmp_path: Path, text: str) -> None:
    write_table(tmp_path, f"1-2-A-1\t1-2-A-1.wav\t{text}\t5.0\n", ["dog", "sea waves"])
    listing = read(tmp_path, "all")
    assert listing.samples == (Labelled("1-2-A-1", tmp_path / "1-2-A-1.wav", (1,)),)
    assert [path.name for path in listing.sources] == ["esc50.tsv", "esc50_label.json"]


@pytest.mark.parametrize("text", ["sea waves", "a wave breaks"])
def test_where_the_id_is_the_class_the_file_names_the_clip(tmp_path: Path, text: str) -> None:
    rows = f"1\t1-2-A-1.wav\t{text}\t5\n1\t1-3-A-1.wav\t{text}\t5\n0\t1-1-A-0.wav\tdog\t5\n"
    samples = read(write_table(tmp_path, rows, {"0": ["dog"], "1": ["sea waves"]}), "all").samples
    assert [(sample.id, sample.labels) for sample in samples] == [
        ("1-2-A-1", (1,)),
        ("1-3-A-1", (1,)),
        ("1-1-A-0", (0,)),
    ]


def test_a_table_without_labels_file_is_missing_data(tmp_path: Path) -> None:
    (write_table(tmp_path, "a\t1-2-A-1.wav\t1\t5\n", []) / "esc50_label.json").unlink()
    with pytest.raises(MissingDataError, match=r"esc50_label\.json is missing, which names the classes"):
        read(tmp_path, "all")
