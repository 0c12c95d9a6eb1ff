"""Shapes to pixels: a smooth picture, and a label and an instance map with hard edges, from the same geometry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from miniworld.shapes import Shape

Pixels: TypeAlias = NDArray[np.uint8]

OVERSAMPLING: Final = 4


@dataclass(frozen=True)
class Layer:
    """Shapes that share one class number and one instance; later layers hide earlier ones."""

    shapes: tuple[Shape, ...]
    label: int
    instance: int = 0


@dataclass(frozen=True, eq=False)
class Rendering:
    """What came of the layers: `image` (h, w, 3); `label` and `instances` (h, w)."""

    image: Pixels
    label: Pixels
    instances: Pixels


def render(layers: Sequence[Layer], *, width_px: int, height_px: int) -> Rendering:
    """Paint layers, given in picture coordinates of 0..width_px and 0..height_px, from back to front.

    All is drawn at four times the size. The picture is then averaged, which smooths its edges; of the maps the middle
    of every pixel is taken, so they hold the given numbers only and lie exactly under the picture.

    Raises:
        ValueError: there are more layers than a map of bytes can tell apart.
    """
    if len(layers) > 255:
        raise ValueError(f"{len(layers)} layers are too many for one picture; at most 255 can be told apart")
    large = (width_px * OVERSAMPLING, height_px * OVERSAMPLING)
    picture, owners = Image.new("RGB", large), Image.new("L", large)
    pens = ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(owners)
    for owner, layer in enumerate(layers, start=1):
        for shape in layer.shapes:
            _paint(pens, shape, owner=owner)
    middle = slice(OVERSAMPLING // 2, None, OVERSAMPLING)
    owned = np.asarray(owners)[middle, middle]
    label = np.array([0, *(layer.label for layer in layers)], dtype=np.uint8)[owned]
    instances = np.array([0, *(layer.instance for layer in layers)], dtype=np.uint8)[owned]
    return Rendering(np.asarray(picture.reduce(OVERSAMPLING)), label, instances)


def _paint(pens: tuple[ImageDraw.ImageDraw, ImageDraw.ImageDraw], shape: Shape, *, owner: int) -> None:
    # Pillow counts from pixel centres, hence the half.
    points = [(x * OVERSAMPLING - 0.5, y * OVERSAMPLING - 0.5) for x, y in shape.points]
    inks: tuple[tuple[int, ...] | int, ...] = (
        (*shape.fill, round(255 * shape.opacity)),
        owner if shape.marks == "thing" else 0,
    )
    for pen, ink in zip(pens if shape.marks != "nothing" else pens[:1], inks, strict=False):
        if shape.kind == "ellipse":
            pen.ellipse(points, fill=ink)
        else:
            pen.polygon(points, fill=ink)
