"""Questions have one true answer among four."""

import numpy as np
import pytest

from miniworld.asking import ASKED, MEMORABLE_TIMES, PLACES, Question, ask
from miniworld.clips import Heard
from miniworld.sayings import SAYINGS
from miniworld.sentence import say_how_often
from miniworld.sound import SOUNDS


def _ask(name: str, num_events: int | None = None, *, count: int = 5) -> list[Question]:
    rng = np.random.default_rng(0)
    return [question for _ in range(20) for question in ask(Heard(name, num_events), rng, num_questions=count)]


def _is_true(choice: str, heard: Heard) -> bool:
    """Say whether an answer is true of a sound, by the words of its sayings."""
    saying = SAYINGS[heard.name]
    clauses = {f"{noun} {verb}" for noun in saying.nouns for verb in saying.verbs}
    times = {say_how_often(heard.num_events)} if heard.num_events else set()
    known = {*saying.nouns, *clauses, *(f"because {clause}" for clause in clauses), *saying.places, *times}
    return choice in known | {PLACES[heard.name]}


@pytest.mark.parametrize("name", PLACES)
def test_exactly_one_of_four_answers_is_true(name: str) -> None:
    for heard in (Heard(name, None), Heard(name, 3)):
        for question in _ask(heard.name, heard.num_events):
            assert len(set(question.choices)) == len(question.choices) == 4
            truths = [_is_true(choice, heard) for choice in question.choices]
            assert truths == [number == question.answer for number in range(4)]


def test_all_kinds_of_the_real_set_are_asked() -> None:
    assert {question.kind for question in _ask("cow")} == {"Which", "Come From", "Happening", "Where", "Why"}
    assert all(question.text.endswith("?") for question in _ask("cow"))


def test_the_answer_stands_anywhere() -> None:
    answers = [question.answer for question in _ask("cow")]
    assert all(15 < answers.count(place) < 35 for place in range(4))


def test_no_question_about_a_clip_is_of_the_same_kind_as_another() -> None:
    texts = {text: place for place, asked in enumerate(ASKED) for text in asked.texts}
    questions = ask(Heard("cow", None), np.random.default_rng(0), num_questions=5)
    assert sorted(texts[question.text] for question in questions) == list(range(5))


def test_numbers_are_asked_where_one_would_count() -> None:
    said = [question.choices[question.answer] for question in _ask("dog", 4, count=6) if "How many" in question.text]
    assert set(said) == {"four times"}
    assert not any("How many" in question.text for question in (*_ask("rain"), *_ask("dog"), *_ask("cow", 1)))
    assert {sound.name for sound in SOUNDS} >= MEMORABLE_TIMES


def test_every_sound_has_a_place_of_its_own() -> None:
    assert set(PLACES) == {sound.name for sound in SOUNDS}
    assert len(set(PLACES.values())) == len(PLACES)


def test_more_questions_than_are_known_are_refused() -> None:
    with pytest.raises(ValueError, match="6 questions about 'rain'; expected 1 to 5"):
        _ask("rain", count=6)
