"""FSD50K: `FSD50K.{dev,eval}_audio/` with `FSD50K.ground_truth/`, or the authors' `fsd50K_{dev,eval}.tsv`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from downstream.formats.authors import read_labelled
from downstream.formats.base import Labelled, Listing
from downstream.formats.places import DataSet, Source, find_source, make_listing, number_classes, plain_name
from downstream.formats.tables import Row, read_bare_csv, read_csv, show

NUM_CLASSES: Final = 200
GROUND_TRUTH: Final = "FSD50K.ground_truth"
DEV: Final = (f"{GROUND_TRUTH}/dev.csv",)
DATA_SET: Final = DataSet(
    name="FSD50K",
    folders=("FSD50K", "fsd50K", "fsd50k"),
    lists={"dev": DEV, "train": DEV, "val": DEV, "eval": (f"{GROUND_TRUTH}/eval.csv",)},
    tables={"dev": ("fsd50K_dev",), "train": ("fsd50K_dev",), "val": ("fsd50K_val",), "eval": ("fsd50K_eval",)},
)
PARTS: Final = ("train", "val")


def read(root: Path, split: str) -> Listing[Labelled]:
    """Read the clips of a split with their classes, all ancestors included.

    Args:
        root: see `find_source`.
        split: `eval`, `dev`, or a part of dev, `train` or `val`. The authors train on `fsd50K_dev.tsv`, so there it is
            `train` too, with whatever it lists.

    Raises:
        MissingDataError: a list or a clip is missing.
        ValueError: faulty content; the message names the list and its line.
    """
    source = find_source(DATA_SET, root, split=split)
    if source.layout == "authors' table":
        lists = [path for path in (source.tree / GROUND_TRUTH / "vocabulary.csv",) if path.is_file()]
        names = read_vocabulary(lists[0]) if lists else number_classes(NUM_CLASSES)
        return read_labelled(source, class_names=names, vocabularies=lists)
    vocabulary = source.tree / GROUND_TRUTH / "vocabulary.csv"
    names = read_vocabulary(vocabulary)
    numbers = {name: number for number, name in enumerate(names)}
    rows = _take_rows(source, split)
    folder = source.tree / f"FSD50K.{'eval' if split == 'eval' else 'dev'}_audio"
    samples = (_make_sample(row, source, numbers=numbers, folder=folder) for row in rows)
    return make_listing(samples, source, vocabularies=[vocabulary], class_names=names)


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Read the class names of `vocabulary.csv` by class number.

    Raises:
        MissingDataError: no such file.
        ValueError: numbers that are not 0, 1, 2, ..., or a name twice.
    """
    names: list[str] = []
    for row in read_bare_csv(path, ("index", "name", "mid")):
        name, number = row.text("name"), row.whole("index", stop=NUM_CLASSES)
        if number != len(names):
            raise row.place.error(f"index {number}, expected {len(names)}: classes are numbered from 0 in order")
        if name in names:
            raise row.place.error(f"{show(name)} is class {names.index(name)} already, expected each name once")
        names.append(name)
    return tuple(names)


def _take_rows(source: Source, split: str) -> list[Row]:
    if split == "eval":
        return list(read_csv(source.path, ("fname", "labels")))
    rows = read_csv(source.path, ("fname", "labels", "split"))
    for row in rows:
        if row.text("split") not in PARTS:
            raise row.place.error(f"split is {show(row.text('split'))}, expected {' or '.join(PARTS)}")
    return [row for row in rows if split in ("dev", row.text("split"))]


def _make_sample(row: Row, source: Source, *, numbers: Mapping[str, int], folder: Path) -> Labelled:
    names = row.text("labels").split(",")
    for name in names:
        if name not in numbers:
            raise row.place.error(f"unknown label {show(name)}, expected one of the {len(numbers)} in vocabulary.csv")
    if len(set(names)) < len(names):
        raise row.place.error(f"labels are {show(row.text('labels'))}, expected each once")
    key = row.text("fname")
    media = folder / plain_name(f"{key}.wav", row.place)
    return Labelled(key, media, tuple(sorted(numbers[name] for name in names)), row.place.seen_from(source.tree))
