"""Clotho's file names are ids to the letter."""

import csv
from pathlib import Path

import pytest

from downstream.formats.base import MissingDataError
from downstream.formats.clotho import CAPTIONS, read

NAMES = (" Ambience Birds.wav", "Rain, Cracking,  Rumbling .wav", "Remix #3  of 3__a-reverse.wav")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three clips with difficult names."""
    folder = tmp_path / "validation"
    folder.mkdir()
    with (tmp_path / "clotho_captions_validation.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file_name", *CAPTIONS])
        for name in NAMES:
            writer.writerow([name, *(f"{number}, {name}" for number in range(5))])
            (folder / name).touch()
    return tmp_path


def test_names_are_neither_stripped_nor_changed(root: Path) -> None:
    samples = read(root, "validation").samples
    assert tuple(sample.id for sample in samples) == NAMES
    assert [sample.media for sample in samples] == [root / "validation" / name for name in NAMES]


def test_every_clip_has_five_captions_in_the_order_of_the_columns(root: Path) -> None:
    assert [sample.captions for sample in read(root, "validation").samples] == [
        tuple(f"{number}, {name}" for number in range(5)) for name in NAMES
    ]


def test_a_clip_that_is_gone_is_missing_data(root: Path) -> None:
    (root / "validation" / NAMES[1]).unlink()
    with pytest.raises(MissingDataError, match=r"line 3; 1 of 3 files of .*clotho_captions_validation\.csv"):
        read(root, "validation")
