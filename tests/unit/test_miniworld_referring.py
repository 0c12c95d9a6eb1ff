"""A sentence means the thing that it is about, and no other one in the picture."""

import re

import numpy as np
import pytest

from miniworld.referring import STYLES, list_sentences, refer
from miniworld.scene import Thing

WIDTH_PX = 100


def _thing(name: str, colour: str, *, middle: int, instance: int) -> Thing:
    return Thing(name, colour, (middle - 10, 20, middle + 10, 60), instance)


LEFT_HOUSE = _thing("house", "red", middle=15, instance=1)
RIGHT_HOUSE = _thing("house", "red", middle=85, instance=2)
BLUE_HOUSE = _thing("house", "blue", middle=85, instance=2)
TREE = _thing("tree", "green", middle=50, instance=3)


def _say(target: Thing, things: list[Thing], style: str) -> list[str]:
    known = list_sentences(target, things, style=STYLES[style], width_px=WIDTH_PX)
    return [sentence for each in known for sentence in each]


def test_a_kind_says_enough_where_there_is_only_one() -> None:
    assert {"tree", "the tree", "green tree"} <= set(_say(TREE, [LEFT_HOUSE, RIGHT_HOUSE, TREE], "refcoco"))


def test_of_two_alike_the_place_is_said() -> None:
    said = _say(LEFT_HOUSE, [LEFT_HOUSE, RIGHT_HOUSE, TREE], "refcoco")
    assert {"left house", "the red house on the left", "house left of tree"} <= set(said)
    assert all("left" in sentence for sentence in said)


def test_of_two_colours_the_colour_is_said() -> None:
    said = _say(LEFT_HOUSE, [LEFT_HOUSE, BLUE_HOUSE, TREE], "refcoco_plus")
    assert {"red house", "the red thing", "house that is red"} <= set(said)
    assert all("red" in sentence for sentence in said)


def test_without_words_for_places_two_alike_cannot_be_told_apart() -> None:
    things = [LEFT_HOUSE, RIGHT_HOUSE, TREE]
    rng = np.random.default_rng(0)
    assert refer(LEFT_HOUSE, things, style=STYLES["refcoco_plus"], width_px=WIDTH_PX, rng=rng, num_sentences=2) == ()


def test_nothing_is_placed_beside_what_it_can_hardly_be_told_from() -> None:
    close = _thing("dog", "brown", middle=55, instance=4)
    assert not any("of" in sentence.split() for sentence in _say(close, [TREE, close], "refcoco"))


def test_a_thing_alone_of_its_kind_is_not_ranked() -> None:
    said = _say(LEFT_HOUSE, [LEFT_HOUSE, TREE], "refcoco")
    assert "house on the left" in said
    assert not any(re.match(r"(the )?left", sentence) for sentence in said)


def test_long_sentences_are_long() -> None:
    said = _say(LEFT_HOUSE, [LEFT_HOUSE, RIGHT_HOUSE, TREE], "refcocog")
    assert said
    assert all(len(sentence.split()) >= 8 for sentence in said)


@pytest.mark.parametrize("style", STYLES)
def test_as_many_different_sentences_as_asked_for(style: str) -> None:
    said = refer(
        LEFT_HOUSE,
        [LEFT_HOUSE, BLUE_HOUSE, TREE],
        style=STYLES[style],
        width_px=WIDTH_PX,
        rng=np.random.default_rng(0),
        num_sentences=3,
    )
    assert len(set(said)) == len(said) == 3
