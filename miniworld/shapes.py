"""Flat shapes: what every picture is made of, before it has a size in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from miniworld.colours import Rgb

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shape:
    """One filled polygon or ellipse; x runs to the right, y downwards.

    Attributes:
        points: the corners of a polygon; of an ellipse, the two corners of its box.
        marks: whose pixels the shape covers in the label: those of the thing it belongs to, nobody's ("other"),
            or those of whatever lay there before ("nothing": a shadow).
        opacity: 1 hides what is below.
    """

    kind: Literal["polygon", "ellipse"]
    points: tuple[Point, ...]
    fill: Rgb
    marks: Literal["thing", "other", "nothing"] = "thing"
    opacity: float = 1.0


def polygon(points: Sequence[Point], fill: Rgb) -> Shape:
    """Make a polygon from its corners."""
    return Shape("polygon", tuple(points), fill)


def rectangle(box: Box, fill: Rgb) -> Shape:
    """Make an upright rectangle from (left, top, right, bottom)."""
    x0, y0, x1, y1 = box
    return polygon(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), fill)


def ellipse(box: Box, fill: Rgb) -> Shape:
    """Make an ellipse from (left, top, right, bottom)."""
    x0, y0, x1, y1 = box
    return Shape("ellipse", ((x0, y0), (x1, y1)), fill)


def as_other(shape: Shape) -> Shape:
    """Turn a shape into one that belongs to no class: a pole, a stone."""
    return replace(shape, marks="other")


def as_shadow(shape: Shape, opacity: float) -> Shape:
    """Turn a shape into one that tints what is below it and leaves the label alone."""
    return replace(shape, marks="nothing", opacity=opacity)


def place(shape: Shape, box: Box, *, is_mirrored: bool = False) -> Shape:
    """Move a shape from the unit square into a box, left and right swapped if asked."""
    x0, y0, x1, y1 = box
    points = tuple((x0 + (x1 - x0) * (1.0 - x if is_mirrored else x), y0 + (y1 - y0) * y) for x, y in shape.points)
    if shape.kind == "ellipse":
        (left, top), (right, bottom) = points
        points = ((min(left, right), top), (max(left, right), bottom))
    return Shape(shape.kind, points, shape.fill, shape.marks, shape.opacity)  # `replace` is slow, and this is often
