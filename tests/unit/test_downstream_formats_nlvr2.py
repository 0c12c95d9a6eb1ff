"""NLVR2's sentences find both their pictures, and their label is a word."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from downstream.formats.base import Listing, MissingDataError, PicturePair
from downstream.formats.nlvr2 import read

HEADER = "uniq_id\ttext\timage1\timage2\tlabel\n"
ROW = "dev-1-0-0\tTwo dogs.\ta.png\tb.png\tTrue\n"


def line(**changes: Any) -> str:
    common = {"identifier": "dev-1-0-0", "sentence": "Two dogs.", "label": "True", "writer": "61"}
    return json.dumps(common | changes)


def write(root: Path, content: str, *, split: str = "dev", folder: str = "dev") -> Path:
    (root / "data").mkdir()
    (root / "data" / f"{split}.json").write_text(content)
    (root / "images" / folder).mkdir(parents=True)
    for side in (0, 1):
        (root / "images" / folder / f"{split}-1-0-img{side}.png").touch()
    return root


def write_table(path: Path, listing: Listing[PicturePair]) -> None:
    rows = ("\t".join([s.id, s.text, str(s.first), str(s.second), str(s.is_true)]) for s in listing.samples)
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))


def test_sentences_of_one_pair_share_its_pictures(tmp_path: Path) -> None:
    content = line() + "\n" + line(identifier="dev-1-0-1", sentence=" A cat", label="False")
    folder = write(tmp_path, content) / "images" / "dev"
    left, right = folder / "dev-1-0-img0.png", folder / "dev-1-0-img1.png"
    listing = read(tmp_path, "dev")
    assert listing.samples == (
        PicturePair("dev-1-0-0", left, right, "Two dogs.", True),
        PicturePair("dev-1-0-1", left, right, " A cat", False),
    )
    assert [sample.origin for sample in listing.samples] == ["data/dev.json, line 1", "data/dev.json, line 2"]


def test_pictures_of_train_lie_in_numbered_folders(tmp_path: Path) -> None:
    write(tmp_path, line(identifier="train-1-0-0", directory=63) + "\r\n", split="train", folder="train/63")
    (sample,) = read(tmp_path, "train").samples
    assert sample.second == tmp_path / "images" / "train" / "63" / "train-1-0-img1.png"


def test_the_public_test_has_two_names(tmp_path: Path) -> None:
    write(tmp_path, line(identifier="test1-1-0-0"), split="test1", folder="test1")
    assert read(tmp_path, "test-P") == read(tmp_path, "test1")


@pytest.mark.parametrize("stem", ["nlvr2/dev", "nlvr2/nlvr2_dev", "nlvr2_dev"])
def test_tables_are_found_by_their_names(tmp_path: Path, stem: str) -> None:
    path = tmp_path / f"{stem}.tsv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER + ROW.replace("True", "False"))
    left, right = path.with_name("a.png"), path.with_name("b.png")
    left.touch()
    right.touch()
    for root in (tmp_path, path):
        assert read(root, "dev").samples == (PicturePair("dev-1-0-0", left, right, "Two dogs.", False),)


@dataclass(frozen=True)
class Fault:
    """A list with one thing wrong."""

    content: str
    says: str
    error: type[Exception] = ValueError
    place: str = "data/dev.json, line 1"
    split: str = "dev"


def table(rows: str, says: str, **changes: Any) -> Fault:
    return Fault(HEADER + rows, says, **{"place": "nlvr2_dev.tsv, line 2", **changes})


FAULTS = {
    "a list": Fault("[\n" + line() + "\n]", "expected one object a line"),
    "one list": Fault("[" + line() + "]", "expected an object"),
    "empty": Fault("", "expected one object a line"),
    "truncated": Fault(line() + "\n" + line()[:30], "no json", place="line 2"),
    "empty line within": Fault(line() + "\n\n" + line(), "no json", place="line 2"),
    "too deep": Fault("[" * 100_000, "no json"),
    "label as a truth value": Fault(line(label=True), "label is True, expected a string"),
    "label in small letters": Fault(line(label="true"), "label is 'true', expected True or False"),
    "no label": Fault('{"identifier": "dev-1-0-0", "sentence": "x"}', "no 'label'"),
    "no sentence": Fault(line(sentence=""), "sentence is '', expected text"),
    "three parts": Fault(line(identifier="dev-1-0"), "expected dev-<set>-<pair>-<sentence>"),
    "another split": Fault(line(identifier="test1-1-0-0"), "expected dev-<set>-<pair>-<sentence>"),
    "another folder": Fault(line(identifier="dev-/../x-0-0"), "names no file"),
    "no directory": Fault(line(identifier="train-1-0-0"), "no 'directory'", place="train.json, line 1", split="train"),
    "directory elsewhere": Fault(
        line(identifier="train-1-0-0", directory="../0"),
        "directory is '../0', expected a whole number",
        place="train.json, line 1",
        split="train",
    ),
    "id twice": Fault(line() + "\n" + line(), "the id 'dev-1-0-0' stands already", place="data/dev.json, line 2"),
    "picture missing": Fault(line(identifier="dev-1-1-0"), "dev-1-1-img0.png is missing", error=MissingDataError),
    "table: label as a number": table(ROW.replace("True", "1"), "label is '1', expected True or False"),
    "table: id twice": table(ROW + ROW, "stands already", place="nlvr2_dev.tsv, line 3"),
    "table: picture missing": table(ROW.replace("b.png", "c.png"), "c.png is missing", error=MissingDataError),
    "table: no column": Fault(HEADER.replace("image2", "image"), "no column 'image2'", place="nlvr2_dev.tsv, line 1"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_ends_in_one_line_with_file_and_line(tmp_path: Path, fault: Fault) -> None:
    if fault.content.startswith("uniq_id"):
        (tmp_path / "nlvr2_dev.tsv").write_text(fault.content)
        for name in ("a.png", "b.png"):
            (tmp_path / name).touch()
    else:
        write(tmp_path, fault.content, split=fault.split)
    with pytest.raises(fault.error) as caught:
        read(tmp_path, fault.split)
    message = str(caught.value)
    assert type(caught.value) is fault.error
    assert len(message.splitlines()) == 1
    assert fault.place in message
    assert fault.says in message


def test_lists_that_are_not_there_are_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"dev\.json is missing, nor the authors' .*nlvr2_dev\.tsv"):
        read(tmp_path, "dev")


@pytest.mark.parametrize("split", ["val", "test2"])
def test_an_unknown_split_is_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(ValueError, match=f"unknown split of NLVR2 '{split}'"):
        read(tmp_path, split)


def test_genuine_sentences_are_alike_in_both_layouts(samples_dir: Path, tmp_path: Path) -> None:
    original = read(samples_dir / "nlvr2", "dev")
    assert (original.layout, len(original.samples)) == ("original", 8)
    assert sum(sample.is_true for sample in original.samples) == 4
    assert len({sample.files for sample in original.samples}) == 4
    write_table(tmp_path / "nlvr2_dev.tsv", original)
    written = read(tmp_path, "dev")
    assert (written.layout, written.samples) == ("authors' table", original.samples)


def test_the_whole_genuine_list_has_the_published_count(samples_dir: Path, tmp_path: Path) -> None:
    full = samples_dir / "nlvr2" / "full_annotations" / "dev.json"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dev.json").symlink_to(full)
    (tmp_path / "images").symlink_to(samples_dir / "nlvr2" / "images")
    with pytest.raises(MissingDataError, match=r" of 6982 files of .* are missing in all"):
        read(tmp_path, "dev")
