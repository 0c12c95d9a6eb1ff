"""The light of a picture: colours of the sky, a tint over everything, and the grain of the camera."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from miniworld.canvas import Pixels
from miniworld.colours import Rgb


@dataclass(frozen=True)
class Light:
    """One kind of light.

    Attributes:
        zenith, skyline: colours of the sky at the top and at the horizon.
        tint: what it does to red, green and blue of everything.
        cloud: the colour of clouds.
    """

    zenith: Rgb
    skyline: Rgb
    tint: tuple[float, float, float]
    cloud: Rgb


LIGHTS: Final = (
    Light((72, 138, 222), (188, 220, 246), (1.0, 1.0, 1.0), (252, 252, 254)),
    Light((96, 160, 226), (222, 234, 240), (1.04, 1.01, 0.95), (250, 248, 242)),
    Light((132, 150, 172), (206, 212, 218), (0.9, 0.92, 0.96), (232, 234, 238)),
    Light((74, 76, 148), (252, 178, 128), (0.98, 0.9, 0.86), (246, 190, 170)),
    Light((40, 60, 132), (246, 158, 158), (0.86, 0.82, 0.9), (206, 150, 176)),
)
LIGHT_SHARES: Final = (0.35, 0.2, 0.15, 0.2, 0.1)


def pick_light(rng: np.random.Generator) -> Light:
    """Pick the light of one picture."""
    return LIGHTS[int(rng.choice(len(LIGHTS), p=LIGHT_SHARES))]


def expose(rng: np.random.Generator, image: Pixels, *, light: Light) -> Pixels:
    """Put a drawn picture into its light: tint, a slow change of brightness across it, and grain."""
    height, width, _ = image.shape
    slope_x, slope_y = rng.uniform(-0.08, 0.08, size=2)
    brightness = rng.uniform(0.92, 1.05) + (
        slope_x * np.linspace(-1, 1, width)[None, :] + slope_y * np.linspace(-1, 1, height)[:, None]
    )
    tinted = image * brightness[:, :, None] * np.asarray(light.tint)
    grain = rng.normal(0.0, rng.uniform(2.0, 5.0), size=(height, width, 1)) + rng.normal(0.0, 2.0, size=image.shape)
    exposed: Pixels = np.clip(np.rint(tinted + grain), 0, 255).astype(np.uint8)
    return exposed
