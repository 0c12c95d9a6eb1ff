"""The preview shows each class in a colour of its own."""

import numpy as np
import pytest

from miniworld.concepts import CONCEPTS
from miniworld.preview import colour_label, draw_preview
from miniworld.scene import draw_scene


def test_no_two_classes_share_a_colour() -> None:
    numbers = sorted({0} | {concept.ade20k_number for concept in CONCEPTS})
    colours = colour_label(np.array([numbers], dtype=np.uint8))[0]
    assert len({tuple(colour) for colour in colours.tolist()}) == len(numbers)


def test_a_sheet_holds_every_scene_beside_its_label() -> None:
    scenes = [draw_scene(seed, width_px=64, height_px=48) for seed in range(3)]
    sheet = np.asarray(draw_preview(scenes, num_columns=2, zoom=1))
    np.testing.assert_array_equal(sheet[6:54, 6:70], scenes[0].image)
    np.testing.assert_array_equal(sheet[60:108, 70:134], colour_label(scenes[2].label))


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one scene"):
        draw_preview([])
