"""VGGSound: `vggsound.csv`, `stat.csv`, the makers' `test.csv` and `audio/`, or the authors' tables."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from downstream.formats.authors import read_labelled
from downstream.formats.base import Labelled, Listing
from downstream.formats.places import DataSet, Source, find_source, index_sounds, make_listing, number_classes
from downstream.formats.tables import Row, read_bare_csv, show

NUM_CLASSES: Final = 309
MAX_START_S: Final = 1_000_000  # clip names hold six digits of it
DATA_SET: Final = DataSet(
    name="VGGSound",
    folders=("VGGSound", "vggsound"),
    lists={"train": ("vggsound.csv",), "test": ("test.csv", "vggsound.csv")},
    tables={split: (f"vggsound_{split}",) for split in ("train", "test")},
)


def read(root: Path, split: str) -> Listing[Labelled]:
    """Read the clips of a split with their class; those that are no longer there are told as absent.

    The class names are whole labels; they hold commas.

    Args:
        root: see `find_source`.
        split: `train`, or `test`: by the makers' `test.csv`, else by `vggsound.csv`.

    Raises:
        MissingDataError: a list is missing, or every clip.
        ValueError: faulty content; the message names the list and its line.
    """
    source = find_source(DATA_SET, root, split=split)
    if source.layout == "authors' table":
        lists = [path for path in (source.tree / "stat.csv",) if path.is_file()]
        names = read_classes(lists[0]) if lists else number_classes(NUM_CLASSES)
        return read_labelled(source, class_names=names, vocabularies=lists, is_single=True, may_lack=True)
    classes = source.tree / "stat.csv"
    names = read_classes(classes)
    audio = source.tree / "audio"
    sounds = index_sounds((audio, audio / split))
    numbers = {name: number for number, name in enumerate(names)}
    samples = (
        Labelled(stem, sounds.find(stem, row.place), (_find_class(row, numbers),), row.place.seen_from(source.tree))
        for stem, row in _list_clips(source, split)
    )
    return make_listing(samples, source, vocabularies=[classes], class_names=names, may_lack=True)


def read_classes(path: Path) -> tuple[str, ...]:
    """Read the labels of `stat.csv`; the class is the row, from 0.

    Raises:
        MissingDataError: no such file.
        ValueError: a label twice, or more than there are.
    """
    names: dict[str, int] = {}
    for row in read_bare_csv(path, ("label", "clips", "group")):
        name = row.text("label")
        if name in names:
            raise row.place.error(f"the label {show(name)} is class {names[name]} already, expected each once")
        if len(names) == NUM_CLASSES:
            raise row.place.error(f"more than {NUM_CLASSES} labels, expected no more; fetch the makers' stat.csv")
        names[name] = len(names)
    return tuple(names)


def _list_clips(source: Source, split: str) -> Iterator[tuple[str, Row]]:
    """Give the clip names of a split with their rows."""
    if source.path.name == "test.csv":
        for row in read_bare_csv(source.path, ("file", "label")):
            yield row.text("file").removesuffix(".mp4"), row
        return
    for row in read_bare_csv(source.path, ("id", "start", "label", "split")):
        if row.text("split") not in DATA_SET.lists:
            raise row.place.error(f"split is {show(row.text('split'))}, expected {' or '.join(DATA_SET.lists)}")
        if row.text("split") == split:
            yield f"{row.text('id')}_{row.whole('start', stop=MAX_START_S):06d}", row


def _find_class(row: Row, numbers: Mapping[str, int]) -> int:
    label = row.text("label")
    if label not in numbers:
        raise row.place.error(f"unknown label {show(label)}, expected one of the {len(numbers)} in stat.csv")
    return numbers[label]
