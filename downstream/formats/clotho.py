"""Clotho 2.1: `clotho_captions_<split>.csv` with a folder of sounds for each split, or the authors' tables."""

from pathlib import Path
from typing import Final

from downstream.formats.authors import read_captioned
from downstream.formats.base import Captioned, Listing
from downstream.formats.places import DataSet, find_source, make_listing, plain_name
from downstream.formats.tables import read_csv

SPLITS: Final = ("development", "validation", "evaluation")
CAPTIONS: Final = tuple(f"caption_{number}" for number in range(1, 6))
DATA_SET: Final = DataSet(
    name="Clotho",
    folders=("clotho", "Clotho"),
    lists={split: (f"clotho_captions_{split}.csv",) for split in SPLITS},
    tables={split: (f"clotho_{split}",) for split in SPLITS},
)


def read(root: Path, split: str) -> Listing[Captioned]:
    """Read the clips of a split with their five captions.

    File names are ids as they are written: they hold blanks at either end, two in a row, `#` and commas.

    Args:
        root: see `find_source`.
        split: `development`, `validation` or `evaluation`.

    Raises:
        MissingDataError: a list or a clip is missing.
        ValueError: faulty content; the message names the list and its line.
    """
    source = find_source(DATA_SET, root, split=split)
    if source.layout == "authors' table":
        return read_captioned(source, split)
    samples = (
        Captioned(
            row.text("file_name"),
            source.tree / split / plain_name(row.text("file_name"), row.place),
            tuple(row.text(column) for column in CAPTIONS),
            row.place.seen_from(source.tree),
        )
        for row in read_csv(source.path, ("file_name", *CAPTIONS))
    )
    return make_listing(samples, source)
