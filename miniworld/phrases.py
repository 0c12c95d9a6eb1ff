"""What a person would say about a clip of one or two sounds: sayings as clauses or as names of sounds, joined.

Of two sounds at the same time either may come first in a sentence; of two in a row the sentence tells the order.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from miniworld.clips import Clip, Heard
from miniworld.sayings import SAYINGS
from miniworld.sentence import COUNT_SHARE, describe_sound, say_how_often

PLACE_SHARE: Final = 0.2  # of each sound: two places in one sentence are rarely said

# {0} and {1} are clauses ("a dog barks"), {name0} and {name1} name a sound ("the barking of a dog").
TOGETHER: Final = (
    "{0} while {1}",
    "{0} as {1}",
    "{0} and {1}",
    "{0} with {name1}",
    "{name0} and {name1}",
    "{name0} together with {name1}",
    "we hear {name0} and {name1}",
)
IN_TURN: Final = (
    "{0} and then {1}",
    "{0}, then {1}",
    "{0} before {1}",
    "{1} after {0}",
    "first {0} and then {1}",
    "{name0} and then {name1}",
    "first {name0}, then {name1}",
    "we hear {name0} before {name1}",
)


def describe_clip(clip: Clip, rng: np.random.Generator) -> str:
    """Say what is heard in a clip in one of many ways, always true, without a full stop.

    Raises:
        ValueError: there are more than two sounds in it.
    """
    if len(clip.heard) > 2:
        raise ValueError(f"{len(clip.heard)} sounds are too many for a sentence; expected 1 or 2")
    if len(clip.heard) == 1:
        return describe_sound(clip.heard[0].name, rng, num_events=clip.heard[0].num_events)
    first, second = clip.heard if clip.is_sequence or rng.random() < 0.5 else clip.heard[::-1]
    frame = _pick(rng, IN_TURN if clip.is_sequence else TOGETHER)
    return frame.format(
        say_clause(first, rng), say_clause(second, rng), name0=_name_sound(first, rng), name1=_name_sound(second, rng)
    )


def say_clause(heard: Heard, rng: np.random.Generator) -> str:
    """Say what makes a sound, what it does, and sometimes how often or where: "a dog barks twice"."""
    saying = SAYINGS[heard.name]
    noun = _pick(rng, saying.nouns)
    if saying.is_counted and heard.num_events is not None and rng.random() < COUNT_SHARE:
        said = f"{noun} {saying.verbs[0]} {say_how_often(heard.num_events)}"
    else:
        said = f"{noun} {_pick(rng, saying.verbs)}"
    return f"{said} {_pick(rng, saying.places)}" if rng.random() < PLACE_SHARE else said


def _name_sound(heard: Heard, rng: np.random.Generator) -> str:
    saying = SAYINGS[heard.name]
    noun, gerund = _pick(rng, saying.nouns), _pick(rng, saying.gerunds)
    return f"the {gerund} of {noun}" if rng.random() < 0.5 else f"{noun} {gerund}"


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
