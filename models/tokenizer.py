"""Tokenizer: text to the ids of the published dictionary and back, by GPT-2's byte-level BPE."""

import functools
import heapq
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import regex  # type: ignore[import-untyped]  # Python's own `re` knows no \p{L}
from numpy.typing import NDArray

SPECIALS: Final = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3 of the published dictionary
PAD_ID: Final = 1
EOS_ID: Final = 2
UNK_ID: Final = 3

ENCODER_FILE: Final = "encoder.json"
MERGES_FILE: Final = "vocab.bpe"
DICTIONARY_FILE: Final = "dict.txt"

# Source: openai/gpt-2, src/encoder.py. What it takes apart is merged apart.
WORDS: Final = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")
CACHED_WORDS: Final = 2**16
CACHED_LENGTH: Final = 64  # characters; longer words are rare, and would fill the memory


def _byte_characters() -> dict[int, str]:
    """Give each byte the printable character that stands for it in the files.

    Source: openai/gpt-2, src/encoder.py: printable Latin-1 stands for itself, the rest is counted up from 256.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


BYTE_CHARACTERS: Final = MappingProxyType(_byte_characters())
"""By byte value, the character that stands for it in `encoder.json` and `vocab.bpe`; a blank is `Ġ`."""
CHARACTER_BYTES: Final = MappingProxyType({character: byte for byte, character in BYTE_CHARACTERS.items()})


class Tokenizer:
    """Text to dictionary ids and back.

    `decode(encode(text)) == text` for every text, where the dictionary has a line for each BPE id.

    Args:
        merges: pairs of pieces in the order they are merged; each makes a new piece of pieces already made.
        bpe_ids: by piece, its BPE id; every byte and every merged piece has one.
        entries: the dictionary without its four specials, in order; a BPE id in decimal, or a name without text.

    Source: openai/gpt-2, src/encoder.py; dictionary of OFA-Sys/ONE-PEACE. Differs: merging takes n log n steps.
    """

    def __init__(self, merges: Sequence[tuple[str, str]], bpe_ids: Mapping[str, int], entries: Sequence[str]) -> None:
        self._source = (tuple(merges), dict(bpe_ids), tuple(entries))
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.symbols: Final = (*SPECIALS, *entries)
        """Every dictionary entry by its id: specials, BPE ids in decimal, names without text."""
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        pieces = {str(bpe_id): piece for piece, bpe_id in bpe_ids.items()}
        self._texts = [_piece_bytes(pieces[entry]) if entry in pieces else None for entry in self.symbols]
        self._piece_ids = {piece: self.id_of_bpe(bpe_id) for piece, bpe_id in bpe_ids.items()}
        self._encode_often = functools.lru_cache(CACHED_WORDS)(self._encode_word)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, self._source

    @classmethod
    def read(cls, folder: Path) -> "Tokenizer":
        """Read a vocabulary folder: `encoder.json`, `vocab.bpe`, `dict.txt`.

        Raises:
            FileNotFoundError: one of the three is missing.
            ValueError: one of them is malformed; one line with the file and, where there is one, the line.
        """
        bpe_ids = _read_encoder(folder / ENCODER_FILE)
        merges = _read_merges(folder / MERGES_FILE, bpe_ids)
        return cls(merges, bpe_ids, _read_dictionary(folder / DICTIONARY_FILE, bpe_ids))

    @property
    def vocabulary_size(self) -> int:
        """Dictionary entries, specials included."""
        return len(self.symbols)

    @cached_property
    def word_starts(self) -> NDArray[np.bool_]:
        """Whether a word starts at a dictionary entry, (vocabulary_size,), read-only.

        A word starts at a piece that begins with a blank; specials and names without text count as starts.
        """
        starts = np.array([text is None or text.startswith(b" ") for text in self._texts])
        starts.flags.writeable = False
        return starts

    def id_of_bpe(self, bpe_id: int) -> int:
        """Map a BPE id to its dictionary id; one that the dictionary has no line for is `<unk>`."""
        return self._ids.get(str(bpe_id), UNK_ID)

    def encode(self, text: str) -> list[int]:
        """Turn a text into dictionary ids, without specials; special names in it are ordinary characters.

        Raises:
            ValueError: the text holds a lone surrogate, which UTF-8 cannot express.
        """
        ids: list[int] = []
        try:
            for word in WORDS.findall(text):
                ids += self._encode_often(word) if len(word) <= CACHED_LENGTH else self._encode_word(word)
        except UnicodeEncodeError:
            raise ValueError(_surrogate(text)) from None
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Turn dictionary ids back into text.

        Specials and names without text give nothing, `<unk>` and bytes that are no UTF-8 give U+FFFD.

        Raises:
            ValueError: an id outside the dictionary.
        """
        parts = []
        for index in ids:
            if not 0 <= index < len(self.symbols):
                raise ValueError(f"id {int(index)} is outside the dictionary; expected 0 to {len(self.symbols) - 1}")
            parts.append("\ufffd".encode() if index == UNK_ID else self._texts[index] or b"")
        return b"".join(parts).decode("utf-8", errors="replace")

    def _encode_word(self, word: str) -> tuple[int, ...]:
        parts = [BYTE_CHARACTERS[byte] for byte in word.encode("utf-8")]
        return tuple(self._piece_ids[piece] for piece in merge_pieces(parts, self._ranks))


