"""The one table of what exists in the miniworld: names, class numbers, colours, sizes and places."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from miniworld.animals import draw_bird, draw_cow, draw_dog, draw_sheep
from miniworld.forms import (
    Draw,
    draw_airplane,
    draw_boat,
    draw_car,
    draw_clock,
    draw_flag,
    draw_flower,
    draw_house,
    draw_person,
    draw_streetlight,
    draw_tower,
    draw_tree,
)

Zone: TypeAlias = Literal["sky", "sea", "meadow", "road", "roadside", "front"]

CLASS_NAMES_FILE: Final = Path(__file__).with_name("ade20k_classes.txt")


@dataclass(frozen=True)
class Form:
    """How a countable thing enters a picture.

    Attributes:
        draw: makes its shapes in the unit square.
        heights: smallest and largest height, in units of the picture (see `scene`), half way into the depth.
        aspect: width over height.
        zone: where it stands.
        counts: how often a picture holds 0, 1, 2, ... of it; together 1.
    """

    draw: Draw
    heights: tuple[float, float]
    aspect: float
    zone: Zone
    counts: tuple[float, ...]


@dataclass(frozen=True)
class Concept:
    """One kind of thing, or of ground and sky.

    Attributes:
        name: the word a sentence would use.
        ade20k_number: its class in SceneParse150, 1..150; several concepts may share one.
        colours: the colour words it comes in; empty for ground and sky.
        form: None for ground and sky, which `land` draws.
    """

    name: str
    ade20k_number: int
    colours: tuple[str, ...] = ()
    form: Form | None = None


STUFF: Final = (
    Concept("sky", 3),
    Concept("road", 7),
    Concept("grass", 10),
    Concept("mountain", 17),
    Concept("sea", 27),
    Concept("sand", 47),
)

THINGS: Final = (
    Concept(
        "house",
        26,
        ("red", "blue", "yellow", "white", "pink"),
        Form(draw_house, (0.29, 0.37), 1.05, "meadow", (0.2, 0.55, 0.25)),
    ),
    Concept("tree", 5, ("green", "orange"), Form(draw_tree, (0.32, 0.44), 0.72, "meadow", (0.1, 0.4, 0.35, 0.15))),
    Concept("tower", 85, ("grey", "brown", "red"), Form(draw_tower, (0.46, 0.58), 0.34, "meadow", (0.45, 0.5, 0.05))),
    Concept("boat", 77, ("red", "blue", "brown", "white"), Form(draw_boat, (0.23, 0.3), 0.95, "sea", (0.1, 0.5, 0.4))),
    Concept(
        "car",
        21,
        ("red", "blue", "yellow", "green", "white", "black"),
        Form(draw_car, (0.14, 0.17), 2.0, "road", (0.1, 0.5, 0.4)),
    ),
    Concept(
        "streetlight",
        88,
        ("black", "green", "grey"),
        Form(draw_streetlight, (0.4, 0.5), 0.34, "roadside", (0.2, 0.5, 0.3)),
    ),
    Concept(
        "clock", 149, ("black", "brown", "red", "blue"), Form(draw_clock, (0.34, 0.4), 0.45, "front", (0.55, 0.45))
    ),
    Concept(
        "flag",
        150,
        ("red", "blue", "green", "yellow", "purple"),
        Form(draw_flag, (0.4, 0.48), 0.58, "front", (0.4, 0.5, 0.1)),
    ),
    Concept(
        "person",
        13,
        ("red", "blue", "yellow", "green", "white", "purple"),
        Form(draw_person, (0.26, 0.32), 0.38, "front", (0.25, 0.45, 0.3)),
    ),
    Concept("sheep", 127, ("white", "grey"), Form(draw_sheep, (0.14, 0.17), 1.5, "front", (0.65, 0.2, 0.15))),
    Concept("cow", 127, ("brown", "black"), Form(draw_cow, (0.16, 0.2), 1.6, "front", (0.65, 0.3, 0.05))),
    Concept("dog", 127, ("brown", "black", "white"), Form(draw_dog, (0.13, 0.16), 1.35, "front", (0.7, 0.3))),
    Concept(
        "bird", 127, ("black", "white", "red", "blue"), Form(draw_bird, (0.1, 0.13), 1.6, "sky", (0.6, 0.25, 0.15))
    ),
    Concept(
        "flower",
        67,
        ("red", "yellow", "purple", "pink", "white"),
        Form(draw_flower, (0.19, 0.24), 0.62, "front", (0.2, 0.25, 0.3, 0.25)),
    ),
    Concept(
        "airplane",
        91,
        ("red", "blue", "yellow", "green"),
        Form(draw_airplane, (0.15, 0.18), 2.3, "sky", (0.35, 0.5, 0.15)),
    ),
)

CONCEPTS: Final = (*STUFF, *THINGS)


def find_concept(name: str) -> Concept:
    """Look a concept up by its name."""
    for concept in CONCEPTS:
        if concept.name == name:
            return concept
    known = ", ".join(concept.name for concept in CONCEPTS)
    raise ValueError(f"unknown concept {name!r}; the miniworld holds: {known}")


def read_ade20k_names() -> tuple[str, ...]:
    """Read the 150 class names of SceneParse150; the name of class n stands at n - 1.

    Source: `ADE20KDataset.METAINFO` of OpenMMLab's mmseg, which shortens the synonyms of objectInfo150.txt.
    """
    return tuple(CLASS_NAMES_FILE.read_text(encoding="utf-8").splitlines())
