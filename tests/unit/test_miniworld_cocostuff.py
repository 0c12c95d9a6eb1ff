"""The miniworld in COCO-Stuff's layout: every pixel by category, and scenes of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import miniworld.cocostuff
from downstream.formats.cocostuff import COCO_STUFF, UNUSED_IDS
from downstream.formats.segmentation import check_pairs, find_pairs, find_tree
from miniworld.cocostuff import CATEGORY_IDS, label_categories, write_cocostuff
from miniworld.concepts import CONCEPTS
from miniworld.layouts import SCENE_STREAMS, scene_seed
from miniworld.samples import FIRST_STREAM
from miniworld.scene import draw_scene

SIZE = {"width_px": 64, "height_px": 48}


def _write(root: Path, seed: int = 0, num_training: int = 3) -> Path:
    return write_cocostuff(root, seed=seed, num_training=num_training, num_validation=2, **SIZE)


def _contents(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("world"))


def test_files_are_named_as_in_the_real_set(tree: Path) -> None:
    stems = {"train2017": (9, 25, 41), "val2017": (139, 285)}
    named = [f"{split}/{number:012d}" for split, numbers in stems.items() for number in numbers]
    assert tree.name == "cocostuff"
    assert set(_contents(tree)) == {
        "miniworld.json",
        *(f"images/{name}.jpg" for name in named),
        *(f"annotations/{name}.png" for name in named),
    }


def test_the_reader_of_the_real_set_takes_it(tree: Path) -> None:
    assert find_tree(COCO_STUFF, tree.parent) == tree
    pairs = [find_pairs(COCO_STUFF, tree, split) for split in ("train", "val")]
    assert [len(found) for found in pairs] == [3, 2]
    assert len({check_pairs(COCO_STUFF, found) for found in pairs}) == 2


@pytest.mark.parametrize(("stream", "stem"), [("train", "train2017/000000000025"), ("val", "val2017/000000000285")])
def test_the_stored_label_is_the_drawn_one_and_the_picture_nearly(tree: Path, stream: str, stem: str) -> None:
    scene = draw_scene(scene_seed(0, f"cocostuff-{stream}", index=1), **SIZE)
    with Image.open(tree / f"images/{stem}.jpg") as image, Image.open(tree / f"annotations/{stem}.png") as label:
        assert (image.format, image.mode, label.format, label.mode) == ("JPEG", "RGB", "PNG", "L")
        np.testing.assert_array_equal(np.asarray(label), label_categories(scene))
        assert np.abs(np.asarray(image).astype(int) - scene.image).mean() < 6


def test_every_thing_and_every_ground_has_its_category_and_nothing_else_has_one() -> None:
    seen: set[int] = set()
    for index in range(30):
        scene = draw_scene(index, width_px=128, height_px=96)
        label = label_categories(scene)
        for thing in scene.things:
            assert set(np.unique(label[scene.instances == thing.instance])) == {CATEGORY_IDS[thing.name] - 1}
        np.testing.assert_array_equal(label == 255, (scene.label == 0) & (scene.instances == 0))
        seen |= set(np.unique(label).tolist())
    assert seen == {*(number - 1 for number in CATEGORY_IDS.values()), 255}


def test_categories_are_distinct_classes_that_are_called_as_what_is_drawn() -> None:
    from downstream.engines.openmmlab.segmentation import class_names

    names = class_names(COCO_STUFF)
    others = {"sky": "sky-other", "tower": "skyscraper", "streetlight": "light", "flag": "banner"}
    found = {name: names[COCO_STUFF.values.index(number - 1)] for name, number in CATEGORY_IDS.items()}
    assert found == {concept.name: others.get(concept.name, concept.name) for concept in CONCEPTS}
    assert not set(CATEGORY_IDS.values()) & set(UNUSED_IDS)
    assert len(set(CATEGORY_IDS.values())) == len(CATEGORY_IDS)


def test_no_scene_is_drawn_for_two_splits_or_two_data_sets() -> None:
    seeds = [scene_seed(seed, split, index=index) for seed in (0, 1) for split in SCENE_STREAMS for index in range(300)]
    assert len(set(seeds)) == len(seeds)
    assert len(SCENE_STREAMS) < FIRST_STREAM, "beyond it lie the streams of the other benchmarks"


def test_the_seed_alone_decides_and_more_scenes_leave_the_first_ones_alone(tree: Path, tmp_path: Path) -> None:
    again, more, other = (_write(tmp_path / name, **options) for name, options in OPTIONS.items())
    assert _contents(again) == _contents(tree)
    pictures = {name: content for name, content in _contents(tree).items() if name.endswith((".jpg", ".png"))}
    assert pictures.items() <= _contents(more).items()
    assert not set(pictures.values()) & set(_contents(other).values())


OPTIONS: dict[str, dict[str, int]] = {"again": {}, "more": {"num_training": 5}, "other": {"seed": 1}}


def test_a_complete_tree_is_reused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniworld.cocostuff, "draw_scene", None)
    assert _write(tree.parent) == tree


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"num_training": 0}, "num_training is 0"),
        ({"num_validation": 0}, "num_validation is 0"),
        ({"width_px": 20}, "20x96"),
    ],
)
def test_impossible_orders_write_nothing(tmp_path: Path, options: dict[str, int], message: str) -> None:
    write: Callable[..., Path] = write_cocostuff
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
