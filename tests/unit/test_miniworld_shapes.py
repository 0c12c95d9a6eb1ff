"""Shapes keep their place and their colour on the way to the pixels."""

import numpy as np
import pytest

from miniworld.canvas import Layer, render
from miniworld.colours import COLOURS, mix_rgb, scale_rgb, vary_rgb
from miniworld.shapes import as_other, as_shadow, ellipse, place, polygon, rectangle

RED, GREEN = (200, 20, 20), (20, 200, 20)
GROUND = Layer((rectangle((0, 0, 20, 10), GREEN),), label=10)


def test_a_rectangle_covers_exactly_its_pixels() -> None:
    house = Layer((rectangle((3, 2, 8, 7), RED),), label=26, instance=1)
    drawn = render([GROUND, house], width_px=20, height_px=10)
    expected = np.full((10, 20), 10)
    expected[2:7, 3:8] = 26
    np.testing.assert_array_equal(drawn.label, expected)
    np.testing.assert_array_equal(drawn.instances, expected == 26)
    np.testing.assert_array_equal(drawn.image[3:6, 4:7], np.broadcast_to(RED, (3, 3, 3)))


def test_slanted_edges_are_smooth_in_the_picture_and_hard_in_the_label() -> None:
    roof = Layer((polygon(((1, 9), (10, 1), (19, 9)), RED),), label=26)
    drawn = render([GROUND, roof], width_px=20, height_px=10)
    assert set(np.unique(drawn.label)) == {10, 26}
    assert len(np.unique(drawn.image[:, :, 0])) > 4


def test_a_shadow_leaves_the_label_alone() -> None:
    shadow = Layer((as_shadow(rectangle((2, 2, 8, 8), (0, 0, 0)), 0.5),), label=26, instance=1)
    drawn = render([GROUND, shadow], width_px=20, height_px=10)
    assert set(np.unique(drawn.label)) == {10}
    assert not drawn.instances.any()
    assert drawn.image[4, 4, 1] == pytest.approx(100, abs=2)


def test_a_pole_has_no_class() -> None:
    pole = Layer((as_other(rectangle((2, 0, 4, 10), RED)),), label=150, instance=1)
    drawn = render([GROUND, pole], width_px=20, height_px=10)
    assert set(np.unique(drawn.label)) == {0, 10}
    assert not drawn.instances.any()


def test_mirroring_swaps_left_and_right_only() -> None:
    shape = place(ellipse((0.0, 0.2, 0.25, 1.0), RED), (10.0, 0.0, 30.0, 10.0), is_mirrored=True)
    assert shape.points == ((25.0, 2.0), (30.0, 10.0))


def test_too_many_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="256 layers"):
        render([GROUND] * 256, width_px=20, height_px=10)


def test_shades_stay_within_a_byte() -> None:
    assert scale_rgb((200, 100, 0), 2.0) == (255, 200, 0)
    assert mix_rgb((0, 0, 0), (200, 100, 50), share=0.5) == (100, 50, 25)
    rng = np.random.default_rng(0)
    shades = np.array([vary_rgb(rng, rgb, spread=0.5) for rgb in COLOURS.values() for _ in range(20)])
    assert shades.min() >= 0
    assert shades.max() <= 255
