"""The colour words of the miniworld and the shades that a word covers."""

from typing import Final, TypeAlias

import numpy as np

Rgb: TypeAlias = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "red": (204, 48, 44),
    "orange": (228, 124, 36),
    "yellow": (238, 204, 62),
    "green": (52, 122, 56),
    "blue": (52, 92, 196),
    "purple": (132, 66, 164),
    "pink": (234, 132, 168),
    "brown": (128, 80, 48),
    "black": (44, 44, 52),
    "grey": (146, 146, 152),
    "white": (240, 238, 230),
}


def scale_rgb(rgb: Rgb, factor: float) -> Rgb:
    """Make a colour darker (factor below 1) or lighter (above 1)."""
    red, green, blue = (max(0, min(255, round(value * factor))) for value in rgb)
    return red, green, blue


def mix_rgb(first: Rgb, second: Rgb, *, share: float) -> Rgb:
    """Blend two colours; `share` is the part of the second one."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def vary_rgb(rng: np.random.Generator, rgb: Rgb, *, spread: float = 0.1) -> Rgb:
    """Pick a shade near a colour: lighter or darker by `spread`, and a little off in hue."""
    factor = 1.0 + float(rng.uniform(-spread, spread))
    tilts = rng.integers(-7, 8, size=3)
    red, green, blue = (
        max(0, min(255, round(value * factor) + int(tilt))) for value, tilt in zip(rgb, tilts, strict=True)
    )
    return red, green, blue
