"""Karpathy's json of MSCOCO and Flickr30K: each sentence of a picture is one sample.

The file is gone through once; only where every so-many-th picture begins is kept.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pretrain.data.base import RawSample, SampleError
from pretrain.data.config import SourceConfig
from pretrain.data.tables import BYTES, place_value

BLOCK_BYTES = 1 << 20
BLANKS = " \t\r\n"
PICTURE_FILE = "filename"


class JsonText:
    """A json file read piece by piece, each byte as one character, so that places in it are bytes.

    Args:
        stream: at its beginning.
        path: its name, for messages.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self._text, self._at, self._start = "", 0, 0

    @property
    def offset(self) -> int:
        """Byte of the file that comes next."""
        return self._start + self._at

    def peek(self) -> str:
        """Show the next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in BLANKS:
                self._at += 1
            if self._at < len(self._text) or not self._read_on(BLOCK_BYTES):
                return self._text[self._at : self._at + 1]

    def expect(self, characters: str) -> str:
        """Take one of some characters.

        Raises:
            ValueError: another one comes.
        """
        found = self.peek()
        if not found or found not in characters:
            what = " or ".join(map(repr, characters))
            raise ValueError(
                f"{self._path} has {found!r} at byte {self.offset}, expected {what}: it is no Karpathy json"
            )
        self._at += 1
        return found

    def take(self) -> Any:
        """Take a whole value.

        Raises:
            ValueError: none comes.
        """
        self.peek()
        wanted = BLOCK_BYTES
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except ValueError as error:
                if not self._read_on(wanted):
                    raise ValueError(f"{self._path} cannot be read from byte {self.offset} on: {error}") from None
            else:
                if end < len(self._text) or not self._read_on(wanted):  # a number may go on in the next piece
                    self._at = end
                    return value
            wanted *= 2  # so that a large value is not tried too often

    def _read_on(self, num_bytes: int) -> bool:
        piece = self._stream.read(num_bytes)
        self._text, self._start, self._at = self._text[self._at :] + piece.decode(BYTES), self.offset, 0
        return bool(piece)


def walk_pictures(text: JsonText) -> Iterator[tuple[int, int, Any]]:
    """Give the pictures of a json one after the other, each after the bytes at which it begins and ends.

    Raises:
        ValueError: it is no object with a list `images`.
    """
    text.expect("{")
    while text.take() != "images":
        text.expect(":")
        text.take()
        text.expect(",")
    text.expect(":")
    text.expect("[")
    while text.peek() != "]":
        begin, picture = text.offset, text.take()
        yield begin, text.offset, picture
        if text.peek() != "]":
            text.expect(",")


@dataclass(frozen=True)
class Piece:
    """Some pictures that follow each other in the file."""

    start: int
    """Byte at which its first picture begins."""
    end: int
    num_samples: int
    """Sentences of the pictures of the wanted splits."""


def index_pictures(path: Path, splits: Sequence[str], pictures_per_piece: int) -> list[Piece]:
    """Go through a json once to see where its pictures lie.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no Karpathy json, or has no picture of a split.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no json at {path}")
    pieces, found = [], set()
    with path.open("rb") as stream:
        text = JsonText(stream, path)
        start, num_pictures, num_samples = None, 0, 0
        for begin, end, picture in walk_pictures(text):
            start = begin if start is None else start
            split, sentences = _check_picture(picture, f"{path}, the picture before byte {end}")
            found.add(split)
            if split in splits:
                num_pictures, num_samples = num_pictures + 1, num_samples + len(sentences)
            if num_pictures == pictures_per_piece:
                pieces.append(Piece(start, end, num_samples))
                start, num_pictures, num_samples = None, 0, 0
        if num_samples and start is not None:
            pieces.append(Piece(start, end, num_samples))
    if missing := [split for split in splits if split not in found]:
        raise ValueError(f"{path} has no split {missing[0]!r}, only {', '.join(sorted(found))}")
    return pieces


def _check_picture(picture: Any, where: str) -> tuple[str, Sequence[Any]]:
    """Give a picture's split and sentences."""
    if isinstance(picture, dict):
        split, sentences = picture.get("split"), picture.get("sentences")
        if isinstance(split, str) and isinstance(sentences, list) and isinstance(picture.get(PICTURE_FILE), str):
            return split, sentences
    raise ValueError(f"{where}, lacks a split, a {PICTURE_FILE} or sentences: it is no Karpathy json")


@dataclass(frozen=True)
class Sentence:
    """One sample: a sentence and the picture it is about."""

    key: str
    picture: str
    """Path below the root."""
    values: Any
    """The sentence's own object."""


class KarpathyShard:
    """The sentences of some pictures that follow each other."""

    def __init__(self, sentences: Sequence[Sentence], config: SourceConfig) -> None:
        self._sentences, self._config = sentences, config
        self._root = Path(config.path).parent if config.root is None else Path(config.root)

    def __len__(self) -> int:
        return len(self._sentences)

    def read(self, ordinal: int) -> RawSample:
        """Read one sentence; see `Shard.read`."""
        sentence = self._sentences[ordinal]
        fields = {
            modality: place_value(modality, self._find(sentence, name), root=self._root, key=sentence.key)
            for modality, name in self._config.fields.items()
        }
        return RawSample(sentence.key, fields)

    def _find(self, sentence: Sentence, name: str) -> str:
        """Find a value and check that it is text."""
        known = {PICTURE_FILE: sentence.picture} | (sentence.values if isinstance(sentence.values, dict) else {})
        value = known.get(name)
        if not isinstance(value, str):
            raise SampleError("missing member", f"no text under {name!r}", key=sentence.key)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise SampleError("malformed row", f"{name} {value!r} is not UTF-8", key=sentence.key) from None
        return value

    def close(self) -> None:
        """Nothing is open."""


class KarpathySource:
    """One json, some of its splits.

    Args:
        config: of kind `karpathy`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no Karpathy json, or has no picture of a split.
    """

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._path = Path(config.path)
        self._pieces = index_pictures(self._path, config.split, config.rows_per_shard)

    @property
    def shards(self) -> Sequence[str]:
        """The file's name and the number of each piece."""
        return [f"{self._path.name}:{number}" for number in range(len(self._pieces))]

    def count(self, shard: int) -> int:
        """Count the sentences of a piece; see `Source.count`."""
        return self._pieces[shard].num_samples

    def open(self, shard: int) -> KarpathyShard:
        """Read the pictures of a piece; see `Source.open`."""
        piece = self._pieces[shard]
        if not self._path.is_file():
            raise FileNotFoundError(f"no json at {self._path} any more")
        with self._path.open("rb") as stream:
            stream.seek(piece.start)
            text = stream.read(piece.end - piece.start).decode("utf-8", errors="surrogateescape")
        try:
            pictures = json.loads(f"[{text}]")
            sentences = list(self._list_sentences(pictures))
        except ValueError:
            sentences = []
        if len(sentences) != piece.num_samples:
            raise ValueError(f"{self._path} was changed while it was read, at byte {piece.start} or after: start again")
        return KarpathyShard(sentences, self._config)

    def _list_sentences(self, pictures: Sequence[Any]) -> Iterator[Sentence]:
        for picture in pictures:
            split, sentences = _check_picture(picture, str(self._path))
            name = picture[PICTURE_FILE]
            path = f"{picture['filepath']}/{name}" if picture.get("filepath") else name
            for number, values in enumerate(sentences if split in self._config.split else []):
                told = values.get("sentid") if isinstance(values, dict) else None
                yield Sentence(f"{name}#{number}" if told is None else str(told), path, values)
