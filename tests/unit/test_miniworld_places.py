"""Left and right are said only where nobody would doubt it."""

import pytest

from miniworld.pairs import draw_pair_scene
from miniworld.places import Side, find_beside, find_middle, find_outermost, is_well_seen
from miniworld.scene import Thing


def _thing(instance: int, left: int, right: int) -> Thing:
    return Thing("dog", "brown", (left, 10, right, 30), instance)


FAR_LEFT, LEFT, MIDDLE, RIGHT = (_thing(number, left, left + 20) for number, left in enumerate((0, 8, 40, 80), start=1))


def test_the_middle_is_measured_in_widths() -> None:
    assert find_middle(MIDDLE, width_px=100) == 0.5


@pytest.mark.parametrize(("side", "found"), [("left", (LEFT,)), ("right", (RIGHT,))])
def test_beside_is_what_is_clearly_on_that_side(side: Side, found: tuple[Thing, ...]) -> None:
    assert find_beside(MIDDLE, side, among=[LEFT, MIDDLE, RIGHT], width_px=100) == found


def test_beside_is_in_doubt_where_middles_are_close() -> None:
    assert find_beside(LEFT, "left", among=[FAR_LEFT, RIGHT], width_px=100) is None


@pytest.mark.parametrize(
    ("side", "among", "found"),
    [
        ("left", [MIDDLE, LEFT, RIGHT], LEFT),
        ("right", [MIDDLE, LEFT, RIGHT], RIGHT),
        ("left", [MIDDLE, RIGHT], None),
        ("right", [MIDDLE], None),
        ("left", [FAR_LEFT, LEFT], None),
    ],
)
def test_the_outermost_is_far_out_and_before_all_others(side: Side, among: list[Thing], found: Thing | None) -> None:
    assert find_outermost(side, among=among, width_px=100) == found


def test_a_sliver_is_not_worth_speaking_of() -> None:
    scene = draw_pair_scene(5, width_px=72, height_px=72)
    thing = scene.things[0]
    assert is_well_seen(thing, scene)
    x0, y0, _, y1 = thing.box_px
    assert not is_well_seen(Thing(thing.name, thing.colour, (x0, y0, x0 + 5, y1), thing.instance), scene)
    assert not is_well_seen(Thing(thing.name, thing.colour, thing.box_px, 99), scene)
