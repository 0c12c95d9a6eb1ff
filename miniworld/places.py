"""Where things stand to each other and in the picture, as far as nobody would doubt it."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from miniworld.scene import Scene, Thing

Side: TypeAlias = Literal["left", "right"]

SIDES: Final[tuple[Side, Side]] = ("left", "right")
CLEARLY_APART: Final = 0.1  # of the width: things whose middles are closer stand in no order
SIDE_REACH: Final = 0.45  # of the width: how far a side of the picture reaches
SMALLEST_AREA_PX: Final = 40  # of what can be seen of a thing that is worth speaking of
SMALLEST_SIDE_PX: Final = 6


def find_middle(thing: Thing, *, width_px: int) -> float:
    """Measure how far right the middle of a thing is, from 0 to 1."""
    return (thing.box_px[0] + thing.box_px[2]) / (2 * width_px)


def find_beside(anchor: Thing, side: Side, *, among: Sequence[Thing], width_px: int) -> tuple[Thing, ...] | None:
    """Find those of some things that are left or right of another one; None where one is in doubt."""
    steps = {
        thing: find_middle(thing, width_px=width_px) - find_middle(anchor, width_px=width_px)
        for thing in among
        if thing != anchor
    }
    if any(abs(step) < CLEARLY_APART for step in steps.values()):
        return None
    return tuple(thing for thing, step in steps.items() if (step < 0) == (side == "left"))


def find_outermost(side: Side, *, among: Sequence[Thing], width_px: int) -> Thing | None:
    """Find the one of some things that is on a side of the picture and farther there than all others, if there is."""
    depths = {thing: find_middle(thing, width_px=width_px) for thing in among}
    if side == "right":
        depths = {thing: 1 - depth for thing, depth in depths.items()}
    first, *rest = sorted(among, key=lambda thing: depths[thing])
    is_clear = depths[first] < SIDE_REACH and all(depths[other] - depths[first] >= CLEARLY_APART for other in rest)
    return first if is_clear else None


def is_well_seen(thing: Thing, scene: Scene) -> bool:
    """Say whether enough of a thing can be seen to speak of it."""
    x0, y0, x1, y1 = thing.box_px
    area_px = int((scene.instances == thing.instance).sum())
    return area_px >= SMALLEST_AREA_PX and min(x1 - x0, y1 - y0) >= SMALLEST_SIDE_PX
