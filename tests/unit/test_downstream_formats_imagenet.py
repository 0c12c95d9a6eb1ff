"""ImageNet's folders are classes in the order of the mapping; what does not belong there is told."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from downstream.formats.base import Labelled, MissingDataError
from downstream.formats.imagenet import MAPPING, read, read_mapping

NAMES = "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn02084071 dog\n"
PICTURES = ("n02084071/b.JPEG", "n02084071/a.JPEG", "n01440764/ILSVRC2012_val_00000293.JPEG")


def write(root: Path, pictures: tuple[str, ...] = PICTURES, *, names: str = NAMES, split: str = "val") -> Path:
    root.mkdir(exist_ok=True)
    (root / MAPPING).write_text(names)
    for name in pictures:
        path = root / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_the_class_is_the_rank_in_the_mapping(tmp_path: Path) -> None:
    folder = write(tmp_path) / "val"
    listing = read(tmp_path, "val")
    assert listing.samples == (
        Labelled("n01440764/ILSVRC2012_val_00000293", folder / PICTURES[2], (0,)),
        Labelled("n02084071/a", folder / PICTURES[1], (2,)),
        Labelled("n02084071/b", folder / PICTURES[0], (2,)),
    )
    assert listing.class_names == ("tench, Tinca tinca", "goldfish", "dog")
    assert (listing.absent, listing.sources) == ((), (tmp_path / MAPPING,))
    assert [sample.origin for sample in listing.samples] == ["val/n01440764", "val/n02084071", "val/n02084071"]


@pytest.mark.parametrize("folder", ["imagenet", "imagenet-1k", "ILSVRC2012"])
def test_the_data_set_may_lie_one_level_below(tmp_path: Path, folder: str) -> None:
    write(tmp_path / folder, split="train")
    assert len(read(tmp_path, "train").samples) == 3


def test_hidden_files_are_no_part_of_it(tmp_path: Path) -> None:
    write(tmp_path, (*PICTURES, ".DS_Store", "n02084071/.DS_Store"))
    assert len(read(tmp_path, "val").samples) == 3


def test_one_name_in_two_classes_is_two_pictures(tmp_path: Path) -> None:
    write(tmp_path, ("n01440764/a.JPEG", "n02084071/a.JPEG", "n02084071/a.b.JPEG"))
    assert {sample.id for sample in read(tmp_path, "val").samples} == {
        "n01440764/a",
        "n02084071/a",
        "n02084071/a.b",
    }


@pytest.mark.parametrize("names", [NAMES, NAMES[:-1], NAMES.replace("\n", "\r\n")], ids=["plain", "no end", "CRLF"])
def test_names_begin_after_the_first_blank(tmp_path: Path, names: str) -> None:
    write(tmp_path, names=names)
    assert read_mapping(tmp_path / MAPPING) == {
        "n01440764": "tench, Tinca tinca",
        "n01443537": "goldfish",
        "n02084071": "dog",
    }


@dataclass(frozen=True)
class Fault:
    """Folders with one thing wrong."""

    says: str
    pictures: tuple[str, ...] = PICTURES
    names: str = NAMES
    error: type[Exception] = ValueError
    place: str = MAPPING
    folders: tuple[str, ...] = ()


FAULTS = {
    "not sorted": Fault("stands after 'n01443537'", names="n01443537 b\nn01440764 a\n", place="line 2"),
    "wnid twice": Fault("expected ascending wnids", names="n01440764 a\nn01440764 a\n", place="line 2"),
    "no names": Fault("expected <wnid> <names>", names="n01440764\n", place="line 1"),
    "separated by a tab": Fault("expected <wnid> <names>", names="n01440764\ttench\n", place="line 1"),
    "empty line": Fault("'', expected <wnid>", names=f"{NAMES}\n", place="line 4"),
    "empty mapping": Fault("'', expected <wnid>", names="", place="line 1"),
    "unknown class": Fault("is no class of", (*PICTURES, "n09999999/a.JPEG"), place="val/n09999999"),
    "pictures without classes": Fault("is no folder, expected one for each class", ("a.JPEG",), place="val/a.JPEG"),
    "file that is no picture": Fault("move it away", (*PICTURES, "n02084071/c.JPEG.part"), place="c.JPEG.part"),
    "file without an extension": Fault("move it away", (*PICTURES, "n02084071/jpeg"), place="n02084071/jpeg"),
    "folder within a class": Fault("move it away", (*PICTURES, "n02084071/d.JPEG/a.JPEG"), place="d.JPEG"),
    "two files of a name": Fault("keep one", (*PICTURES, "n02084071/a.b.JPEG", "n02084071/a.jpg"), place="a.jpg"),
    "empty class": Fault("is empty", error=MissingDataError, place="val/n01443537", folders=("n01443537",)),
    "empty split": Fault("is empty", (), error=MissingDataError, place="val", folders=(".",)),
    "no split": Fault("is missing", (), error=MissingDataError, place="val"),
    "line end in a name": Fault("a\\nb is no folder", ("a\nb",), place="val"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_ends_in_one_line_that_names_it(tmp_path: Path, fault: Fault) -> None:
    write(tmp_path, fault.pictures, names=fault.names)
    for name in fault.folders:
        (tmp_path / "val" / name).mkdir(parents=True, exist_ok=True)
    with pytest.raises(fault.error) as caught:
        read(tmp_path, "val")
    message = str(caught.value)
    assert type(caught.value) is fault.error
    assert len(message.splitlines()) == 1
    assert fault.place in message
    assert fault.says in message


def test_a_folder_without_the_mapping_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"no ImageNet, split val, in .*LOC_synset_mapping\.txt is missing"):
        read(tmp_path, "val")


@pytest.mark.parametrize("name", ["val.tsv", "val.tar"])
def test_a_file_is_no_root(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name, "val")


@pytest.mark.parametrize("split", ["test", "validation"])
def test_an_unknown_split_is_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(ValueError, match=f"unknown split of ImageNet '{split}'"):
        read(tmp_path, split)


def test_genuine_pictures_have_the_class_that_their_name_says(samples_dir: Path) -> None:
    listing = read(samples_dir / "imagenet-1k", "val")
    assert (len(listing.samples), len(listing.class_names)) == (152, 1000)
    assert read(samples_dir, "val") == listing
    for sample in listing.samples:
        word = sample.media.stem.partition("_")[2].replace("_", " ").lower()
        (label,) = sample.labels
        assert word in listing.class_names[label].lower()
