"""The held-out part of the miniworld, as `miniworld-pairs/held_out` lists it: what pretrained weights are judged by."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from models.config import Settings

PICTURES = "dataset_miniworld.json"
SOUNDS = "sounds.tsv"
SENTENCES_OF_SOUNDS = "sounds_captions.json"
CLASSES_OF_SOUNDS = "meta/esc50.csv"
CONCEPTS = "sound_concepts.json"


@dataclass(frozen=True)
class Picture:
    """A held-out picture: its file, what was said of it, and what is on it."""

    path: Path
    sentences: tuple[str, ...]
    things: frozenset[str]


@dataclass(frozen=True)
class Clip:
    """A held-out sound: its file, what was said of it, and its class."""

    path: Path
    sentences: tuple[str, ...]
    category: str


@dataclass(frozen=True)
class HeldOut:
    """What weights are judged by."""

    pictures: tuple[Picture, ...]
    clips: tuple[Clip, ...]
    concepts: Mapping[str, str | None]
    """Each class of sounds, in the order of the file, to the thing in a picture that makes it."""


class _Sentence(Settings):
    model_config = ConfigDict(frozen=True, extra="ignore")
    raw: str


class _Listed(Settings):
    model_config = ConfigDict(frozen=True, extra="ignore")
    filename: str
    split: Literal["test"]
    sentences: Annotated[tuple[_Sentence, ...], Field(min_length=1)]
    things: tuple[str, ...]


def read_held_out(folder: Path) -> HeldOut:
    """Read what the held-out part of a miniworld lists; the pictures and sounds themselves stay closed.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list does not keep to the layout, is empty, or names what another one lacks.
    """
    concepts = _read_json(folder / CONCEPTS)
    for category, concept in concepts.items():
        if not isinstance(concept, str | None):
            raise ValueError(f"{folder / CONCEPTS} gives {category!r} the thing {concept!r}, expected a name or null")
    return HeldOut(_read_pictures(folder), _read_clips(folder, concepts), concepts)


def _read_pictures(folder: Path) -> tuple[Picture, ...]:
    path = folder / PICTURES
    images = _read_json(path).get("images")
    if not isinstance(images, list) or not images:
        raise ValueError(f"{path} has no pictures, expected a list 'images' in Karpathy's form")
    listed = [
        _Listed.parse(image if isinstance(image, dict) else {}, where=f"{path}, picture {number}")
        for number, image in enumerate(images)
    ]
    return tuple(
        Picture(
            folder / "images" / each.filename,
            tuple(sentence.raw for sentence in each.sentences),
            frozenset(each.things),
        )
        for each in listed
    )


def _read_clips(folder: Path, concepts: Mapping[str, Any]) -> tuple[Clip, ...]:
    """Join the table of sounds, their sentences, and the list of classes by the name of the file."""
    categories = _read_categories(folder / CLASSES_OF_SOUNDS, concepts)
    sentences = _read_json(folder / SENTENCES_OF_SOUNDS)
    clips = []
    for row in _read_rows(folder / SOUNDS, delimiter="\t"):
        key, path = row["uniq_id"], folder / row["audio"]
        if path.name not in categories:
            raise ValueError(f"{folder / SOUNDS} has {key!r}, expected one row for each row of {CLASSES_OF_SOUNDS}")
        said = sentences.pop(key, None)
        if not isinstance(said, list) or row["text"] not in said or not all(isinstance(each, str) for each in said):
            raise ValueError(f"{folder / SENTENCES_OF_SOUNDS} has {said!r} for {key!r}, expected a list with its text")
        clips.append(Clip(path, tuple(said), categories.pop(path.name)))
    for name, left in ((CLASSES_OF_SOUNDS, categories), (SENTENCES_OF_SOUNDS, sentences)):
        if left:
            raise ValueError(f"{folder / name} has {next(iter(left))!r}, which {SOUNDS} lacks; write the world again")
    return tuple(clips)


def _read_categories(path: Path, concepts: Mapping[str, Any]) -> dict[str, str]:
    """Give each clip's file name its class."""
    categories: dict[str, str] = {}
    for row in _read_rows(path, delimiter=","):
        name, category = row["filename"], row["category"]
        if name in categories:
            raise ValueError(f"{path} has {name!r} twice, expected one row a clip")
        if category not in concepts:
            raise ValueError(f"{path} has {name!r} of class {category!r}, which {CONCEPTS} lacks")
        categories[name] = category
    return categories


_COLUMNS = {CLASSES_OF_SOUNDS: ("filename", "category"), SOUNDS: ("uniq_id", "audio", "text")}


def _read_rows(path: Path, *, delimiter: Literal[",", "\t"]) -> list[dict[str, str]]:
    """Read a table with a header line; authors' tables, by tabs, have no quotes."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), delimiter=delimiter, quoting=quoting)
    columns = next(names for name, names in _COLUMNS.items() if path.match(name))
    if lacking := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise ValueError(f"{path} has no column {lacking[0]!r}, only {', '.join(reader.fieldnames or ()) or 'none'}")
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"{path}, line {reader.line_num}, has another number of values than the header")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no rows, expected one a clip")
    return rows


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no object with keys, expected one")
    return content


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; expected the folder held_out of a miniworld-pairs")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from None
