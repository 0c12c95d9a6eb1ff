"""How each thing looks: shapes in the unit square, standing on its lower edge, drawn anew from a random generator."""

import itertools
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from miniworld.colours import Rgb, mix_rgb, scale_rgb, vary_rgb
from miniworld.shapes import Point, Shape, as_other, ellipse, place, polygon, rectangle

Draw: TypeAlias = Callable[[np.random.Generator, Rgb], tuple[Shape, ...]]

GLASS: Rgb = (164, 204, 222)
LAMPLIGHT: Rgb = (255, 226, 130)
STEEL: Rgb = (96, 98, 104)
BARK: Rgb = (98, 66, 42)


def draw_house(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a house with a pitched roof; the colour is that of its walls."""
    roof = vary_rgb(rng, (118, 62, 48) if rng.random() < 0.5 else (84, 78, 88))
    pane = LAMPLIGHT if rng.random() < 0.4 else (74, 88, 112)
    frame = (246, 244, 236)
    inset = float(rng.uniform(0.1, 0.32))
    windows = [
        shape
        for x in (0.15, 0.61)
        for shape in (rectangle((x, 0.54, x + 0.24, 0.78), frame), rectangle((x + 0.03, 0.57, x + 0.21, 0.75), pane))
    ]
    return (
        rectangle((0.68, 0.06, 0.8, 0.4), scale_rgb(roof, 0.75)),
        rectangle((0.07, 0.4, 0.93, 1.0), rgb),
        rectangle((0.07, 0.4, 0.93, 0.47), scale_rgb(rgb, 0.72)),
        polygon(((0.0, 0.44), (inset, 0.1), (1.0 - inset, 0.1), (1.0, 0.44)), roof),
        polygon(((0.03, 0.39), (0.06, 0.36), (0.94, 0.36), (0.97, 0.39)), scale_rgb(roof, 1.25)),
        *windows,
        rectangle((0.42, 0.64, 0.58, 1.0), scale_rgb(BARK, 0.8)),
    )


def draw_tree(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a fir or a round tree on a trunk; the colour is that of its leaves."""
    trunk = polygon(((0.43, 1.0), (0.46, 0.5), (0.54, 0.5), (0.57, 1.0)), vary_rgb(rng, BARK))
    if rng.random() < 0.35:
        tiers = [
            shape
            for top, bottom, half in ((0.5, 0.88, 0.46), (0.27, 0.66, 0.37), (0.0, 0.42, 0.27))
            for shape in (
                polygon(((0.5, top), (0.5 - half, bottom), (0.5 + half, bottom)), scale_rgb(rgb, 0.72)),
                polygon(((0.5, top), (0.5 - half, bottom), (0.5 + half * 0.2, bottom)), scale_rgb(rgb, 0.88)),
            )
        ]
        return (trunk, *tiers)
    spots = [(0.3, 0.44), (0.7, 0.44), (0.5, 0.52), (0.36, 0.24), (0.64, 0.24), (0.5, 0.36)]
    shades = (0.72, 0.72, 0.76, 0.94, 0.88, 1.0)
    crown = [_blob(rng, spot, scale_rgb(rgb, shade)) for spot, shade in zip(spots, shades, strict=True)]
    return (trunk, *crown)


def _blob(rng: np.random.Generator, centre: Point, rgb: Rgb) -> Shape:
    x, y = centre
    radius = float(rng.uniform(0.22, 0.28))
    return ellipse((x - radius, y - radius * 0.8, x + radius, y + radius * 0.8), rgb)


def draw_tower(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a tower of stone with battlements, its courses in two shades of the colour."""
    edges = np.linspace(0.12, 1.0, 9)
    courses = [
        polygon(_taper(float(top), float(bottom)), scale_rgb(rgb, 1.0 if index % 2 else 0.8))
        for index, (top, bottom) in enumerate(itertools.pairwise(edges))
    ]
    teeth = [rectangle((x, 0.0, x + 0.2, 0.1), scale_rgb(rgb, 0.9)) for x in (0.02, 0.4, 0.78)]
    pane = LAMPLIGHT if rng.random() < 0.4 else (48, 46, 58)
    slits = [rectangle((0.42, y, 0.58, y + 0.09), pane) for y in (0.46, 0.68)]
    return (*courses, *teeth, rectangle((0.02, 0.06, 0.98, 0.14), scale_rgb(rgb, 0.7)), *slits)


def _taper(top: float, bottom: float) -> tuple[Point, ...]:
    near, far = 0.14 - 0.08 * top, 0.14 - 0.08 * bottom
    return ((near, top), (1.0 - near, top), (1.0 - far, bottom), (far, bottom))


def draw_clock_face(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a round clock without a post; the colour is that of its rim."""
    angles = np.arange(12) * (np.pi / 6)
    ticks = [_ray(float(angle), 0.32, reach=0.4, half=0.02) for angle in angles]
    hands = [_ray(float(rng.uniform(0, 2 * np.pi)), -0.04, reach=reach, half=0.035) for reach in (0.2, 0.31)]
    return (
        ellipse((0.0, 0.0, 1.0, 1.0), rgb),
        ellipse((0.11, 0.11, 0.89, 0.89), (250, 248, 240)),
        *(polygon(corners, (70, 66, 70)) for corners in ticks),
        *(polygon(corners, (26, 24, 30)) for corners in hands),
    )


def _ray(angle: float, start: float, *, reach: float, half: float) -> tuple[Point, ...]:
    dx, dy = float(np.cos(angle)), float(np.sin(angle))
    near, far = (0.5 + dx * start, 0.5 + dy * start), (0.5 + dx * reach, 0.5 + dy * reach)
    side = (-dy * half, dx * half)
    return (
        (near[0] + side[0], near[1] + side[1]),
        (far[0] + side[0], far[1] + side[1]),
        (far[0] - side[0], far[1] - side[1]),
        (near[0] - side[0], near[1] - side[1]),
    )


def draw_clock(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a clock on a post; the post is no part of it."""
    post = (
        rectangle((0.44, 0.4, 0.56, 1.0), scale_rgb(STEEL, 0.7)),
        rectangle((0.3, 0.94, 0.7, 1.0), scale_rgb(STEEL, 0.6)),
    )
    face = (place(shape, (0.0, 0.0, 1.0, 0.45)) for shape in draw_clock_face(rng, rgb))
    return (*(as_other(shape) for shape in post), *face)


def draw_flag(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a flag that flies from a pole; the pole is no part of it."""
    along = np.linspace(0.06, 1.0, 9)
    wave = 0.025 * np.sin(along * 7.0 + float(rng.uniform(0, 6.28)))
    cloth = [_strip(along, wave, top=0.03, bottom=0.45), _strip(along, wave, top=0.17, bottom=0.31)]
    stripe = (248, 246, 238)
    pole = as_other(rectangle((0.0, 0.0, 0.07, 1.0), STEEL))
    return (polygon(cloth[0], rgb), polygon(cloth[1], stripe), pole)


def _strip(along: NDArray[np.floating], wave: NDArray[np.floating], *, top: float, bottom: float) -> tuple[Point, ...]:
    upper = [(float(x), float(top + dy)) for x, dy in zip(along, wave, strict=True)]
    lower = [(float(x), float(bottom + dy)) for x, dy in zip(along, wave, strict=True)]
    return (*upper, *reversed(lower))


def draw_streetlight(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a street lamp: post, arm and a lit lantern; the colour is that of the post."""
    glow = mix_rgb(LAMPLIGHT, (255, 255, 255), share=float(rng.uniform(0.0, 0.5)))
    return (
        rectangle((0.06, 0.9, 0.46, 1.0), scale_rgb(rgb, 0.8)),
        rectangle((0.16, 0.06, 0.36, 1.0), rgb),
        polygon(((0.16, 0.03), (0.8, 0.0), (0.8, 0.06), (0.16, 0.11)), rgb),
        polygon(((0.42, 0.12), (0.56, 0.04), (0.86, 0.04), (1.0, 0.12)), scale_rgb(rgb, 0.7)),
        polygon(((0.42, 0.12), (1.0, 0.12), (0.88, 0.25), (0.54, 0.25)), glow),
    )


def draw_car(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a car from its side; the colour is that of its body."""
    cabin = float(rng.uniform(0.26, 0.36))
    tyre, hub = (30, 30, 34), (176, 178, 184)
    wheels = [
        shape
        for x in (0.23, 0.77)
        for shape in (ellipse((x - 0.13, 0.52, x + 0.13, 1.0), tyre), ellipse((x - 0.06, 0.65, x + 0.06, 0.87), hub))
    ]
    return (
        polygon(((cabin - 0.14, 0.42), (cabin, 0.0), (0.66, 0.0), (0.84, 0.42)), rgb),
        polygon(((cabin - 0.07, 0.4), (cabin + 0.03, 0.08), (0.46, 0.08), (0.46, 0.4)), GLASS),
        polygon(((0.51, 0.4), (0.51, 0.08), (0.63, 0.08), (0.75, 0.4)), GLASS),
        polygon(((0.0, 0.8), (0.02, 0.46), (0.14, 0.38), (0.86, 0.38), (0.99, 0.54), (1.0, 0.8)), rgb),
        rectangle((0.01, 0.68, 0.99, 0.8), scale_rgb(rgb, 0.66)),
        rectangle((0.92, 0.5, 0.99, 0.6), LAMPLIGHT),
        *wheels,
    )


def draw_boat(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a sailing boat; the colour is that of its hull."""
    sail = vary_rgb(rng, (244, 240, 226), spread=0.04)
    peak = float(rng.uniform(0.0, 0.08))
    return (
        rectangle((0.45, 0.0, 0.49, 0.76), scale_rgb(BARK, 0.8)),
        polygon(((0.5, peak), (0.5, 0.68), (0.92, 0.68)), sail),
        polygon(((0.43, peak + 0.08), (0.43, 0.68), (0.1, 0.68)), scale_rgb(sail, 0.88)),
        polygon(((0.0, 0.72), (1.0, 0.72), (0.84, 1.0), (0.16, 1.0)), rgb),
        polygon(((0.0, 0.72), (1.0, 0.72), (0.97, 0.78), (0.03, 0.78)), scale_rgb(rgb, 0.6)),
    )


def draw_person(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a standing person; the colour is that of the shirt."""
    skin = vary_rgb(rng, ((240, 200, 168), (198, 146, 108), (122, 82, 60))[int(rng.integers(3))], spread=0.05)
    hair = ((40, 30, 26), (108, 68, 36), (206, 168, 92))[int(rng.integers(3))]
    trousers = vary_rgb(rng, ((44, 52, 88), (70, 62, 58))[int(rng.integers(2))])
    return (
        polygon(((0.24, 0.56), (0.2, 1.0), (0.46, 1.0), (0.5, 0.66), (0.54, 1.0), (0.8, 1.0), (0.76, 0.56)), trousers),
        polygon(((0.14, 0.28), (0.0, 0.6), (0.14, 0.64), (0.3, 0.4)), scale_rgb(rgb, 0.84)),
        polygon(((0.86, 0.28), (1.0, 0.6), (0.86, 0.64), (0.7, 0.4)), scale_rgb(rgb, 0.84)),
        polygon(((0.14, 0.27), (0.86, 0.27), (0.78, 0.62), (0.22, 0.62)), rgb),
        ellipse((0.2, 0.0, 0.8, 0.24), hair),
        ellipse((0.26, 0.06, 0.74, 0.28), skin),
    )


def draw_flower(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a flower with stem and leaves; the colour is that of its petals."""
    stem = vary_rgb(rng, (74, 148, 46))
    count, turn = int(rng.integers(6, 9)), float(rng.uniform(0, 1))
    angles = (np.arange(count) + turn) * (2 * np.pi / count)
    centres = [(0.5 + 0.29 * float(np.cos(a)), 0.31 + 0.18 * float(np.sin(a))) for a in angles]
    petals = [
        ellipse((x - 0.21, y - 0.13, x + 0.21, y + 0.13), scale_rgb(rgb, 1.0 if index % 2 else 0.86))
        for index, (x, y) in enumerate(centres)
    ]
    return (
        rectangle((0.44, 0.35, 0.56, 1.0), stem),
        polygon(((0.5, 0.96), (0.02, 0.68), (0.26, 0.66)), scale_rgb(stem, 0.84)),
        polygon(((0.5, 0.96), (0.98, 0.66), (0.74, 0.64)), stem),
        *petals,
        ellipse((0.34, 0.21, 0.66, 0.41), (96, 62, 24)),
        ellipse((0.4, 0.24, 0.6, 0.36), (232, 186, 56)),
    )


def draw_airplane(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw an airliner in flight; the colour is that of its wings and tail."""
    hull = vary_rgb(rng, (232, 234, 238), spread=0.04)
    panes = [ellipse((x, 0.42, x + 0.035, 0.52), (58, 72, 96)) for x in np.linspace(0.24, 0.78, 8).tolist()]
    return (
        polygon(((0.52, 0.44), (0.36, 0.06), (0.46, 0.06), (0.7, 0.44)), scale_rgb(rgb, 0.8)),
        polygon(((0.16, 0.46), (0.0, 0.0), (0.13, 0.0), (0.32, 0.42)), rgb),
        ellipse((0.05, 0.34, 1.0, 0.72), hull),
        ellipse((0.08, 0.56, 0.96, 0.71), scale_rgb(hull, 0.84)),
        *panes,
        polygon(((0.44, 0.54), (0.66, 0.54), (0.36, 1.0), (0.24, 1.0)), rgb),
        polygon(((0.06, 0.48), (0.22, 0.48), (0.08, 0.66), (0.0, 0.66)), scale_rgb(rgb, 0.8)),
    )