def merge_pieces(parts: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Merge neighbours, the pair of the lowest rank first, from left to right, until no pair is left.

    Args:
        parts: the characters of one word.
        ranks: by pair, its place in the order; pairs make new pieces of pieces made before, as `Tokenizer` wants.
    """
    pieces: list[str | None] = list(parts)
    after = list(range(1, len(pieces) + 1))
    before = list(range(-1, len(pieces) - 1))
    heap = [(ranks[pair], left) for left, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, left = heapq.heappop(heap)
        right = after[left]
        first, second = pieces[left], pieces[right] if right < len(pieces) else None
        if first is None or second is None or ranks.get((first, second)) != rank:
            continue  # a neighbour was merged with another one since
        pieces[left], pieces[right] = first + second, None
        after[left] = after[right]
        if after[left] < len(pieces):
            before[after[left]] = left
        for start in (before[left], left):
            stop = after[start] if start >= 0 else len(pieces)
            new = ranks.get((pieces[start] or "", pieces[stop] or "")) if stop < len(pieces) else None
            if new is not None:
                heapq.heappush(heap, (new, start))
    return [piece for piece in pieces if piece is not None]


def _piece_bytes(piece: str) -> bytes:
    return bytes(CHARACTER_BYTES[character] for character in piece)


def _surrogate(text: str) -> str:
    """Say where a text holds what UTF-8 cannot express."""
    place, found = next((n, c) for n, c in enumerate(text) if "\ud800" <= c <= "\udfff")
    return (
        f"character {place} of {text[max(0, place - 20) : place + 20]!r} is the lone surrogate {found!r}, which UTF-8 "
        "cannot express; decode the text with errors='replace', or mend it"
    )


def _read_lines(path: Path) -> list[str]:
    """Read a text file as UTF-8 lines, LF or CRLF, the last line end optional.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; a vocabulary is {ENCODER_FILE}, {MERGES_FILE} and {DICTIONARY_FILE}")
    content = path.read_bytes()
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line}: byte 0x{content[error.start]:02x} is no UTF-8") from None
    return [line.removesuffix("\r") for line in (lines[:-1] if not lines[-1] else lines)]


def _read_encoder(path: Path) -> dict[str, int]:
    """Read the BPE id of each piece."""
    content = "\n".join(_read_lines(path))
    try:
        values = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {error.lineno}: no JSON, {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError):  # ValueError: a number of more digits than Python reads
        raise ValueError(f"{path} line 1: nested too deep or too long a number, expected pieces and ids") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} line 1: a {type(values).__name__}, expected an object of pieces and ids")
    taken: dict[int, str] = {}
    for piece, bpe_id in values.items():
        if type(bpe_id) is not int or bpe_id < 0:
            raise ValueError(f"{path}: piece {piece!r} has id {str(bpe_id)[:40]!r}, expected a whole number from 0")
        if not piece or not set(piece) <= CHARACTER_BYTES.keys():
            raise ValueError(f"{path}: piece {piece!r} holds a character that stands for no byte")
        if taken.setdefault(bpe_id, piece) != piece:
            raise ValueError(f"{path}: pieces {taken[bpe_id]!r} and {piece!r} share id {bpe_id}")
    for byte, character in BYTE_CHARACTERS.items():
        if character not in values:
            raise ValueError(f"{path}: no piece {character!r} for byte 0x{byte:02x}")
    return values


def _read_merges(path: Path, bpe_ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Read the merges in order; the first line is a comment."""
    made = dict.fromkeys(CHARACTER_BYTES, 0)
    merges = []
    for number, line in enumerate(_read_lines(path)[1:], start=2):
        pair = tuple(line.split(" "))
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"{path} line {number}: {line[:80]!r}, expected two pieces with one blank between")
        unmade = [piece for piece in pair if piece not in made]
        if unmade:
            raise ValueError(f"{path} line {number}: piece {unmade[0]!r} is not made by an earlier line")
        piece = "".join(pair)
        if piece in made:
            raise ValueError(f"{path} line {number}: piece {piece!r} is made already by line {made[piece]}")
        if piece not in bpe_ids:
            raise ValueError(f"{path} line {number}: piece {piece!r} is not in {ENCODER_FILE}")
        made[piece] = number
        merges.append((pair[0], pair[1]))
    return merges


def _read_dictionary(path: Path, bpe_ids: Mapping[str, int]) -> list[str]:
    """Read the dictionary's entries in order: a BPE id or a name, and a count that nothing needs."""
    known = {str(bpe_id) for bpe_id in bpe_ids.values()}
    seen = dict.fromkeys(SPECIALS, 0)
    for number, line in enumerate(_read_lines(path), start=1):
        entry, _, count = line.partition(" ")
        if not entry or not (count.isascii() and count.isdigit()):
            raise ValueError(f"{path} line {number}: {line[:80]!r}, expected a BPE id, one blank and a count")
        if entry in seen:
            raise ValueError(f"{path} line {number}: {entry!r} stands there already, on line {seen[entry]}")
        if entry.isdigit() and entry not in known:
            raise ValueError(f"{path} line {number}: BPE id {entry} is not in {ENCODER_FILE}")
        seen[entry] = number
    return list(seen)[len(SPECIALS) :]
