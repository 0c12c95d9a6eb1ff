"""The land of a picture: where sky, mountains, sea, sand, grass and road lie, and how they look."""

import itertools
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from miniworld.canvas import Layer
from miniworld.colours import Rgb, mix_rgb, scale_rgb, vary_rgb
from miniworld.concepts import find_concept
from miniworld.light import Light
from miniworld.shapes import Point, Shape, as_other, ellipse, place, polygon, rectangle

KNOTS: Final = 17  # points that a border line has from the left edge to the right

Line: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Land:
    """Border lines from far to near, each a height for every knot: 0 at the top of the picture, 1 at its bottom.

    Attributes:
        horizon: where the sky ends.
        ridge: upper edge of the mountains, if there are any.
        shore: lower edge of the sea, if there is one.
        beach: lower edge of the sand beside it, if there is any.
        road: upper and lower edge of the road, if there is one.
    """

    horizon: float
    ridge: Line | None
    shore: Line | None
    beach: Line | None
    road: tuple[Line, Line] | None


def height_at(line: Line, x: float) -> float:
    """Read a border line between its knots."""
    left = min(max(int(x * (KNOTS - 1)), 0), KNOTS - 2)
    share = x * (KNOTS - 1) - left
    return line[left] * (1.0 - share) + line[left + 1] * share


def plan_land(rng: np.random.Generator) -> Land:
    """Choose the lie of the land for one picture."""
    horizon = float(rng.uniform(0.36, 0.45))
    has_mountain, has_sea, has_sand, has_road = (rng.random(4) < (0.6, 0.6, 0.85, 0.75)).tolist()
    shore = _bent(rng, horizon + float(rng.uniform(0.12, 0.16)), spread=0.025) if has_sea else None
    beach = None
    if shore and has_sand:
        width = float(rng.uniform(0.07, 0.1))
        beach = tuple(y + width + float(dy) for y, dy in zip(shore, rng.uniform(-0.008, 0.008, KNOTS), strict=True))
    road = None
    if has_road:
        upper = _bent(rng, max(max(beach or shore or (0.0,)) + 0.08, float(rng.uniform(0.62, 0.69))), spread=0.02)
        width = float(rng.uniform(0.15, 0.17))
        road = (upper, tuple(y + width for y in upper))
    return Land(horizon, _ridge(rng, horizon) if has_mountain else None, shore, beach, road)


def draw_land(rng: np.random.Generator, land: Land, *, light: Light) -> tuple[Layer, ...]:
    """Draw sky and ground from far to near, in the unit square."""
    named: list[tuple[str, tuple[Shape, ...]]] = [("sky", _draw_sky(rng, land, light=light))]
    if land.ridge:
        named.append(("mountain", _draw_mountain(rng, land.ridge, floor=land.horizon + 0.01)))
    named.append(("grass", _draw_grass(rng, land)))
    if land.beach:
        named.append(("sand", _draw_sand(rng, land.beach, top=land.horizon)))
    if land.shore:
        named.append(("sea", _draw_sea(rng, land.shore, top=land.horizon)))
    if land.road:
        named.append(("road", _draw_road(rng, land.road)))
    return tuple(Layer(shapes, find_concept(name).ade20k_number) for name, shapes in named)


def _bent(rng: np.random.Generator, level: float, *, spread: float) -> Line:
    along = np.linspace(-1, 1, KNOTS)
    slope, bow, phase = rng.uniform(-1, 1, size=3)
    wave = 0.5 * slope * along + 0.5 * bow * np.sin(2.2 * along + 3 * phase)
    return tuple((level + spread * wave).tolist())


def _ridge(rng: np.random.Generator, horizon: float) -> Line:
    heights = np.full(KNOTS, 0.05)
    for centre in rng.uniform(0, KNOTS - 1, size=int(rng.integers(2, 4))):
        peak, slope = float(rng.uniform(0.16, 0.27)), float(rng.uniform(0.035, 0.06))
        heights = np.maximum(heights, peak - slope * np.abs(np.arange(KNOTS) - round(float(centre))))
    heights += rng.uniform(-0.012, 0.012, size=KNOTS)
    return tuple((horizon - heights).tolist())


def _corners(line: Line) -> list[Point]:
    return [(float(x), y) for x, y in zip(np.linspace(0, 1, KNOTS), line, strict=True)]


def _band(upper: Line, lower: Line, rgb: Rgb) -> Shape:
    return polygon([*_corners(upper), *reversed(_corners(lower))], rgb)


def _level(y: float) -> Line:
    return (y,) * KNOTS


def _draw_sky(rng: np.random.Generator, land: Land, *, light: Light) -> tuple[Shape, ...]:
    edges = np.linspace(0, land.horizon + 0.02, 33).tolist()
    bands = [
        rectangle((0, top, 1, bottom), mix_rgb(light.zenith, light.skyline, share=index / 31))
        for index, (top, bottom) in enumerate(itertools.pairwise(edges))
    ]
    orb: list[Shape] = []
    if rng.random() < 0.6:  # SceneParse150 has no class for sun and moon
        x, y = float(rng.uniform(0.06, 0.94)), float(rng.uniform(0.08, 0.2))
        orb = [
            as_other(
                ellipse(
                    (x - 0.035, y - 0.045, x + 0.035, y + 0.045), mix_rgb(light.skyline, (255, 246, 190), share=0.8)
                )
            )
        ]
    clouds = [shape for _ in range(int(rng.integers(0, 4))) for shape in _draw_cloud(rng, land, rgb=light.cloud)]
    return (*bands, *orb, *clouds)


