"""A scene follows from its seed, and its picture, label, instances and things agree."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniworld.concepts import CONCEPTS, find_concept
from miniworld.layouts import scene_seed
from miniworld.scene import Scene, draw_scene

KNOWN_NUMBERS = {0} | {concept.ade20k_number for concept in CONCEPTS}
SEEDS = st.integers(0, 2**64 - 1)
SIDES = st.integers(48, 112)
FEW = settings(max_examples=8, deadline=None, derandomize=True)


@functools.cache
def _scene(seed: int) -> Scene:
    return draw_scene(seed, width_px=80, height_px=56)


def test_same_seed_gives_the_same_bytes() -> None:
    first, second = (draw_scene(7, width_px=80, height_px=56) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert first.label.tobytes() == second.label.tobytes()
    assert first.instances.tobytes() == second.instances.tobytes()
    assert first.things == second.things


def test_other_seeds_give_other_pictures() -> None:
    assert len({_scene(seed).image.tobytes() for seed in range(6)}) == 6


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002 - the global state is what is asked about
    draw_scene(3, width_px=80, height_px=56)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


@FEW
@given(seed=SEEDS, width_px=SIDES, height_px=SIDES)
def test_picture_and_label_agree_in_size_at_any_size(seed: int, width_px: int, height_px: int) -> None:
    scene = draw_scene(seed, width_px=width_px, height_px=height_px)
    assert scene.image.shape == (height_px, width_px, 3)
    assert scene.label.shape == scene.instances.shape == (height_px, width_px)
    assert scene.image.dtype == scene.label.dtype == scene.instances.dtype == np.uint8


@FEW
@given(seed=SEEDS)
def test_labels_hold_only_known_classes(seed: int) -> None:
    assert set(np.unique(_scene(seed).label).tolist()) <= KNOWN_NUMBERS


@FEW
@given(seed=SEEDS)
def test_boxes_cover_exactly_the_visible_pixels(seed: int) -> None:
    scene = _scene(seed)
    for thing in scene.things:
        mask = scene.instances == thing.instance
        x0, y0, x1, y1 = thing.box_px
        assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
        assert mask[y0:y1, [x0, x1 - 1]].any(axis=0).all()
        assert mask[[y0, y1 - 1], x0:x1].any(axis=1).all()


@FEW
@given(seed=SEEDS)
def test_instances_are_numbered_like_the_things_and_carry_their_class(seed: int) -> None:
    scene = _scene(seed)
    assert [thing.instance for thing in scene.things] == list(range(1, len(scene.things) + 1))
    assert set(np.unique(scene.instances).tolist()) == {0} | {thing.instance for thing in scene.things}
    for thing in scene.things:
        concept = find_concept(thing.name)
        assert set(np.unique(scene.label[scene.instances == thing.instance])) == {concept.ade20k_number}
        assert thing.colour in concept.colours


def test_a_picture_shows_the_same_scene_at_any_scale() -> None:
    small = draw_scene(11, width_px=64, height_px=48)
    large = draw_scene(11, width_px=128, height_px=96)
    assert (large.label[1::2, 1::2] == small.label).mean() > 0.9


def test_every_class_occurs_in_a_default_validation_set() -> None:
    counts = np.zeros(256, dtype=int)
    for index in range(32):
        scene = draw_scene(scene_seed(0, "validation", index=index), width_px=64, height_px=48)
        counts[np.unique(scene.label)] += 1
    assert {number: counts[number] for number in KNOWN_NUMBERS if counts[number] < 8} == {}


@pytest.mark.parametrize(
    ("seed", "width_px", "height_px", "message"),
    [(-1, 64, 48, "seed is -1"), (0, 47, 48, "47x48"), (0, 64, 8, "64x8")],
)
def test_impossible_orders_are_refused(seed: int, width_px: int, height_px: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_scene(seed, width_px=width_px, height_px=height_px)
