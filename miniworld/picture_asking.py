"""Questions about one picture, each with its one true answer and with what somebody careless might say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

import numpy as np

from miniworld.colours import COLOURS
from miniworld.concepts import THINGS, find_concept
from miniworld.places import SIDE_REACH, SIDES, find_beside, find_middle, find_outermost
from miniworld.scene import Thing
from miniworld.sentence import PLURALS, name_group

Option = TypeVar("Option")
AnswerKind: TypeAlias = Literal["yes/no", "number", "other"]

# From special to general, as VQA sorts questions.
OPENINGS: Final = (
    *("is there a", "is there", "is the", "how many", "what color is the", "what color are the"),
    *("what is in the", "what is on the", "what is"),
)
LARGEST_NUMBER: Final = 4
ABSENT_SHARE: Final = 0.2  # how often it is counted what is not there
ANSWERS: Final = (
    *("yes", "no"),
    *(str(number) for number in range(LARGEST_NUMBER + 1)),
    *COLOURS,
    *(concept.name for concept in THINGS),
)


@dataclass(frozen=True)
class PictureQuestion:
    """A question with what is said to it.

    Attributes:
        kind: what sort of answer it asks for, as VQA names it.
        text: small letters, without question mark.
        answer: the true one; one of `ANSWERS`.
        others: wrong ones, all of `ANSWERS`.
    """

    kind: AnswerKind
    text: str
    answer: str
    others: tuple[str, ...]

    @property
    def opening(self) -> str:
        """The words it begins with, by which VQA sorts questions."""
        return next(opening for opening in OPENINGS if self.text.startswith(f"{opening} "))


@dataclass(frozen=True)
class _View:
    things: Sequence[Thing]
    width_px: int

    @property
    def names(self) -> list[str]:
        return sorted({thing.name for thing in self.things})

    def find(self, name: str, colour: str | None = None) -> list[Thing]:
        return [thing for thing in self.things if thing.name == name and colour in (None, thing.colour)]

    @property
    def single(self) -> list[Thing]:
        """Things that are the only ones of their kind."""
        return [thing for thing in self.things if len(self.find(thing.name)) == 1]


def ask_about(things: Sequence[Thing], rng: np.random.Generator, *, width_px: int) -> tuple[PictureQuestion, ...]:
    """Ask one question of each kind about what a picture shows, in any order.

    Returns:
        Three questions, or two where nothing could be asked for a word without being in doubt.

    Raises:
        ValueError: it shows nothing.
    """
    if not things:
        raise ValueError("the picture shows no things; a question needs at least one")
    view = _View(things, width_px)
    asked = [each for ask in (_ask_yes_no, _ask_number, _ask_other) if (each := ask(view, rng))]
    return tuple(asked[place] for place in rng.permutation(len(asked)).tolist())


def _ask_yes_no(view: _View, rng: np.random.Generator) -> PictureQuestion:
    answer = ("yes", "no")[int(rng.integers(2))]
    makers: tuple[Callable[[_View, np.random.Generator, bool], str | None], ...]
    makers = (_claim_kind, _claim_colour, _claim_order)
    claims = (makers[place](view, rng, answer == "yes") for place in rng.permutation(len(makers)).tolist())
    claim = next(claim for claim in claims if claim)  # a kind can always be claimed
    return PictureQuestion("yes/no", f"is {claim}", answer, ("no" if answer == "yes" else "yes",))


def _claim_kind(view: _View, rng: np.random.Generator, is_true: bool) -> str:
    name = _pick(rng, view.names if is_true else _list_absent(view))
    return f"there {'an' if name[0] in 'aeiou' else 'a'} {name}"


def _claim_colour(view: _View, rng: np.random.Generator, is_true: bool) -> str | None:
    """Give a thing its colour, or one that no other of its kind has in this picture."""
    thing = _pick(rng, view.things)
    wrong = [colour for colour in find_concept(thing.name).colours if not view.find(thing.name, colour)]
    colours = [thing.colour] if is_true else wrong
    return f"there {name_group(thing.name, _pick(rng, colours))}" if colours else None


def _claim_order(view: _View, rng: np.random.Generator, is_true: bool) -> str | None:
    claims = [
        f"the {thing.name} {side} of the {anchor.name}"
        for anchor in view.single
        for thing in view.single
        for side in SIDES
        if thing != anchor
        if (found := find_beside(anchor, side, among=[thing], width_px=view.width_px)) is not None
        if bool(found) == is_true
    ]
    return _pick(rng, claims) if claims else None


def _ask_number(view: _View, rng: np.random.Generator) -> PictureQuestion:
    name = _pick(rng, _list_absent(view) if rng.random() < ABSENT_SHARE else view.names)
    colour = _pick(rng, find_concept(name).colours) if rng.random() < ABSENT_SHARE else None
    frame = _pick(rng, ("how many {} are there", "how many {} are in the picture", "how many {} do we see"))
    plural = PLURALS.get(name, f"{name}s")
    count = len(view.find(name, colour))
    others = tuple(str(number) for number in (count - 1, count + 1) if number >= 0)
    text = frame.format(f"{colour} {plural}" if colour else plural)
    return PictureQuestion("number", text, str(count), others)


def _ask_other(view: _View, rng: np.random.Generator) -> PictureQuestion | None:
    choices = [known for known in (_list_colours(view), _list_beside(view), _list_placed(view)) if known]
    if not choices:
        return None
    text, answer = _pick(rng, _pick(rng, choices))
    words = tuple(COLOURS) if answer in COLOURS else tuple(concept.name for concept in THINGS)
    others = [word for word in words if word != answer]
    return PictureQuestion("other", text, answer, tuple(_pick(rng, others) for _ in range(2)))


def _list_colours(view: _View) -> list[tuple[str, str]]:
    """Ask for colours, of twins by their place; where they cannot be told apart, if they have one colour."""
    asked = []
    for name in view.names:
        alike = view.find(name)
        if len({thing.colour for thing in alike}) == 1:
            whose = f"are the {PLURALS.get(name, name + 's')}" if len(alike) > 1 else f"is the {name}"
            asked.append((f"what color {whose}", alike[0].colour))
            continue
        for side in SIDES:
            found = find_outermost(side, among=alike, width_px=view.width_px)
            asked += [(f"what color is the {name} on the {side}", found.colour)] if found else []
    return asked


def _list_beside(view: _View) -> list[tuple[str, str]]:
    asked = []
    for anchor in view.single:
        for side in SIDES:
            found = find_beside(anchor, side, among=view.things, width_px=view.width_px)
            if found and len(found) == 1:
                asked.append((f"what is {side} of the {anchor.name}", found[0].name))
    return asked


def _list_placed(view: _View) -> list[tuple[str, str]]:
    asked = []
    for side in SIDES:
        depths = {thing: find_middle(thing, width_px=view.width_px) for thing in view.things}
        found = [name for name, depth in depths.items() if (depth if side == "left" else 1 - depth) < SIDE_REACH]
        if len(found) == 1 and find_outermost(side, among=view.things, width_px=view.width_px):
            asked.append((f"what is on the {side} side of the picture", found[0].name))
    flyers = [thing for thing in view.things if (form := find_concept(thing.name).form) and form.zone == "sky"]
    return [*asked, *(("what is in the sky", thing.name) for thing in flyers if len(flyers) == 1)]


def _list_absent(view: _View) -> list[str]:
    return [concept.name for concept in THINGS if concept.name not in view.names]


def _pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]
