"""What a person would say about a picture or a sound.

Of a picture: its main things by colour, how they stand, and sometimes the ground. Of a sound: which thing makes it,
what it does, and sometimes how often or where.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from miniworld.concepts import Zone, find_concept
from miniworld.sayings import SAYINGS
from miniworld.scene import Scene, Thing
from miniworld.sound import find_sound

MOST_NAMED: Final = 3
CLEARLY_APART: Final = 0.08  # of the width: things whose middles are closer stand in no order
CLEARLY_NEARER: Final = 0.2  # of the height: how much lower the foot of a thing stands that is said to be in front
GROUND_SHARE: Final = 0.5  # how often the ground is named
SMALLEST_GROUND: Final = 0.04  # part of the picture below which nobody would name it
OPENING_SHARE: Final = 0.35

NUMBER_WORDS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS: Final = {"person": "people", "sheep": "sheep"}

OPENINGS: Final = ("a photo of", "a picture of", "an image of", "this is a picture of", "the picture shows", "we see")
UNFIT_GROUNDS: Final = {"sea": ("sand", "road", "grass"), "road": ("sand", "grass")}  # for what stands in a zone
GROUNDS: Final = {
    "sea": ("by the sea", "near the sea", "beside the sea", "at the sea"),
    "sand": ("at the beach", "near the beach", "beside a beach"),
    "road": ("near a road", "beside the road", "at the side of a road", "along the road"),
    "mountain": ("in front of a mountain", "with a mountain behind", "near the mountain", "in the mountains"),
    "grass": ("on the grass", "on a green meadow", "in a field", "in the meadow"),
}
ROWS: Final = {
    2: (
        "{0} left of {1}",
        "{0} to the left of {1}",
        "{0} on the left side of {1}",
        "{1} right of {0}",
        "{1} to the right of {0}",
        "{1} on the right side of {0}",
        "{0} on the left and {1} on the right",
        "{0} on the left next to {1}",
    ),
    3: (
        "{0}, {1} and {2} from left to right",
        "{0} on the left, {1} in the middle and {2} on the right",
        "{1} between {0} on the left and {2} on the right",
        "{0} left of {1} and {2}",
        "{2} to the right of {0} and {1}",
        "{0} to the left of {1} and {2}",
        "{0} left of {1} with {2} on the right",
    ),
}
NEAR_AND_FAR: Final = ("{near} in front of {far}", "{far} behind {near}")
JOINED: Final = {1: ("{0}",), 2: ("{0} and {1}", "{0} with {1}", "{0} beside {1}"), 3: ("{0}, {1} and {2}",)}
ALOFT: Final = ("{up} above {down}", "{up} over {down}", "{down} below {up}", "{down} under {up}")
IN_THE_SKY: Final = ("{up} in the sky and {down}", "{down} and {up} in the sky", "{down} with {up} in the sky")
SOUND_FRAMES: Final = (
    "{noun} {verb}",
    "{noun} {verb}",
    "the {gerund} of {noun}",
    "the sound of {noun} {gerund}",
    "{noun} {gerund}",
    "we hear {noun} {gerund}",
    "here {noun} {verb}",
)
PLACE_SHARE: Final = 0.3
TRIES_FOR_OTHER_WORDS: Final = 200
COUNT_SHARE: Final = 0.6  # how often it is said how many events there are, where they can be counted


@dataclass(frozen=True)
class _Group:
    """Things that are named together, as in "two red cars"; lengths in parts of the picture."""

    phrase: str
    lefts: tuple[float, ...]  # middle of each
    top: float
    foot: float
    zone: Zone

    @property
    def flies(self) -> bool:
        return self.zone == "sky"


def describe_scene(scene: Scene, rng: np.random.Generator) -> str:
    """Say what a picture shows in one of many ways, always true, without a full stop.

    The three largest things are named, each with its colour; equal ones are counted.

    Raises:
        ValueError: nothing stands in the picture.
    """
    if not scene.things:
        raise ValueError("the picture shows no things; a sentence needs at least one")
    groups = _group_things(scene)
    walkers, flyers = [group for group in groups if not group.flies], [group for group in groups if group.flies]
    said = _join_flyers(rng, walkers, flyers=flyers) if walkers and flyers else _say_row(rng, groups)
    if rng.random() < OPENING_SHARE:
        said = f"{_pick(rng, OPENINGS)} {said}"
    if walkers and rng.random() < GROUND_SHARE:
        grounds = _find_grounds(scene, walkers)
        said = f"{said} {_pick(rng, GROUNDS[_pick(rng, grounds)])}" if grounds else said
    return said


def describe_sound(name: str, rng: np.random.Generator, *, num_events: int | None = None) -> str:
    """Say what is heard in 3 to 15 words, always naming the thing that makes the sound, without a full stop.

    Args:
        name: class of the sound.
        rng: chooses the words.
        num_events: how often it is heard, as `Sound` tells; then some sentences say so.

    Raises:
        ValueError: there is no such class.
    """
    saying = SAYINGS[find_sound(name).name]
    noun, gerund = _pick(rng, saying.nouns), _pick(rng, saying.gerunds)
    if saying.is_counted and num_events is not None and rng.random() < COUNT_SHARE:
        said = f"{noun} {saying.verbs[0]} {say_how_often(num_events)}"
    else:
        said = _pick(rng, SOUND_FRAMES).format(noun=noun, verb=_pick(rng, saying.verbs), gerund=gerund)
    # Two words alone say too little to train on.
    is_placed = rng.random() < PLACE_SHARE or len(said.split()) < 3
    return f"{said} {_pick(rng, saying.places)}" if is_placed else said


def say_differently(say: Callable[[], str], num_sentences: int) -> tuple[str, ...]:
    """Say the same thing so often, in different words as far as `say` has any."""
    said = dict.fromkeys(say() for _ in range(num_sentences))
    for _ in range(TRIES_FOR_OTHER_WORDS):
        if len(said) == num_sentences:
            break
        said[say()] = None
    return tuple(itertools.islice(itertools.cycle(said), num_sentences))


def begin_sentence(said: str) -> str:
    """Write the first letter large, as those who wrote the sentences of most data sets did."""
    return said[:1].upper() + said[1:]


def name_group(name: str, colour: str, *, count: int = 1) -> str:
    """Name things of one kind and colour: "an orange tree", "two white sheep".

    Raises:
        ValueError: there is no word for the number.
    """
    if not 1 <= count < len(NUMBER_WORDS):
        raise ValueError(f"no word for {count} things; expected 1 to {len(NUMBER_WORDS) - 1}")
    if count == 1:
        return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {name}"
    return f"{NUMBER_WORDS[count]} {colour} {PLURALS.get(name, name + 's')}"


def say_how_often(count: int) -> str:
    """Say a number of events: "once", "twice", "three times".

    Raises:
        ValueError: there is no word for the number.
    """
    if not 1 <= count < len(NUMBER_WORDS):
        raise ValueError(f"no word for {count} times; expected 1 to {len(NUMBER_WORDS) - 1}")
    return ("once", "twice")[count - 1] if count < 3 else f"{NUMBER_WORDS[count]} times"


def pick_main_things(scene: Scene) -> tuple[Thing, ...]:
    """Pick the largest things of a picture, at most three, from left to right."""
    areas = np.bincount(scene.instances.ravel(), minlength=len(scene.things) + 1)
    largest = sorted(scene.things, key=lambda thing: -int(areas[thing.instance]))[:MOST_NAMED]
    return tuple(sorted(largest, key=lambda thing: thing.box_px[0] + thing.box_px[2]))


def _group_things(scene: Scene) -> list[_Group]:
    height, width = scene.label.shape
    kinds: dict[tuple[str, str], list[Thing]] = {}
    for thing in pick_main_things(scene):
        kinds.setdefault((thing.name, thing.colour), []).append(thing)
    groups = []
    for (name, colour), things in kinds.items():
        form = find_concept(name).form
        assert form is not None  # ground and sky are no things
        groups.append(
            _Group(
                name_group(name, colour, count=len(things)),
                tuple((thing.box_px[0] + thing.box_px[2]) / (2 * width) for thing in things),
                min(thing.box_px[1] for thing in things) / height,
                max(thing.box_px[3] for thing in things) / height,
                form.zone,
            )
        )
    return groups


def _say_row(rng: np.random.Generator, groups: Sequence[_Group]) -> str:
    phrases = [group.phrase for group in groups]
    if len(groups) == 1:
        return _place_alone(rng, groups[0])
    pairs = list(itertools.pairwise(groups))
    if not all(max(one.lefts) + CLEARLY_APART < min(other.lefts) for one, other in pairs):
        return _pick(rng, JOINED[len(groups)]).format(*phrases)
    if len(groups) == 2 and rng.random() < 0.25:
        near, far = sorted(groups, key=lambda group: -group.foot)
        if near.foot - far.foot > CLEARLY_NEARER and not near.flies:
            return _pick(rng, NEAR_AND_FAR).format(near=near.phrase, far=far.phrase)
    return _pick(rng, ROWS[len(groups)]).format(*phrases)


def _place_alone(rng: np.random.Generator, group: _Group) -> str:
    if len(group.lefts) > 1 or rng.random() < 0.5:
        return group.phrase
    where = "on the left" if group.lefts[0] < 0.35 else "on the right" if group.lefts[0] > 0.65 else "in the middle"
    return f"{group.phrase} {where}"


def _join_flyers(rng: np.random.Generator, walkers: Sequence[_Group], *, flyers: Sequence[_Group]) -> str:
    up = _pick(rng, JOINED[len(flyers)][:1]).format(*(group.phrase for group in flyers))
    down = _say_row(rng, walkers)
    is_above = max(group.foot for group in flyers) < min((group.top + group.foot) / 2 for group in walkers)
    # "below" after a row would seem to belong to its last thing only.
    frames = (*ALOFT, *IN_THE_SKY) if is_above and len(walkers) == 1 else ALOFT[:1] if is_above else IN_THE_SKY
    return _pick(rng, frames).format(up=up, down=down)


def _find_grounds(scene: Scene, walkers: Sequence[_Group]) -> list[str]:
    """List the grounds that can be seen and fit everything that stands on them: no boat on the grass."""
    unfit = {name for group in walkers for name in UNFIT_GROUNDS.get(group.zone, ())}
    shares = {name: float((scene.label == find_concept(name).ade20k_number).mean()) for name in GROUNDS}
    return [name for name, share in shares.items() if share >= SMALLEST_GROUND and name not in unfit]


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
