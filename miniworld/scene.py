"""One picture of the miniworld from a seed: what stands where, its pixels, its label and its things."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from miniworld.canvas import Layer, Pixels, Rendering, render
from miniworld.colours import COLOURS, vary_rgb
from miniworld.concepts import THINGS, Concept, Form, Zone, find_concept
from miniworld.forms import draw_clock_face
from miniworld.land import Land, draw_land, height_at, plan_land
from miniworld.light import Light, expose, pick_light
from miniworld.shapes import Box, Shape, as_shadow, ellipse, place

SMALLEST_SIDE_PX: Final = 48
NUM_TRIES: Final = 8  # places tried for each thing; the one that hides least is taken
MOST_CUT_OFF: Final = 0.2  # part of a thing's width that may lie beyond the edge of the picture


@dataclass(frozen=True)
class Thing:
    """One countable thing that can be seen in a picture.

    Attributes:
        name: of its concept.
        colour: the word for it, one of the concept's colours.
        box_px: left, top, right, bottom of its visible pixels; right and bottom are the first without it.
        instance: its number in `Scene.instances`.
    """

    name: str
    colour: str
    box_px: tuple[int, int, int, int]
    instance: int


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with everything that is known about it.

    Attributes:
        image: (h, w, 3).
        label: (h, w), SceneParse150 class numbers 1..150, 0 for what has no class.
        instances: (h, w), the number of the thing, 0 for sky, ground and what has no class.
        things: from far to near; numbered from 1.
    """

    image: Pixels
    label: Pixels
    instances: Pixels
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class PlannedThing:
    """A thing before it is painted.

    Attributes:
        concept: what it is.
        colour: one of the concept's colour words.
        box: left, top, right, bottom in pixels, also where nothing of it will be seen.
        shapes: what is painted, in pixels.
    """

    concept: Concept
    colour: str
    box: Box
    shapes: tuple[Shape, ...]


def draw_scene(seed: int, *, width_px: int, height_px: int) -> Scene:
    """Draw the picture that belongs to a seed.

    Raises:
        ValueError: the seed is negative or a side is shorter than 48 pixels.
    """
    check_seed(seed)
    check_size(width_px, height_px)
    rng = np.random.default_rng(seed)
    land, light = plan_land(rng), pick_light(rng)
    ground = draw_land(rng, land, light=light)
    plans = _plan_things(rng, land, width_px=width_px, height_px=height_px)
    return paint_scene(rng, ground, plans=plans, light=light, size_px=(width_px, height_px))


def paint_scene(
    rng: np.random.Generator,
    ground: tuple[Layer, ...],
    *,
    plans: tuple[PlannedThing, ...],
    light: Light,
    size_px: tuple[int, int],
) -> Scene:
    """Paint planned things, from far to near, onto a ground in the unit square, and put all into its light."""
    width_px, height_px = size_px
    below = [_stretch(layer, width_px=width_px, height_px=height_px) for layer in ground]
    layers = [Layer(plan.shapes, plan.concept.ade20k_number, instance) for instance, plan in enumerate(plans, start=1)]
    rendering = render([*below, *layers], width_px=width_px, height_px=height_px)
    instances, things = _find_things(rendering, plans)
    return Scene(expose(rng, rendering.image, light=light), rendering.label, instances, things)


def check_seed(seed: int) -> None:
    """Refuse a seed that no picture or sound can belong to."""
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")


def check_size(width_px: int, height_px: int) -> None:
    """Refuse a size at which things could no longer be told apart."""
    if min(width_px, height_px) < SMALLEST_SIDE_PX:
        raise ValueError(
            f"a picture of {width_px}x{height_px} pixels is too small; each side needs at least {SMALLEST_SIDE_PX}"
        )


def _stretch(layer: Layer, *, width_px: int, height_px: int) -> Layer:
    frame = (0.0, 0.0, float(width_px), float(height_px))
    return replace(layer, shapes=tuple(place(shape, frame) for shape in layer.shapes))


def _plan_things(rng: np.random.Generator, land: Land, *, width_px: int, height_px: int) -> tuple[PlannedThing, ...]:
    plans: list[PlannedThing] = []
    for concept in THINGS:
        form = concept.form
        if form is None or not has_zone(land, form.zone):
            continue
        for _ in range(int(rng.choice(len(form.counts), p=form.counts))):
            taken = [plan.box for plan in plans]
            box = _find_place(rng, form, land=land, taken=taken, size_px=(width_px, height_px))
            plans.append(plan_thing(rng, concept, form=form, box=box))
    # What flies is farthest; the rest is sorted by where it touches the ground.
    plans.sort(key=lambda plan: (_zone(plan) != "sky", plan.box[3]))
    return tuple(other for plan in plans for other in (plan, *_plan_tower_clock(rng, plan)))


def has_zone(land: Land, zone: Zone) -> bool:
    """Say whether a land has the place where a thing would stand."""
    if zone == "sea":
        return land.shore is not None
    return land.road is not None or zone not in ("road", "roadside")


