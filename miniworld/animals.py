"""How the animals look: like `forms`, shapes in the unit square, heads to the right."""

import numpy as np

from miniworld.colours import Rgb, scale_rgb, vary_rgb
from miniworld.shapes import Shape, ellipse, polygon, rectangle

DARK: Rgb = (42, 36, 36)


def draw_sheep(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a sheep; the colour is that of its wool."""
    spots = [(0.18, 0.46), (0.34, 0.34), (0.52, 0.32), (0.66, 0.44), (0.28, 0.56), (0.46, 0.58), (0.6, 0.56)]
    sizes = rng.uniform(0.15, 0.19, size=len(spots)).tolist()
    wool = [
        ellipse((x - size, y - size * 1.5, x + size, y + size * 1.5), scale_rgb(rgb, 0.86 if y > 0.5 else 1.0))
        for (x, y), size in zip(spots, sizes, strict=True)
    ]
    return (
        *_legs((0.18, 0.32, 0.52, 0.64), top=0.66, rgb=DARK),
        *wool,
        ellipse((0.72, 0.22, 1.0, 0.62), DARK),
        ellipse((0.68, 0.1, 0.9, 0.36), rgb),
    )


def draw_cow(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a cow with pale patches; the colour is that of its hide."""
    patch = vary_rgb(rng, (238, 230, 216), spread=0.03)
    shift = float(rng.uniform(-0.06, 0.06))
    return (
        *_legs((0.12, 0.24, 0.56, 0.68), top=0.6, rgb=scale_rgb(rgb, 0.8)),
        polygon(((0.02, 0.28), (0.06, 0.26), (0.06, 0.74), (0.0, 0.76)), scale_rgb(rgb, 0.7)),
        polygon(((0.04, 0.22), (0.74, 0.18), (0.78, 0.6), (0.62, 0.74), (0.1, 0.72), (0.04, 0.5)), rgb),
        ellipse((0.16 + shift, 0.26, 0.38 + shift, 0.58), patch),
        ellipse((0.5 + shift, 0.38, 0.66 + shift, 0.68), patch),
        polygon(((0.68, 0.1), (0.86, 0.08), (1.0, 0.36), (0.96, 0.48), (0.76, 0.46)), scale_rgb(rgb, 0.9)),
        ellipse((0.88, 0.3, 1.0, 0.5), (226, 178, 166)),
        polygon(((0.7, 0.12), (0.66, 0.0), (0.76, 0.08)), patch),
        polygon(((0.82, 0.1), (0.86, 0.0), (0.88, 0.1)), patch),
    )


def draw_dog(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a dog with a raised tail; the colour is that of its coat."""
    tail = float(rng.uniform(0.0, 0.12))
    return (
        *_legs((0.18, 0.29, 0.54, 0.65), top=0.6, rgb=scale_rgb(rgb, 0.86)),
        polygon(((0.14, 0.5), (0.0, tail), (0.07, tail), (0.26, 0.44)), scale_rgb(rgb, 0.9)),
        polygon(((0.12, 0.46), (0.6, 0.42), (0.74, 0.3), (0.76, 0.68), (0.6, 0.76), (0.16, 0.74)), rgb),
        polygon(((0.62, 0.44), (0.64, 0.1), (0.84, 0.08), (1.0, 0.28), (0.98, 0.4), (0.8, 0.46), (0.76, 0.6)), rgb),
        polygon(((0.64, 0.1), (0.72, 0.06), (0.72, 0.38), (0.62, 0.36)), scale_rgb(rgb, 0.6)),
        ellipse((0.93, 0.24, 1.0, 0.34), DARK),
    )


def draw_bird(rng: np.random.Generator, rgb: Rgb) -> tuple[Shape, ...]:
    """Draw a bird in flight; the colour is that of its feathers."""
    lift = float(rng.uniform(0.0, 0.12))
    return (
        polygon(((0.4, 0.6), (0.5, lift), (0.66, 0.08 + lift), (0.7, 0.62)), scale_rgb(rgb, 0.7)),
        polygon(((0.26, 0.6), (0.0, 0.5), (0.02, 0.78), (0.3, 0.76)), scale_rgb(rgb, 0.8)),
        ellipse((0.16, 0.5, 0.86, 0.94), rgb),
        polygon(((0.34, 0.64), (0.16, lift), (0.36, 0.04 + lift), (0.62, 0.66)), scale_rgb(rgb, 0.9)),
        ellipse((0.68, 0.4, 0.92, 0.74), rgb),
        polygon(((0.9, 0.5), (1.0, 0.6), (0.9, 0.66)), (240, 170, 40)),
    )


def _legs(lefts: tuple[float, ...], *, top: float, rgb: Rgb) -> tuple[Shape, ...]:
    return tuple(rectangle((x, top, x + 0.09, 1.0), rgb) for x in lefts)
