"""Answers to questions about a picture are true, recomputed here from what it shows."""

import re
from collections import Counter

import numpy as np
import pytest

from miniworld.pairs import Mix, draw_pair_scene
from miniworld.picture_asking import ANSWERS, PictureQuestion, ask_about
from miniworld.scene import Thing

SIDE_PX = 72
MIX = Mix({1: 0.1, 2: 0.4, 3: 0.5}, twin_share=0.4)
SINGULAR = {"people": "person", "sheep": "sheep"}


def _draw(num_pictures: int) -> list[tuple[tuple[Thing, ...], PictureQuestion]]:
    asked = []
    for seed in range(num_pictures):
        things = draw_pair_scene(seed, width_px=SIDE_PX, height_px=SIDE_PX, mix=MIX).things
        questions = ask_about(things, np.random.default_rng(seed), width_px=SIDE_PX)
        asked += [(things, question) for question in questions]
    return asked


@pytest.fixture(scope="module")
def asked() -> list[tuple[tuple[Thing, ...], PictureQuestion]]:
    return _draw(120)


def _middle(thing: Thing) -> float:
    return (thing.box_px[0] + thing.box_px[2]) / (2 * SIDE_PX)


def _is_beside(side: str, *, thing: Thing, anchor: Thing) -> bool:
    return (_middle(thing) < _middle(anchor)) == (side == "left")


def _answer(text: str, things: tuple[Thing, ...]) -> str:
    """Answer a question by looking at the list of things."""
    if found := re.fullmatch(r"is there an? (?:(\w+) )?(\w+)", text):
        colour, name = found.groups()
        return "yes" if any(thing.name == name and colour in (None, thing.colour) for thing in things) else "no"
    if found := re.fullmatch(r"is the (\w+) (left|right) of the (\w+)", text):
        (thing,), (anchor,) = ([each for each in things if each.name == found[place]] for place in (1, 3))
        return "yes" if _is_beside(found[2], thing=thing, anchor=anchor) else "no"
    if found := re.fullmatch(r"how many (?:(\w+) )?(\w+) (?:are there|are in the picture|do we see)", text):
        colour, plural = found.groups()
        name = SINGULAR.get(plural, plural[:-1])
        return str(sum(thing.name == name and colour in (None, thing.colour) for thing in things))
    if found := re.fullmatch(r"what color (?:is|are) the (\w+)(?: on the (left|right))?", text):
        name = found[1] if "is the" in text else SINGULAR.get(found[1], found[1][:-1])
        alike = sorted((thing for thing in things if thing.name == name), key=_middle)
        colours = {thing.colour for thing in alike} if not found[2] else {alike[-(found[2] == "right")].colour}
        return "/".join(sorted(colours))
    if found := re.fullmatch(r"what is (left|right) of the (\w+)", text):
        (anchor,) = (thing for thing in things if thing.name == found[2])
        beside = [
            thing.name for thing in things if thing != anchor and _is_beside(found[1], thing=thing, anchor=anchor)
        ]
        return "/".join(beside)
    if found := re.fullmatch(r"what is on the (left|right) side of the picture", text):
        return sorted(things, key=_middle)[-(found[1] == "right")].name
    assert text == "what is in the sky"
    return "/".join(thing.name for thing in things if thing.name in ("bird", "airplane"))


def test_every_answer_is_true(asked: list[tuple[tuple[Thing, ...], PictureQuestion]]) -> None:
    for things, question in asked:
        assert question.answer == _answer(question.text, things), (question, things)


def test_every_other_answer_is_wrong_and_known(asked: list[tuple[tuple[Thing, ...], PictureQuestion]]) -> None:
    for _, question in asked:
        assert question.answer not in question.others
        assert question.others
        assert {question.answer, *question.others} <= set(ANSWERS)


def test_the_opening_begins_the_question(asked: list[tuple[tuple[Thing, ...], PictureQuestion]]) -> None:
    assert all(question.text.startswith(f"{question.opening} ") for _, question in asked)
    assert len({question.opening for _, question in asked}) == 9


def test_yes_is_as_frequent_as_no(asked: list[tuple[tuple[Thing, ...], PictureQuestion]]) -> None:
    answers = Counter(question.answer for _, question in asked if question.kind == "yes/no")
    assert set(answers) == {"yes", "no"}
    assert 0.35 < answers["yes"] / answers.total() < 0.65


def test_one_question_of_each_kind_is_asked() -> None:
    things = (Thing("dog", "brown", (0, 10, 20, 30), 1), Thing("tree", "green", (50, 10, 70, 60), 2))
    questions = ask_about(things, np.random.default_rng(0), width_px=SIDE_PX)
    assert {question.kind for question in questions} == {"yes/no", "number", "other"}


def test_nothing_is_asked_about_an_empty_picture() -> None:
    with pytest.raises(ValueError, match="shows no things"):
        ask_about((), np.random.default_rng(0), width_px=SIDE_PX)
