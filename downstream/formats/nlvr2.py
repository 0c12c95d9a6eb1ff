"""NLVR2: `data/{train,dev,test1}.json`, one object a line, with `images/`; or the authors' tables."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from downstream.formats.authors import find_media
from downstream.formats.base import Listing, PicturePair
from downstream.formats.places import DataSet, Source, find_source, make_listing, plain_name
from downstream.formats.tables import Place, Row, make_row, read_table, read_text, show

SPLITS: Final = ("train", "dev", "test1")
ALIASES: Final = {"test-P": "test1"}  # the public test of the paper
LABELS: Final = {"True": True, "False": False}
COLUMNS: Final = ("uniq_id", "text", "image1", "image2", "label")
NUM_PARTS: Final = 4  # of an identifier: split, set, pair, sentence
DATA_SET: Final = DataSet(
    name="NLVR2",
    folders=("nlvr2", "NLVR2"),
    lists={split: (f"data/{split}.json",) for split in SPLITS},
    tables={split: (f"nlvr2_{split}", split) for split in SPLITS},
)


def read(root: Path, split: str) -> Listing[PicturePair]:
    """Read the sentences of a split, each with its two pictures; several share a pair.

    Args:
        root: see `find_source`; the pictures lie in `images/<split>`, those of `train` in its numbered folders.
        split: `train`, `dev` or `test1`, which is also called `test-P`.

    Raises:
        MissingDataError: a list or a picture is missing.
        ValueError: faulty content; the message names the list and its line.
    """
    split = ALIASES.get(split, split)
    source = find_source(DATA_SET, root, split=split)
    if source.layout == "authors' table":
        return make_listing((_take_row(row, source) for row in read_table(source.path, COLUMNS)), source)
    return make_listing((_take_line(row, source, split=split) for row in _read_lines(source.path)), source)


def _read_lines(path: Path) -> Iterator[Row]:
    """Give the object on each line."""
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        place = Place(path, number)
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "too deep or too long")
            raise place.error(f"no json ({reason}), expected one object a line; fetch the file again") from None
        yield make_row(place, value)


def _take_line(row: Row, source: Source, *, split: str) -> PicturePair:
    key = row.text("identifier")
    pair, _, sentence = key.rpartition("-")
    if key.count("-") != NUM_PARTS - 1 or not sentence or not pair.startswith(f"{split}-"):
        raise row.place.error(f"identifier is {show(key)}, expected {split}-<set>-<pair>-<sentence>")
    folder = source.tree / "images" / split
    if split == "train":
        folder /= str(row.whole("directory"))
    first, second = (folder / plain_name(f"{pair}-img{side}.png", row.place) for side in (0, 1))
    return PicturePair(key, first, second, row.text("sentence"), _take_label(row), row.place.seen_from(source.tree))


def _take_row(row: Row, source: Source) -> PicturePair:
    first, second = (find_media(row.text(name), source.path) for name in ("image1", "image2"))
    origin = row.place.seen_from(source.tree)
    return PicturePair(row.text("uniq_id"), first, second, row.text("text"), _take_label(row), origin)


def _take_label(row: Row) -> bool:
    """Read the label, a string in either layout."""
    label = row.text("label")
    if label not in LABELS:
        raise row.place.error(f"label is {show(label)}, expected True or False")
    return LABELS[label]
