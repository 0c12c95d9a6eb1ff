"""Sentences about two pictures, true or false, in the layout of NLVR2.

`nlvr2/`, from `write_nlvr2`:

    data/{train,dev,test1}.json         an object a line: identifier, sentence, label ("True" or "False"), left_url,
                                        right_url, validation, writer, synset, query; of train: directory; of the
                                        others: extra_validations
    images/{dev,test1}/                 <pair>-img0.png (left) and <pair>-img1.png; a pair is named by its identifier
                                        without the last part
    images/train/<directory>/           the same
    nlvr2_{train,dev,test1}.tsv         the authors' tables: uniq_id text image1 image2 label

An identifier is `<split>-<set>-<pair>-<sentence>`. A set has four pairs of pictures and two sentences, each of which is
true of two of the pairs. Every third file named .png holds JPEG data, as many of the real set do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from miniworld.comparing import Claim, list_claims
from miniworld.concepts import THINGS, Concept
from miniworld.orders import Order, make_order
from miniworld.pairs import Mix, draw_scene_of, pick_concepts
from miniworld.places import is_well_seen
from miniworld.samples import encode_picture, pair_seed
from miniworld.scene import Scene
from miniworld.sentence import begin_sentence
from miniworld.tables import Files, format_json, format_table
from miniworld.tree import write_tree

SIDE_PX: Final = 72
MIX: Final = Mix({1: 0.15, 2: 0.5, 3: 0.35}, twin_share=0.35)
THEME_SHARE: Final = 0.6  # how often a picture shows what its set is about
NUM_PAIRS: Final = 4
NUM_SENTENCES: Final = 2
EXAMPLES_PER_SET: Final = NUM_PAIRS * NUM_SENTENCES
EVERY_JPEG: Final = 3
NUM_FOLDERS: Final = 100  # of train
SPLITS: Final = ("train", "dev", "test1")
COMPARISON_COLUMNS: Final = ("uniq_id", "text", "image1", "image2", "label")


@dataclass(frozen=True, eq=False)
class PairSet:
    """Pairs of pictures with sentences about each of them.

    Attributes:
        theme: what most of it is about.
        pairs: four times a left and a right picture.
        claims: two.
        labels: for each claim, of which pairs it is true.
    """

    theme: str
    pairs: tuple[tuple[Scene, Scene], ...]
    claims: tuple[Claim, ...]
    labels: tuple[tuple[bool, ...], ...]


def write_nlvr2(
    root: Path, *, seed: int = 0, num_train: int = 700, num_dev: int = 160, num_test: int = 160, scale: float = 1.0
) -> Path:
    """Write `nlvr2` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: training examples, each a sentence about a pair; as many true as false ones in multiples of four.
        num_dev: examples of dev.
        num_test: examples of test1.
        scale: multiplies every count.

    Returns:
        The folder `nlvr2`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"num_train": num_train, "num_dev": num_dev, "num_test1": num_test}
    order = make_order("nlvr2", seed, counts=counts, scale=scale)
    return write_tree(root / "nlvr2", order.recipe, files=_make_files(order))


def draw_pair_set(seed: int, split: str, *, index: int) -> PairSet:
    """Draw four pairs of pictures about one theme and two sentences that are true of two of them each."""
    rng = np.random.default_rng(pair_seed(seed, f"nlvr2-{split}", index=index))
    while True:
        theme = THINGS[int(rng.integers(len(THINGS)))]
        pairs = [(_draw_one(rng, theme), _draw_one(rng, theme)) for _ in range(NUM_PAIRS)]
        chosen = _choose_claims(rng, theme, pairs)
        if len(chosen) == NUM_SENTENCES:
            return _alternate(theme.name, pairs, chosen=chosen, begins_true=bool(rng.integers(2)))


def _draw_one(rng: np.random.Generator, theme: Concept) -> Scene:
    """Draw pictures until one shows everything in it well."""
    while True:
        concepts = pick_concepts(rng, MIX, first=theme if rng.random() < THEME_SHARE else None)
        scene = draw_scene_of(int(rng.integers(2**63)), concepts, width_px=SIDE_PX, height_px=SIDE_PX)
        if len(scene.things) == len(concepts) and all(is_well_seen(thing, scene) for thing in scene.things):
            return scene


