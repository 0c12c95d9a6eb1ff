"""Sentences that mean exactly one thing of a picture: by its kind, its colour, its place, or what it stands beside."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from miniworld.places import SIDES, find_beside, find_outermost
from miniworld.scene import Thing
from miniworld.sentence import say_differently

Option = TypeVar("Option")


@dataclass(frozen=True)
class Style:
    """How those who made a data set would speak of a thing.

    Attributes:
        nouns: what it is, from {colour} and {name}.
        bare: frames of a {noun} that means one thing only.
        placed: frames of a {noun} and the {side} of the picture where it is.
        ranked: the same, but only where the noun fits several things.
        related: frames of a {noun} and the {side} of another thing, {other}, where it is.
        others: how the other thing is called, from {colour} and {name}; it means that one only.
    """

    nouns: tuple[str, ...]
    bare: tuple[str, ...] = ()
    placed: tuple[str, ...] = ()
    ranked: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


BARE: Final = ("{noun}", "the {noun}")
STYLES: Final = {
    "refcoco": Style(
        nouns=("{colour} {name}", "{name}"),
        bare=BARE,
        placed=("{noun} on {side}", "{noun} on the {side}", "the {noun} on the {side}"),
        ranked=("{side} {noun}", "the {side} {noun}"),
        related=("{noun} {side} of {other}", "{noun} {side} of the {other}", "the {noun} to the {side} of the {other}"),
        others=("{name}", "{colour} {name}"),
    ),
    "refcoco_plus": Style(nouns=("{colour} {name}", "{name}", "{colour} thing", "{name} that is {colour}"), bare=BARE),
    "refcocog": Style(
        nouns=("{colour} {name}",),
        placed=(
            "the {noun} that is on the {side} side of the picture",
            "the {noun} which is on the {side} of the image",
            "the {noun} that we see on the {side} side",
        ),
        related=(
            "the {noun} that is {side} of the {other}",
            "the {noun} which is to the {side} of the {other}",
            "the {noun} on the {side} side of the {other}",
            "the {noun} that we see to the {side} of the {other}",
        ),
        others=("{colour} {name}",),
    ),
}


def refer(
    target: Thing, things: Sequence[Thing], *, style: Style, width_px: int, rng: np.random.Generator, num_sentences: int
) -> tuple[str, ...]:
    """Say which of the things is meant, in so many different sentences as far as there are any.

    Returns:
        The sentences; none where no sentence of the style would mean this thing and no other.
    """
    choices = [known for known in list_sentences(target, things, style=style, width_px=width_px) if known]
    if not choices:
        return ()
    return say_differently(lambda: _pick(rng, _pick(rng, choices)), num_sentences)


def list_sentences(
    target: Thing, things: Sequence[Thing], *, style: Style, width_px: int
) -> tuple[list[str], list[str], list[str]]:
    """List all sentences that mean this thing and no other: bare ones, with its place, with another thing."""
    bare, placed, related = [], [], []
    for pattern in style.nouns:
        noun, fitting = _name(target, pattern), _find_fitting(target, things, pattern=pattern)
        if fitting == (target,):
            bare += [frame.format(noun=noun) for frame in style.bare]
        for side in SIDES:
            if find_outermost(side, among=fitting, width_px=width_px) == target:
                frames = (*style.placed, *style.ranked) if len(fitting) > 1 else style.placed
                placed += [frame.format(noun=noun, side=side) for frame in frames]
        for other, side in itertools.product(things, SIDES):
            if other != target and find_beside(other, side, among=fitting, width_px=width_px) == (target,):
                names = [_name(other, each) for each in style.others if _is_clear(other, things, pattern=each)]
                related += [frame.format(noun=noun, side=side, other=name) for frame in style.related for name in names]
    return bare, placed, related


def _name(thing: Thing, pattern: str) -> str:
    return pattern.format(name=thing.name, colour=thing.colour)


def _find_fitting(target: Thing, things: Sequence[Thing], *, pattern: str) -> tuple[Thing, ...]:
    """Find the things that a name fits, which is all of them that would be called the same."""
    return tuple(thing for thing in things if _name(thing, pattern) == _name(target, pattern))


def _is_clear(target: Thing, things: Sequence[Thing], *, pattern: str) -> bool:
    return len(_find_fitting(target, things, pattern=pattern)) == 1


def _pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]
