"""The miniworld in COCO's detection layout marks exactly the pixels that it drew."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as packed

from miniworld.cli import main
from miniworld.coco_detection import MIX, Mask, outline, to_runs, write_coco_detection
from miniworld.pairs import draw_pair_scene
from miniworld.samples import STREAMS, pair_seed

# pycocotools' own, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SMALL = {"num_training": 6, "num_validation": 2}


def _decode(segmentation: object, height: int, width: int) -> Mask:
    runs = packed.frPyObjects(segmentation, height, width)
    mask: Mask = packed.decode(packed.merge(runs) if isinstance(runs, list) else runs).astype(bool)
    return mask


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco_detection(tmp_path_factory.mktemp("world"), **SMALL)


def test_same_arguments_give_the_same_bytes_and_another_seed_others(tree: Path, tmp_path: Path) -> None:
    again = write_coco_detection(tmp_path / "again", **SMALL)
    files = [path.relative_to(tree) for path in tree.rglob("*") if path.is_file()]
    assert len(files) == 6 + 2 + 2 + 1
    assert all((again / file).read_bytes() == (tree / file).read_bytes() for file in files)
    other = write_coco_detection(tmp_path / "other", seed=1, **SMALL)
    assert not {path.read_bytes() for path in tree.rglob("*.jpg")} & {
        path.read_bytes() for path in other.rglob("*.jpg")
    }


@pytest.mark.parametrize("split", ["train", "val"])
def test_outlines_and_boxes_are_those_of_what_was_drawn(tree: Path, split: str) -> None:
    content = json.loads((tree / "annotations" / f"instances_{split}2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for index, image in enumerate(content["images"]):
        with Image.open(tree / f"{split}2017" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (128, 96)
        seed = pair_seed(0, f"coco_detection-{split}", index=index)
        scene = draw_pair_scene(seed, width_px=128, height_px=96, mix=MIX)
        marked = [one for one in content["annotations"] if one["image_id"] == image["id"] and not one["iscrowd"]]
        assert [names[one["category_id"]] for one in marked] == [thing.name for thing in scene.things]
        for one, thing in zip(marked, scene.things, strict=True):
            mask = _decode(one["segmentation"], 96, 128)
            assert (mask == (scene.instances == thing.instance)).all()
            left, top, width, height = one["bbox"]
            assert (left, top, left + width, top + height) == thing.box_px
            assert one["area"] == mask.sum()


def test_three_of_a_kind_are_a_crowd_besides(tmp_path: Path) -> None:
    tree = write_coco_detection(tmp_path, num_training=60, num_validation=1, width_px=48, height_px=48)
    annotations = json.loads((tree / "annotations" / "instances_train2017.json").read_text())["annotations"]
    crowds = [one for one in annotations if one["iscrowd"]]
    assert crowds
    for crowd in crowds:
        members = [
            one
            for one in annotations
            if not one["iscrowd"] and (one["image_id"], one["category_id"]) == (crowd["image_id"], crowd["category_id"])
        ]
        assert len(members) == 3
        together = np.any([_decode(one["segmentation"], 48, 48) for one in members], axis=0)
        assert (_decode(crowd["segmentation"], 48, 48) == together).all()
    assert len({one["id"] for one in annotations}) == len(annotations)


@pytest.mark.parametrize("kind", ["noise", "full", "corner"])
def test_any_mask_comes_back_out_of_its_outline_and_of_its_runs(kind: str) -> None:
    mask = np.random.default_rng(0).random((9, 13)) < 0.5
    if kind != "noise":
        mask[:] = kind == "full"
        mask[0, 0] = True
    assert (_decode(outline(mask), 9, 13) == mask).all()
    assert (_decode(to_runs(mask), 9, 13) == mask).all()


def test_its_samples_are_of_streams_of_their_own_at_the_end() -> None:
    assert STREAMS[-2:] == ("coco_detection-train", "coco_detection-val")


def test_the_command_line_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--training", "1", "--validation", "1", "--size", "64x48"]
    assert main([str(tmp_path), "--layout", "coco_detection", *small]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'coco_detection'}\n"
    assert main([str(tmp_path / "x"), "--layout", "coco_detection", "--preview", "sheet.png"]) == 2