def _choose_claims(
    rng: np.random.Generator, theme: Concept, pairs: Sequence[tuple[Scene, Scene]]
) -> list[tuple[Claim, list[bool | None]]]:
    """Choose claims of different kinds that are true of half the pairs and false of the others."""
    names = {thing.name for pair in pairs for scene in pair for thing in scene.things} - {theme.name}
    claims = list_claims(theme, sorted(names), width_px=SIDE_PX)
    fitting: dict[str, list[tuple[Claim, list[bool | None]]]] = {}
    for claim in claims:
        labels = [claim.check(left.things, right.things) for left, right in pairs]
        if labels.count(True) == labels.count(False) == NUM_PAIRS // 2:
            fitting.setdefault(claim.kind, []).append((claim, labels))
    kinds = list(fitting)
    chosen = [fitting[kinds[place]] for place in rng.permutation(len(kinds)).tolist()[:NUM_SENTENCES]]
    return [known[int(rng.integers(len(known)))] for known in chosen]


def _alternate(
    theme: str,
    pairs: Sequence[tuple[Scene, Scene]],
    *,
    chosen: Sequence[tuple[Claim, Sequence[bool | None]]],
    begins_true: bool,
) -> PairSet:
    """Line the pairs up so that the first sentence is true of every other one: a set cut short keeps its balance."""
    first = chosen[0][1]
    true = [place for place, label in enumerate(first) if label]
    false = [place for place, label in enumerate(first) if not label]
    halves = (true, false) if begins_true else (false, true)
    order = [place for both in zip(*halves, strict=True) for place in both]
    return PairSet(
        theme,
        tuple(pairs[place] for place in order),
        tuple(claim for claim, _ in chosen),
        tuple(tuple(bool(labels[place]) for place in order) for _, labels in chosen),
    )


@dataclass(frozen=True)
class _Example:
    """One sentence about one pair, in numbers."""

    split: str
    set_number: int
    pair: int
    sentence: int

    @property
    def directory(self) -> int:
        """Where a pair of train lies."""
        return 37 * self.set_number % NUM_FOLDERS

    @property
    def identifier(self) -> str:
        return f"{self.split}-{self.set_number}-{self.pair}-{self.sentence}"

    @property
    def images(self) -> tuple[str, str]:
        """Names of the left and the right picture."""
        folder = f"images/{self.split}/{self.directory}" if self.split == "train" else f"images/{self.split}"
        stem = f"{folder}/{self.split}-{self.set_number}-{self.pair}"
        return f"{stem}-img0.png", f"{stem}-img1.png"


def _make_files(order: Order) -> Files:
    for split in SPLITS:
        lines, rows = [], []
        for example, drawn in _list_examples(order, split):
            if not example.sentence:
                yield from _make_pictures(example, drawn.pairs[example.pair])
            sentence = begin_sentence(drawn.claims[example.sentence].text) + "."
            label = str(drawn.labels[example.sentence][example.pair])
            lines.append(format_json(_list_example(example, sentence, label=label, theme=drawn.theme), indent=None))
            rows.append((example.identifier, sentence, *example.images, label))
        yield f"data/{split}.json", b"".join(lines)
        yield f"nlvr2_{split}.tsv", format_table(COMPARISON_COLUMNS, rows)


def _list_examples(order: Order, split: str) -> Iterator[tuple[_Example, PairSet]]:
    for start in range(0, order.counts[f"num_{split}"], EXAMPLES_PER_SET):
        set_number = start // EXAMPLES_PER_SET
        drawn = draw_pair_set(order.seed, split, index=set_number)
        for turn in range(min(EXAMPLES_PER_SET, order.counts[f"num_{split}"] - start)):
            sentence, pair = divmod(turn, NUM_PAIRS)
            yield _Example(split, set_number, pair, sentence), drawn


def _make_pictures(example: _Example, pair: tuple[Scene, Scene]) -> Files:
    first = 2 * (NUM_PAIRS * example.set_number + example.pair)
    for number, (name, scene) in enumerate(zip(example.images, pair, strict=True), start=first):
        yield name, encode_picture(scene.image, "PNG" if number % EVERY_JPEG else "JPEG")


def _list_example(example: _Example, sentence: str, *, label: str, theme: str) -> dict[str, Any]:
    url = f"https://miniworld.example/{example.split}/{example.set_number}/{example.pair}"
    listed: dict[str, Any] = {
        "validation": {str(20 + example.set_number % 50): label},
        "sentence": sentence,
        "left_url": f"{url}/left.png",
        "writer": str(80 + example.set_number % 70),
        "label": label,
        "right_url": f"{url}/right.png",
        "synset": theme,
        "query": f"some {theme}{example.set_number}",
        "identifier": example.identifier,
    }
    if example.split == "train":
        return listed | {"directory": example.directory}
    return listed | {"extra_validations": {str(150 + number): label for number in range(4)}}