def _draw_cloud(rng: np.random.Generator, land: Land, *, rgb: Rgb) -> tuple[Shape, ...]:
    x, y = float(rng.uniform(0, 1)), float(rng.uniform(0.05, 0.6)) * land.horizon
    width, height = float(rng.uniform(0.14, 0.26)), float(rng.uniform(0.05, 0.08))
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    puffs = ((0.0, 0.4, 0.6, 1.0), (0.2, 0.0, 0.7, 0.9), (0.45, 0.3, 1.0, 1.0))
    return tuple(place(ellipse(puff, rgb), box) for puff in puffs)


def _draw_mountain(rng: np.random.Generator, ridge: Line, *, floor: float) -> tuple[Shape, ...]:
    rock = vary_rgb(rng, (122, 112, 134), spread=0.12)
    body = _band(ridge, _level(floor), rock)
    corners = _corners(ridge)
    shades = []
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        if y1 > y0:  # slopes that fall to the right lie in shade
            shades.append(polygon(((x0, y0), (x1, y1), (x1, floor), (x0, floor)), scale_rgb(rock, 0.84)))
    has_snow = rng.random() < 0.6
    snow = [_draw_snow((x, y)) for x, y in _peaks(corners) if has_snow and y < floor - 0.16]
    return (body, *shades, *snow)


def _peaks(corners: list[Point]) -> list[Point]:
    triples = zip(corners[:-2], corners[1:-1], corners[2:], strict=True)
    return [middle for left, middle, right in triples if middle[1] < min(left[1], right[1])]


def _draw_snow(peak: Point) -> Shape:
    x, y = peak
    outline = ((0, 0), (0.035, 0.042), (0.018, 0.036), (0.006, 0.058), (-0.01, 0.038), (-0.035, 0.046))
    return polygon([(x + dx, y + dy) for dx, dy in outline], (244, 246, 250))


def _draw_grass(rng: np.random.Generator, land: Land) -> tuple[Shape, ...]:
    near = vary_rgb(rng, (104, 158, 64), spread=0.1)
    far = mix_rgb(near, (168, 190, 112), share=0.5)
    edges = np.linspace(land.horizon, 1.0, 9).tolist()
    bands = [
        rectangle((0, top, 1, bottom), mix_rgb(far, near, share=index / 7))
        for index, (top, bottom) in enumerate(itertools.pairwise(edges))
    ]
    blades = []
    for x, depth, shade in rng.random((110, 3)).tolist():
        y = land.horizon + 0.03 + (0.97 - land.horizon) * depth
        size = 0.008 + 0.016 * depth
        blades.append(
            polygon(((x, y), (x + size * 0.5, y - 2 * size), (x + size, y)), scale_rgb(near, 0.78 + 0.4 * shade))
        )
    return (*bands, *blades, *(_draw_stone(rng) for _ in range(int(rng.integers(0, 3)))))


def _draw_stone(rng: np.random.Generator) -> Shape:
    x, y, size = float(rng.uniform(0, 1)), float(rng.uniform(0.86, 0.98)), float(rng.uniform(0.015, 0.03))
    return as_other(ellipse((x - size, y - size * 0.8, x + size, y + size * 0.8), vary_rgb(rng, (150, 146, 140))))


def _draw_sand(rng: np.random.Generator, beach: Line, *, top: float) -> tuple[Shape, ...]:
    sand = vary_rgb(rng, (232, 208, 150), spread=0.06)
    grains = []
    for x, depth, shade in rng.random((60, 3)).tolist():
        y = height_at(beach, x) - 0.005 - 0.1 * depth
        grains.append(ellipse((x - 0.006, y - 0.004, x + 0.006, y + 0.004), scale_rgb(sand, 0.84 + 0.24 * shade)))
    return (_band(_level(top), beach, sand), *grains)


def _draw_sea(rng: np.random.Generator, shore: Line, *, top: float) -> tuple[Shape, ...]:
    water = vary_rgb(rng, (32, 104, 150), spread=0.12)
    waves = []
    for x, depth, shade in rng.random((45, 3)).tolist():
        y = top + 0.012 + (height_at(shore, x) - top - 0.03) * depth
        half = 0.012 + 0.03 * depth
        waves.append(ellipse((x - half, y - 0.004, x + half, y + 0.005), scale_rgb(water, 0.84 + 0.5 * shade)))
    foam = tuple(y - 0.012 for y in shore)
    return (_band(_level(top), shore, water), *waves, _band(foam, shore, (226, 238, 240)))


def _draw_road(rng: np.random.Generator, road: tuple[Line, Line]) -> tuple[Shape, ...]:
    upper, lower = road
    asphalt = vary_rgb(rng, (92, 92, 100), spread=0.1)
    paint = (236, 234, 222)
    start, step = float(rng.uniform(-0.1, 0.0)), 0.14
    dashes = []
    for x in np.arange(start, 1.0, step).tolist():
        ends = [(at, (height_at(upper, at) + height_at(lower, at)) / 2) for at in (x, x + 0.07)]
        (x0, y0), (x1, y1) = ends
        dashes.append(polygon(((x0, y0 - 0.008), (x1, y1 - 0.008), (x1, y1 + 0.008), (x0, y0 + 0.008)), paint))
    kerbs = [_band(upper, tuple(y + 0.014 for y in upper), (176, 174, 172))]
    kerbs.append(_band(tuple(y - 0.014 for y in lower), lower, (176, 174, 172)))
    return (_band(upper, lower, asphalt), *kerbs, *dashes)
