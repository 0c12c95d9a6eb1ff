"""AVQA: `data/annotation/{train,val}_qa.json` with `data/audio/`, or the authors' `avqa_{train,val}.tsv`."""

from pathlib import Path
from typing import Final

from downstream.formats.authors import read_questions
from downstream.formats.base import Listing, Question
from downstream.formats.places import DataSet, Sounds, Source, find_source, index_sounds, make_listing
from downstream.formats.tables import Row, make_rows, read_json, show

NUM_CHOICES: Final = 4
SPLITS: Final = ("train", "val")
DATA_SET: Final = DataSet(
    name="AVQA",
    folders=("AVQA", "avqa"),
    lists={split: (f"data/annotation/{split}_qa.json",) for split in SPLITS},
    tables={split: (f"avqa_{split}",) for split in SPLITS},
)


def read(root: Path, split: str) -> Listing[Question]:
    """Read the questions of a split; those whose clip is no longer there are told as absent.

    Args:
        root: see `find_source`.
        split: `train` or `val`.

    Raises:
        MissingDataError: a list is missing, or every clip.
        ValueError: faulty content; the message names the list and the question, counted from 1.
    """
    source = find_source(DATA_SET, root, split=split)
    if source.layout == "authors' table":
        return read_questions(source, num_choices=NUM_CHOICES, may_lack=True)
    sounds = index_sounds([source.tree / "data" / "audio"])
    rows = make_rows(source.path, read_json(source.path), unit="question")
    return make_listing((_make_question(row, source, sounds) for row in rows), source, may_lack=True)


def _make_question(row: Row, source: Source, sounds: Sounds) -> Question:
    choices = row.items("multi_choice")
    if len(choices) != NUM_CHOICES or not all(isinstance(choice, str) for choice in choices):
        raise row.place.error(f"multi_choice is {show(choices)}, expected {NUM_CHOICES} strings")
    return Question(
        str(row.whole("id")),
        sounds.find(row.text("video_name"), row.place),
        row.text("question_text"),
        tuple(choices),
        row.whole("answer", stop=NUM_CHOICES),
        row.place.seen_from(source.tree),
    )