def _zone(plan: PlannedThing) -> Zone | None:
    return plan.concept.form.zone if plan.concept.form else None


def _find_place(rng: np.random.Generator, form: Form, *, land: Land, taken: list[Box], size_px: tuple[int, int]) -> Box:
    boxes = [_try_place(rng, form, land=land, size_px=size_px) for _ in range(NUM_TRIES)]
    return min(boxes, key=lambda box: sum(overlap_area(box, other) for other in taken))


def _try_place(rng: np.random.Generator, form: Form, *, land: Land, size_px: tuple[int, int]) -> Box:
    width_px, height_px = size_px
    unit_px = min(float(height_px), 0.75 * width_px)
    x = float(rng.uniform(0.04, 0.96))
    far, near = depth_range(land, form.zone, x=x, is_behind=bool(rng.random() < 0.4))
    bottom = float(rng.uniform(far, near))
    scale = 1.0 if form.zone == "sky" else 0.8 + 0.4 * (bottom - land.horizon) / (1.0 - land.horizon)
    height = float(rng.uniform(*form.heights)) * unit_px * scale
    width, floor = height * form.aspect, bottom * height_px
    left = min(max(x * width_px - width / 2, -MOST_CUT_OFF * width), width_px - (1.0 - MOST_CUT_OFF) * width)
    return (left, floor - height, left + width, floor)


def depth_range(land: Land, zone: Zone, *, x: float, is_behind: bool) -> tuple[float, float]:
    """Say between which heights the foot of a thing may stand at x, behind the road or before it."""
    coast = height_at(land.beach or land.shore, x) if land.shore else land.horizon
    verge = height_at(land.road[0], x) if land.road else max(0.74, coast + 0.09)
    kerb = height_at(land.road[1], x) if land.road else verge + 0.02
    match zone:
        case "sky":
            return 0.15, land.horizon - 0.08
        case "sea":
            return land.horizon + 0.05, (height_at(land.shore, x) if land.shore else coast) - 0.02
        case "road":
            return verge + 0.07, kerb - 0.015
        case "roadside":
            return (verge - 0.01, verge + 0.01) if is_behind else (kerb, kerb + 0.01)
        case "meadow":
            return coast + 0.03, verge - 0.01
        case "front":
            return (coast + 0.05, verge - 0.01) if is_behind else (min(kerb + 0.03, 0.97), 0.99)


def overlap_area(first: Box, second: Box) -> float:
    """Measure how much of one box another one covers, in the square of their unit."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, width) * max(0.0, height)


def plan_thing(rng: np.random.Generator, concept: Concept, *, form: Form, box: Box) -> PlannedThing:
    """Draw a thing in one of its colours into a box in pixels, facing left or right, with its shadow."""
    colour = concept.colours[int(rng.integers(len(concept.colours)))]
    is_mirrored = bool(rng.random() < 0.5)
    shapes = [place(shape, box, is_mirrored=is_mirrored) for shape in form.draw(rng, vary_rgb(rng, COLOURS[colour]))]
    if form.zone not in ("sky", "sea"):
        shadow = as_shadow(ellipse((0.02, 0.0, 1.1, 1.0), (20, 24, 40)), 0.3)
        x0, _, x1, floor = box
        flat = min(0.06 * (x1 - x0) + 0.5, 3.0 + 0.01 * (x1 - x0))
        shapes.insert(0, place(shadow, (x0, floor - flat, x1, floor + flat)))
    return PlannedThing(concept, colour, box, tuple(shapes))


def _plan_tower_clock(rng: np.random.Generator, plan: PlannedThing) -> tuple[PlannedThing, ...]:
    """Hang a clock on some of the towers."""
    if plan.concept.name != "tower" or rng.random() < 0.4:
        return ()
    clock = find_concept("clock")
    colour = clock.colours[int(rng.integers(len(clock.colours)))]
    x0, y0, x1, y1 = plan.box
    side, top = 0.84 * (x1 - x0), y0 + 0.16 * (y1 - y0)
    box = ((x0 + x1 - side) / 2, top, (x0 + x1 + side) / 2, top + side)
    shapes = tuple(place(shape, box) for shape in draw_clock_face(rng, vary_rgb(rng, COLOURS[colour])))
    return (PlannedThing(clock, colour, box, shapes),)


def _find_things(rendering: Rendering, plans: tuple[PlannedThing, ...]) -> tuple[Pixels, tuple[Thing, ...]]:
    """Number the things that can be seen from 1 and box their pixels."""
    numbers = np.zeros(256, dtype=np.uint8)
    things: list[Thing] = []
    for drawn_as, plan in enumerate(plans, start=1):
        rows, columns = np.nonzero(rendering.instances == drawn_as)
        if rows.size:
            box_px = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
            things.append(Thing(plan.concept.name, plan.colour, box_px, len(things) + 1))
            numbers[drawn_as] = len(things)
    return numbers[rendering.instances], tuple(things)
