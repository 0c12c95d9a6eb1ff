"""Questions about one sound with four answers to choose from, of which exactly one is true."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from miniworld.clips import Heard
from miniworld.sayings import SAYINGS
from miniworld.sentence import say_how_often

NUM_CHOICES: Final = 4
MOST_TIMES: Final = 6  # that an answer offers
MEMORABLE_TIMES: Final = frozenset(
    {"dog", "house_door_knock", "tower_bell", "sheep", "boat_horn"}
)  # once or more often

# By sound: where one would be, one place each; sayings may know others.
PLACES: Final[Mapping[str, str]] = {
    "airplane": "in the sky",
    "boat_horn": "in the harbor",
    "car_engine": "on the road",
    "chirping_birds": "in the garden",
    "tower_bell": "in the village",
    "clock_tick": "in the kitchen",
    "cow": "on a farm",
    "dog": "in the yard",
    "house_door_knock": "at the door",
    "flag_flapping": "on a pole",
    "person_walking": "on a path",
    "flower_bees": "at a flower",
    "rain": "in the rain",
    "tree_leaves": "in the forest",
    "sea_waves": "on the beach",
    "sheep": "in the field",
    "siren": "in the city",
}


@dataclass(frozen=True)
class Question:
    """A question with its choices.

    Attributes:
        kind: as AVQA names it.
        text: ends in a question mark.
        choices: four different ones.
        answer: which of them is true, from 0.
    """

    kind: str
    text: str
    choices: tuple[str, ...]
    answer: int


Chooser: TypeAlias = Callable[[Heard, np.random.Generator], list[str]]  # the true answer, then enough wrong ones


def _say_nouns(heard: Heard, rng: np.random.Generator) -> list[str]:
    return [_pick(rng, SAYINGS[name].nouns) for name in _line_up(heard, rng)]


def _say_clauses(heard: Heard, rng: np.random.Generator) -> list[str]:
    sayings = [SAYINGS[name] for name in _line_up(heard, rng)]
    return [f"{_pick(rng, saying.nouns)} {_pick(rng, saying.verbs)}" for saying in sayings]


def _say_reasons(heard: Heard, rng: np.random.Generator) -> list[str]:
    return [f"because {clause}" for clause in _say_clauses(heard, rng)]


def _say_places(heard: Heard, rng: np.random.Generator) -> list[str]:
    """Leave out places where the sound may be as well."""
    places = [PLACES[name] for name in _line_up(heard, rng)]
    return [places[0], *(place for place in places[1:] if place not in SAYINGS[heard.name].places)]


def _say_times(heard: Heard, rng: np.random.Generator) -> list[str]:
    assert heard.num_events is not None
    others = [count for count in (1 + rng.permutation(MOST_TIMES)).tolist() if count != heard.num_events]
    return [say_how_often(count) for count in (heard.num_events, *others)]


@dataclass(frozen=True)
class _Asked:
    kind: str
    texts: tuple[str, ...]
    choose: Chooser


ASKED: Final = (
    _Asked("Which", ("Which thing makes the sound in the video?", "Which thing do we hear in the video?"), _say_nouns),
    _Asked("Come From", ("Where does the sound in the video come from?", "What makes this sound?"), _say_nouns),
    _Asked("Happening", ("What is happening in the video?", "What can be heard in the video?"), _say_clauses),
    _Asked("Where", ("Where does this video take place?", "Where can this sound be heard?"), _say_places),
    _Asked("Why", ("Why is there a sound in the video?", "Why do we hear something?"), _say_reasons),
)
# AVQA has no kind for numbers and counts these among "Which".
ASKED_TIMES: Final = _Asked(
    "Which", ("How many times can it be heard in the video?", "How many times do we hear this sound?"), _say_times
)


def ask(heard: Heard, rng: np.random.Generator, *, num_questions: int) -> tuple[Question, ...]:
    """Ask different things about a sound: what makes it, what it does, where, why, or how often.

    Raises:
        ValueError: so many different questions are not known.
    """
    is_counted = heard.name in MEMORABLE_TIMES and heard.num_events is not None
    known = (*ASKED, ASKED_TIMES) if is_counted else ASKED
    if not 1 <= num_questions <= len(known):
        raise ValueError(f"{num_questions} questions about {heard.name!r}; expected 1 to {len(known)}")
    chosen = rng.permutation(len(known)).tolist()[:num_questions]
    return tuple(_ask_one(known[place], heard, rng=rng) for place in chosen)


def _ask_one(asked: _Asked, heard: Heard, *, rng: np.random.Generator) -> Question:
    choices = asked.choose(heard, rng)[:NUM_CHOICES]
    order = rng.permutation(NUM_CHOICES).tolist()
    return Question(asked.kind, _pick(rng, asked.texts), tuple(choices[place] for place in order), order.index(0))


def _line_up(heard: Heard, rng: np.random.Generator) -> list[str]:
    """Put the class that is heard before all others, which are shuffled."""
    names = list(SAYINGS)
    return [heard.name, *(name for name in (names[n] for n in rng.permutation(len(names))) if name != heard.name)]


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
