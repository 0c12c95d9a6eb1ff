"""Sentences about clips name all that is heard, tell the order, and count right."""

import re

import numpy as np
import pytest

from miniworld.clips import Clip, Heard
from miniworld.phrases import describe_clip, say_clause
from miniworld.sayings import SAYINGS
from miniworld.sentence import begin_sentence, say_differently

NO_SAMPLES = np.zeros(16_000, dtype=np.float32)
DOG, RAIN, KNOCK = Heard("dog", 3), Heard("rain", None), Heard("house_door_knock", 5)


def _say(*heard: Heard, is_sequence: bool = False, count: int = 300) -> list[str]:
    rng = np.random.default_rng(0)
    return [describe_clip(Clip(heard, is_sequence, NO_SAMPLES), rng) for _ in range(count)]


@pytest.mark.parametrize("is_sequence", [False, True])
def test_both_sounds_are_named(is_sequence: bool) -> None:
    assert all("dog" in said and "rain" in said for said in _say(DOG, RAIN, is_sequence=is_sequence))


def test_the_order_is_told() -> None:
    for said in _say(DOG, RAIN, is_sequence=True):
        assert re.search(r"\b(then|before|after|first)\b", said)
        assert (said.index("dog") < said.index("rain")) == (" after " not in said)


def test_sounds_at_the_same_time_stand_in_either_order() -> None:
    said = _say(DOG, RAIN)
    assert not any(re.search(r"\b(then|before|after|first)\b", each) for each in said)
    assert 100 < sum(each.index("dog") < each.index("rain") for each in said) < 200


def test_numbers_belong_to_their_sound() -> None:
    clauses = [
        re.findall(r"(barks|knocks) (once|twice|\w+ times)", said)
        for said in (*_say(DOG, KNOCK), *_say(KNOCK, DOG, is_sequence=True))
    ]
    found = {pair for each in clauses for pair in each}
    assert found == {("barks", "three times"), ("knocks", "five times")}


def test_one_sound_is_described_as_in_pretraining() -> None:
    said = _say(RAIN)
    assert len(set(said)) > 50
    assert all("rain" in each for each in said)


def test_too_many_sounds_are_refused() -> None:
    with pytest.raises(ValueError, match="3 sounds are too many"):
        _say(DOG, RAIN, KNOCK)


@pytest.mark.parametrize("name", SAYINGS)
def test_a_clause_has_a_noun_and_a_verb(name: str) -> None:
    saying, rng = SAYINGS[name], np.random.default_rng(0)
    for _ in range(20):
        said = say_clause(Heard(name, None), rng)
        assert any(said.startswith(f"{noun} {verb}") for noun in saying.nouns for verb in saying.verbs)


def test_sentences_differ_as_far_as_there_are_words() -> None:
    words = iter(["a", "a", "b", "a", "c", "d"])
    assert say_differently(lambda: next(words), 3) == ("a", "b", "c")
    assert say_differently(lambda: "a", 3) == ("a", "a", "a")


def test_a_sentence_begins_with_a_large_letter() -> None:
    assert begin_sentence("a dog barks") == "A dog barks"
