"""ImageNet as folders of classes: `{train,val}/<wnid>/*.JPEG` with `LOC_synset_mapping.txt`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from downstream.formats.base import Labelled, Listing, MissingDataError
from downstream.formats.places import DataSet, find_source
from downstream.formats.tables import Place, on_one_line, read_text, show

SPLITS: Final = ("train", "val")
MAPPING: Final = "LOC_synset_mapping.txt"
SUFFIXES: Final = ("jpeg", "jpg")
DATA_SET: Final = DataSet(
    name="ImageNet",
    folders=("imagenet", "imagenet-1k", "ILSVRC2012"),
    lists=dict.fromkeys(SPLITS, (MAPPING,)),
    tables=dict.fromkeys(SPLITS, ()),
)


def read(root: Path, split: str) -> Listing[Labelled]:
    """List the pictures of a split by class and name; an id is `<wnid>/<name without extension>`.

    The class is the rank of the folder's name in the mapping; a class without a folder has no pictures here. Hidden
    files are no part of the data set.

    Args:
        root: see `find_source`.
        split: `train` or `val`.

    Raises:
        MissingDataError: the mapping or the split's folder is missing, or a folder is empty.
        ValueError: a faulty mapping, a folder that is no class, or a file that is no picture.
    """
    source = find_source(DATA_SET, root, split=split)
    if source.layout != "original":
        raise ValueError(f"{root} is a file, expected the folder of {DATA_SET.name}; its authors publish no table")
    classes = read_mapping(source.path)
    samples = tuple(_list_pictures(source.tree / split, classes))
    return Listing(samples, (), source.layout, (source.path,), tuple(classes.values()))


def read_mapping(path: Path) -> dict[str, str]:
    """Read the names of the classes by wnid, in the order of the classes.

    Raises:
        MissingDataError: no such file.
        ValueError: a line of another form, or wnids that do not ascend.
    """
    names: dict[str, str] = {}
    last = ""
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        wnid, _, name = line.removesuffix("\r").partition(" ")
        place = Place(path, number)
        if not wnid or not name.strip() or "/" in wnid:
            raise place.error(f"{show(line)}, expected <wnid> <names>")
        if wnid <= last:
            raise place.error(f"{show(wnid)} stands after {show(last)}, expected ascending wnids; fetch the list again")
        names[wnid] = name
        last = wnid
    return names


def _list_pictures(folder: Path, classes: dict[str, str]) -> Iterator[Labelled]:
    """Give the pictures of a split; what `scandir` knows of a file is not asked again, there are over a million."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder} is missing; expected a folder of pictures for each class in it")
    numbers = {wnid: (number,) for number, wnid in enumerate(classes)}
    found = _scan(folder)
    if not found:
        raise MissingDataError(f"{folder} is empty, expected a folder of pictures for each class in it")
    for entry in found:
        if not entry.is_dir():
            raise _refuse(f"{entry.path} is no folder, expected one for each class; sort the pictures into them")
        if entry.name not in numbers:
            raise _refuse(f"{entry.path} is no class of {MAPPING}, expected one of its {len(classes)} wnids")
        yield from _list_class(entry, folder, numbers[entry.name])


def _list_class(entry: "os.DirEntry[str]", split: Path, labels: tuple[int]) -> Iterator[Labelled]:
    folder = split / entry.name
    origin = on_one_line(f"{split.name}/{entry.name}")
    stems: set[str] = set()
    files = _scan(folder)
    if not files:
        raise MissingDataError(on_one_line(f"{folder} is empty, expected a picture or more; unpack it again"))
    for file in files:
        stem, _, suffix = file.name.rpartition(".")
        if not stem or suffix.lower() not in SUFFIXES or not file.is_file():
            raise _refuse(f"{file.path} is no .JPEG file, expected nothing else; move it away")
        if stem in stems:
            raise _refuse(f"{file.path}: another file is called {show(stem)} too; expected one of a name, keep one")
        stems.add(stem)
        yield Labelled(f"{entry.name}/{stem}", folder / file.name, labels, origin)


def _scan(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _refuse(message: str) -> ValueError:
    return ValueError(on_one_line(message))
