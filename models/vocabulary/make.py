"""Make the mini vocabulary: byte-level BPE trained on our own word list, in the published vocabulary's three formats.

`python -m models.vocabulary.make FOLDER` writes the three files; the same list gives the same bytes.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from models.tokenizer import (
    BYTE_CHARACTERS,
    DICTIONARY_FILE,
    ENCODER_FILE,
    MERGES_FILE,
    SPECIALS,
)

WORDS_FILE: Final = Path(__file__).with_name("words.txt")
VOCABULARY_SIZE: Final = 2048  # as models/configs/mini.yaml

Pair = tuple[str, str]


def read_words(path: Path = WORDS_FILE) -> Counter[str]:
    """Read the weight of each word, a blank in front as in a sentence; `#` is a comment, `= N` sets the weight.

    Raises:
        ValueError: a word before any weight, or a weight that is no whole number from 1.
    """
    words: Counter[str] = Counter()
    weight = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("="):
            weight = int(line[1:]) if line[1:].strip().isdecimal() else 0
        if line and not line.startswith("#") and weight < 1:
            raise ValueError(f"{path.name} line {number}: {line[:40]!r}, expected a weight such as '= 10' first")
        if not line.startswith(("=", "#")):
            words.update({f" {word}": weight for word in line.split()})
    return words


@dataclass
class Corpus:
    """Words as the pieces they are made of so far, and how often each pair of neighbours occurs in them."""

    weights: Mapping[str, int]
    pieces: dict[str, list[str]] = field(init=False)
    counts: Counter[Pair] = field(init=False, default_factory=Counter)
    places: defaultdict[Pair, set[str]] = field(init=False, default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        self.pieces = {word: [BYTE_CHARACTERS[byte] for byte in word.encode()] for word in self.weights}
        for word in self.weights:
            self._count(word, self.weights[word])

    def _count(self, word: str, weight: int) -> None:
        for pair in pairwise(self.pieces[word]):
            self.counts[pair] += weight
            self.places[pair].add(word)
            if not self.counts[pair]:
                del self.counts[pair]

    def best_pair(self, made: Collection[str]) -> Pair:
        """Find the most frequent pair that makes a new piece; of equals the first in the alphabet.

        Raises:
            ValueError: every word is one piece already.
        """
        candidates = ((-count, pair) for pair, count in self.counts.items() if "".join(pair) not in made)
        best = min(candidates, default=None)
        if best is None:
            raise ValueError(f"{len(made)} pieces exhaust the word list; add words to {WORDS_FILE.name}")
        return best[1]

    def merge(self, pair: Pair) -> None:
        """Merge a pair in every word, from left to right."""
        for word in self.places.pop(pair):
            self._count(word, -self.weights[word])
            merged: list[str] = []
            for piece in self.pieces[word]:
                if merged and (merged[-1], piece) == pair:
                    merged[-1] += piece
                else:
                    merged.append(piece)
            self.pieces[word] = merged
            self._count(word, self.weights[word])


def train(weights: Mapping[str, int], num_pieces: int) -> tuple[list[Pair], Counter[str]]:
    """Train byte-level BPE.

    Args:
        weights: by word, how often it occurs.
        num_pieces: pieces in the end, the 256 bytes included.

    Returns:
        The merges in order, and how often each piece occurs in the words when all are applied.
    """
    corpus = Corpus(weights)
    made = dict.fromkeys(BYTE_CHARACTERS.values())
    merges: list[Pair] = []
    while len(made) < num_pieces:
        merges.append(corpus.best_pair(made))
        corpus.merge(merges[-1])
        made["".join(merges[-1])] = None
    uses: Counter[str] = Counter(dict.fromkeys(made, 0))
    for word, pieces in corpus.pieces.items():
        for piece in pieces:
            uses[piece] += weights[word]
    return merges, uses


def make_vocabulary(folder: Path) -> None:
    """Write the mini vocabulary's three files; the dictionary is in order of use, as the published one."""
    merges, uses = train(read_words(), VOCABULARY_SIZE - len(SPECIALS))
    ids = {piece: bpe_id for bpe_id, piece in enumerate(uses)}
    order = sorted(uses, key=lambda piece: (-uses[piece], ids[piece]))
    contents = {
        ENCODER_FILE: json.dumps(ids),
        MERGES_FILE: "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in merges),
        DICTIONARY_FILE: "".join(f"{ids[piece]} {uses[piece]}\n" for piece in order),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content.encode("utf-8"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("error: name the folder to write: python -m models.vocabulary.make FOLDER")
    make_vocabulary(Path(sys.argv[1]))
