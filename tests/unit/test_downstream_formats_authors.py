"""The authors' tables are read as their own code reads them."""

import json
from pathlib import Path

import pytest

from downstream.formats.authors import PICTURE, find_media, read_captioned, read_labelled, read_questions
from downstream.formats.base import MissingDataError, Question
from downstream.formats.places import Source

HEADER = "uniq_id\taudio\ttext\tduration\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`dataset/birds` with two sounds."""
    folder = tmp_path / "dataset" / "birds"
    (folder / "audio").mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        (folder / "audio" / name).touch()
    return folder


def write(folder: Path, rows: str, header: str = HEADER) -> Source:
    path = folder / "birds_test.tsv"
    path.write_text(header + rows)
    return Source("authors' table", folder, path)


@pytest.mark.parametrize("start", ["", "birds/", "/"], ids=["own folder", "folder above", "absolute"])
def test_media_are_found_by_each_kind_of_path(folder: Path, start: str) -> None:
    value = f"{folder}/audio/a.wav" if start == "/" else f"{start}audio/a.wav"
    assert find_media(value, folder / "t.tsv") == folder / "audio" / "a.wav"


def test_a_missing_file_is_looked_for_where_its_path_leads(folder: Path) -> None:
    assert find_media("birds/audio/x.wav", folder / "t.tsv") == folder / "audio" / "x.wav"
    assert find_media("audio/x.wav", folder / "t.tsv") == folder / "audio" / "x.wav"
    assert find_media("/x.wav", folder / "t.tsv") == Path("/x.wav")


def test_captions_of_one_id_keep_the_order_of_their_rows(folder: Path) -> None:
    source = write(folder, "2\taudio/b.wav\ty\t1\n1\taudio/a.wav\t x\t1\n2\taudio/b.wav\tz\t1\n")
    samples = read_captioned(source, "test").samples
    assert [(sample.id, sample.captions) for sample in samples] == [("2", ("y", "z")), ("1", (" x",))]
    assert [sample.origin for sample in samples] == ["birds_test.tsv, line 2", "birds_test.tsv, line 3"]


def test_captions_of_the_texts_json_go_before_those_of_the_rows(folder: Path) -> None:
    source = write(folder, "1\taudio/a.wav\tx\t1\n2\taudio/b.wav\t\t1\n")
    texts = folder / "test_texts.json"
    texts.write_text(json.dumps({"2": ["p"], "1": ["q", "r\n"]}))
    listing = read_captioned(source, "test")
    assert [sample.captions for sample in listing.samples] == [("q", "r\n"), ("p",)]
    assert listing.sources == (source.path, texts)


def test_the_texts_json_of_another_split_is_not_read(folder: Path) -> None:
    (folder / "val_texts.json").write_text("{}")
    assert read_captioned(write(folder, "1\taudio/a.wav\tx\t1\n"), "test").samples[0].captions == ("x",)


def test_an_empty_texts_json_is_no_reason_to_take_the_rows(folder: Path) -> None:
    (folder / "test_texts.json").write_text("{}")
    with pytest.raises(ValueError, match=r"line 2: the id '1' has no captions in test_texts\.json"):
        read_captioned(write(folder, "1\taudio/a.wav\tx\t1\n"), "test")


def test_pictures_have_columns_of_their_own(folder: Path) -> None:
    source = write(folder, "7\taudio/a.wav\ta\tb\n", "image_id\timage\tcaption\n")
    (sample,) = read_captioned(source, "test", columns=PICTURE).samples
    assert (sample.id, sample.captions) == ("7", ("a\tb",))


def test_class_numbers_are_sorted(folder: Path) -> None:
    (sample,) = read_labelled(write(folder, "x\taudio/a.wav\t9, 0,3\t1\n"), class_names=tuple("0123456789")).samples
    assert sample.labels == (0, 3, 9)


def test_a_question_has_its_answers_and_the_index(folder: Path) -> None:
    source = write(folder, "5\taudio/a.wav\tWhich?&&&a&&&b & c&&&&&&1 \t1\n")
    (sample,) = read_questions(source, num_choices=3).samples
    assert sample == Question("5", folder / "audio" / "a.wav", "Which?", ("a", "b & c", ""), 1)


@pytest.mark.parametrize("may_lack", [True, False])
def test_absent_sounds_are_told_only_where_some_may_lack(folder: Path, may_lack: bool) -> None:
    source = write(folder, "1\taudio/a.wav\t0\t1\n2\tbirds/audio/c.wav\t0\t1\n")
    if may_lack:
        assert read_labelled(source, class_names=("0",), may_lack=True).absent == ("2",)
    else:
        with pytest.raises(MissingDataError, match=r"birds/audio/c\.wav is missing, listed in birds_test\.tsv, line 3"):
            read_labelled(source, class_names=("0",))
