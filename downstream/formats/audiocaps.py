"""AudioCaps: `dataset/{train,val,test}.csv` with `audio/<split>/`, or the authors' tables."""

from pathlib import Path
from typing import Final

from downstream.formats.authors import read_captioned
from downstream.formats.base import Captioned, Listing
from downstream.formats.places import DataSet, find_source, index_sounds, make_listing
from downstream.formats.tables import Row, read_csv

SPLITS: Final = ("train", "val", "test")
DATA_SET: Final = DataSet(
    name="AudioCaps",
    folders=("AudioCaps", "audiocaps"),
    lists={split: (f"dataset/{split}.csv",) for split in SPLITS},
    tables={split: (f"audiocaps_{split}",) for split in SPLITS},
)


def read(root: Path, split: str) -> Listing[Captioned]:
    """Read the clips of a split with their captions; those that are no longer there are told as absent.

    A row is a caption; a clip is its YouTube id with the second it starts at, in the order of the first caption.

    Args:
        root: see `find_source`.
        split: `train`, `val` or `test`.

    Raises:
        MissingDataError: a list is missing, or every clip.
        ValueError: faulty content; the message names the list and its line.
    """
    source = find_source(DATA_SET, root, split=split)
    if source.layout == "authors' table":
        return read_captioned(source, split, may_lack=True)
    clips: dict[str, list[Row]] = {}
    for row in read_csv(source.path, ("audiocap_id", "youtube_id", "start_time", "caption")):
        clips.setdefault(f"{row.text('youtube_id')}_{row.whole('start_time')}", []).append(row)
    _check_captions(clips)
    sounds = index_sounds([source.tree / "audio" / split])
    samples = (
        Captioned(
            key,
            sounds.find(key, rows[0].place),
            tuple(row.text("caption") for row in rows),
            rows[0].place.seen_from(source.tree),
        )
        for key, rows in clips.items()
    )
    return make_listing(samples, source, may_lack=True)


def _check_captions(clips: dict[str, list[Row]]) -> None:
    """See that no caption is listed twice: every one has a number of its own."""
    lines: dict[str, int] = {}
    for row in (row for rows in clips.values() for row in rows):
        number = row.text("audiocap_id")
        if number in lines:
            raise row.place.error(f"audiocap_id {number} stands on line {lines[number]} already, expected each once")
        lines[number] = row.place.number
