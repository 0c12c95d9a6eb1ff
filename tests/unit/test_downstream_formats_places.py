"""A data set is found at its folder or one below, and what is missing of it is told."""

from pathlib import Path

import pytest

from downstream.formats.base import Labelled, MissingDataError
from downstream.formats.places import DataSet, Source, find_source, index_sounds, make_listing, plain_name
from downstream.formats.tables import Place

BIRDS = DataSet("Birds", ("birds",), {"a": ("list.csv", "old.csv"), "b": ("b.csv",)}, {"a": ("birds_a",), "b": ()})


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("folder", [".", "birds"])
def test_the_makers_list_is_found_at_the_root_or_below(tmp_path: Path, folder: str) -> None:
    path = put(tmp_path / folder / "list.csv")
    assert find_source(BIRDS, tmp_path, split="a") == Source("original", tmp_path / folder, path)


def test_of_several_makers_lists_the_first_is_taken(tmp_path: Path) -> None:
    put(tmp_path / "old.csv")
    assert find_source(BIRDS, tmp_path, split="a").path.name == "old.csv"
    put(tmp_path / "birds" / "list.csv")
    assert find_source(BIRDS, tmp_path, split="a").path.name == "list.csv"


@pytest.mark.parametrize("name", ["birds_a.tsv", "birds_a_new.tsv", "birds/birds_a.tsv"])
def test_the_authors_table_is_found_with_and_without_new(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name)
    assert find_source(BIRDS, tmp_path, split="a") == Source("authors' table", path.parent, path)


def test_the_makers_list_goes_before_the_authors_table(tmp_path: Path) -> None:
    put(tmp_path / "birds_a.tsv")
    put(tmp_path / "birds" / "old.csv")
    assert find_source(BIRDS, tmp_path, split="a").layout == "original"


def test_a_table_of_any_name_may_be_given_itself(tmp_path: Path) -> None:
    path = put(tmp_path / "mine.tsv")
    assert find_source(BIRDS, path, split="b") == Source("authors' table", tmp_path, path)
    with pytest.raises(ValueError, match=r"is no authors' table of Birds; expected a \.tsv file or a folder"):
        find_source(BIRDS, put(tmp_path / "mine.csv"), split="a")


def test_a_split_without_table_is_told_so(tmp_path: Path) -> None:
    put(tmp_path / "birds_a.tsv")
    with pytest.raises(MissingDataError, match=r"b\.csv is missing; the authors publish no table of this split"):
        find_source(BIRDS, tmp_path, split="b")


def test_sounds_are_found_whatever_their_extension(tmp_path: Path) -> None:
    place = Place(tmp_path / "list.csv", 1)
    found = [put(tmp_path / "audio" / "-a_1.FLAC"), put(tmp_path / "audio" / "test" / "b.c.wav")]
    put(tmp_path / "audio" / "d.txt")
    sounds = index_sounds([tmp_path / "audio", tmp_path / "audio" / "test", tmp_path / "absent"])
    assert [sounds.find("-a_1", place), sounds.find("b.c", place)] == found
    assert sounds.find("d", place) == tmp_path / "audio" / "d.wav"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b.wav", "a\0.wav", "x" * 300])
def test_what_leads_elsewhere_is_no_name_of_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"list\.csv, line 4: .* names no file"):
        plain_name(name, Place(tmp_path / "list.csv", 4))


def test_absent_clips_are_told_only_where_a_set_may_lack_some(tmp_path: Path) -> None:
    source = Source("original", tmp_path, tmp_path / "list.csv")
    samples = [Labelled(name, tmp_path / name, (0,), f"list.csv, line {name}") for name in "123"]
    put(tmp_path / "2")
    listing = make_listing(samples, source, may_lack=True)
    assert ([sample.id for sample in listing.samples], listing.absent, listing.num_listed) == (["2"], ("1", "3"), 3)
    with pytest.raises(MissingDataError, match=r"/1 is missing, listed in list\.csv, line 1; 2 of 3 files of "):
        make_listing(samples, source)
