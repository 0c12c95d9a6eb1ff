"""Simple pictures for pairs of picture and sentence: one to three large things, still readable at 64 pixels."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from miniworld.concepts import THINGS, Concept, Form
from miniworld.land import Land, draw_land, plan_land
from miniworld.light import pick_light
from miniworld.scene import (
    PlannedThing,
    Scene,
    check_seed,
    check_size,
    depth_range,
    has_zone,
    overlap_area,
    paint_scene,
    plan_thing,
)
from miniworld.shapes import Box

REACH: Final = {1: 0.66, 2: 0.6, 3: 0.52}  # longer side of a thing, in shorter sides of the picture, by their number
HIGHEST: Final = {"sky": 0.3, "sea": 0.44}  # what keeps things in these narrow zones from being cut off, in heights
MOST_PER_ZONE: Final = {"sky": 2, "sea": 2, "road": 2}
NUM_TRIES: Final = 12  # arrangements tried where something flies; the one that hides least is taken


@dataclass(frozen=True)
class Mix:
    """What a picture is likely to hold.

    Attributes:
        count_shares: how often it holds 1, 2 or 3 things; together 1.
        twin_share: how often a thing is joined by another one of its kind.
    """

    count_shares: Mapping[int, float]
    twin_share: float


USUAL_MIX: Final = Mix({1: 0.06, 2: 0.46, 3: 0.48}, twin_share=0.08)


@dataclass(frozen=True)
class _Sized:
    concept: Concept
    form: Form
    width: float  # in pixels
    height: float


def draw_pair_scene(seed: int, *, width_px: int, height_px: int, mix: Mix = USUAL_MIX) -> Scene:
    """Draw the simple picture that belongs to a seed and a mix.

    Things on the ground stand side by side, so that left and right of them is never in doubt; what flies is above.

    Raises:
        ValueError: the seed is negative or a side is shorter than 48 pixels.
    """
    check_seed(seed)
    check_size(width_px, height_px)
    rng = np.random.default_rng(seed)
    return _draw(rng, pick_concepts(rng, mix), size_px=(width_px, height_px))


def draw_scene_of(seed: int, concepts: Sequence[Concept], *, width_px: int, height_px: int) -> Scene:
    """Draw a simple picture of these things, one to three, as `pick_concepts` puts them together.

    Raises:
        ValueError: the seed is negative, a side is shorter than 48 pixels, or there are too few or too many things.
    """
    check_seed(seed)
    check_size(width_px, height_px)
    if len(concepts) not in REACH:
        raise ValueError(f"{len(concepts)} things for a simple picture; expected 1 to {max(REACH)}")
    return _draw(np.random.default_rng(seed), concepts, size_px=(width_px, height_px))


def _draw(rng: np.random.Generator, concepts: Sequence[Concept], *, size_px: tuple[int, int]) -> Scene:
    sized = _size_things(rng, concepts, size_px=size_px)
    land, light = _find_land(rng, sized), pick_light(rng)
    ground = draw_land(rng, land, light=light)
    num_tries = NUM_TRIES if any(each.form.zone == "sky" for each in sized) else 1
    placed = min((_place(rng, sized, land=land, size_px=size_px) for _ in range(num_tries)), key=_hidden_area)
    plans = [plan_thing(rng, each.concept, form=each.form, box=box) for each, box in placed]
    plans.sort(key=_depth)
    return paint_scene(rng, ground, plans=tuple(plans), light=light, size_px=size_px)


def _depth(plan: PlannedThing) -> tuple[bool, float]:
    return plan.concept.form is not None and plan.concept.form.zone != "sky", plan.box[3]


def pick_concepts(rng: np.random.Generator, mix: Mix, *, first: Concept | None = None) -> list[Concept]:
    """Pick the things of a picture that fit beside each other; the first one may be given."""
    wanted = int(rng.choice(list(mix.count_shares), p=list(mix.count_shares.values())))
    picked = [first] if first else []
    while len(picked) < wanted:
        is_twin = bool(picked) and rng.random() < mix.twin_share
        concept = picked[-1] if is_twin else THINGS[int(rng.integers(len(THINGS)))]
        zones = [other.form.zone for other in picked if other.form]
        if concept.form and zones.count(concept.form.zone) < MOST_PER_ZONE.get(concept.form.zone, 3):
            picked.append(concept)
    return picked


def _size_things(rng: np.random.Generator, concepts: Sequence[Concept], *, size_px: tuple[int, int]) -> list[_Sized]:
    width_px, height_px = size_px
    sized = []
    for concept in concepts:
        form = concept.form
        assert form is not None
        longer = REACH[len(concepts)] * float(rng.uniform(0.9, 1.12)) * min(size_px)
        height = min(longer / max(form.aspect, 1.0), HIGHEST.get(form.zone, 1.0) * height_px)
        sized.append(_Sized(concept, form, height * form.aspect, height))
    needed = sum(each.width for each in sized if each.form.zone != "sky")
    share = min(1.0, 0.96 * width_px / needed) if needed else 1.0
    return [_Sized(each.concept, each.form, each.width * share, each.height * share) for each in sized]


def _find_land(rng: np.random.Generator, sized: list[_Sized]) -> Land:
    """Plan lands until one has a place for everything; most have, so this takes few tries."""
    while True:
        land = plan_land(rng)
        if all(has_zone(land, each.form.zone) for each in sized):
            return land


def _place(
    rng: np.random.Generator, sized: list[_Sized], *, land: Land, size_px: tuple[int, int]
) -> list[tuple[_Sized, Box]]:
    walkers = [each for each in sized if each.form.zone != "sky"]
    flyers = [each for each in sized if each.form.zone == "sky"]
    placed = _place_on_ground(rng, walkers, land=land, size_px=size_px)
    return [*placed, *((each, _place_in_sky(rng, each, land=land, size_px=size_px)) for each in flyers)]


def _hidden_area(placed: list[tuple[_Sized, Box]]) -> float:
    return sum(overlap_area(first[1], second[1]) for first, second in itertools.combinations(placed, 2))


def _place_on_ground(
    rng: np.random.Generator, sized: list[_Sized], *, land: Land, size_px: tuple[int, int]
) -> list[tuple[_Sized, Box]]:
    """Stand things in a random row, with what room there is spread at random between them."""
    width_px, height_px = size_px
    row = [sized[index] for index in rng.permutation(len(sized)).tolist()]
    room = width_px - sum(each.width for each in row)
    gaps = (rng.dirichlet(np.full(len(row) + 1, 2.0)) * room).tolist()
    boxes, left = [], 0.0
    for each, gap in zip(row, gaps, strict=False):
        left += gap
        x = (left + each.width / 2) / width_px
        far, near = depth_range(land, each.form.zone, x=x, is_behind=bool(rng.random() < 0.4))
        floor = max(float(rng.uniform(far, near)) * height_px, each.height + 0.02 * height_px)
        boxes.append((each, (left, floor - each.height, left + each.width, floor)))
        left += each.width
    return boxes


def _place_in_sky(rng: np.random.Generator, flyer: _Sized, *, land: Land, size_px: tuple[int, int]) -> Box:
    width_px, height_px = size_px
    lowest = max(flyer.height * 1.05, land.horizon * height_px)
    left = float(rng.uniform(0.0, width_px - flyer.width))
    floor = float(rng.uniform(flyer.height * 1.04, lowest))
    return (left, floor - flyer.height, left + flyer.width, floor)
