"""COCO's detection files are read whole, and every fault in them is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from downstream.formats.base import MissingDataError
from downstream.formats.coco_detection import check_pictures, find_split, find_tree, read_instances
from miniworld.coco_detection import write_coco_detection

LIST = "annotations/instances_val2017.json"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_coco_detection(tmp_path, num_training=1, num_validation=3, width_px=64, height_px=48)


def test_a_split_is_read_with_its_things(tree: Path) -> None:
    instances = read_instances(tree, "val")
    content = json.loads((tree / LIST).read_text())
    assert [picture.id for picture in instances.pictures] == sorted(image["id"] for image in content["images"])
    assert all(picture.image.name == f"{picture.id:012d}.jpg" for picture in instances.pictures)
    assert sum(map(len, instances.annotations.values())) == len(content["annotations"])
    assert list(instances.categories) == sorted(instances.categories)
    assert len(check_pictures(instances.pictures)) == 64
    first = instances.select(instances.pictures[:1])
    assert {one["image_id"] for one in first["annotations"]} == {instances.pictures[0].id}
    assert len(first["categories"]) == len(instances.categories)


def test_genuine_files_are_read(samples_dir: Path) -> None:
    instances = read_instances(find_tree(samples_dir / "mscoco2017"), "val")
    assert (len(instances.pictures), sum(map(len, instances.annotations.values()))) == (30, 226)
    assert (len(instances.categories), max(instances.categories)) == (80, 90)
    assert len(check_pictures(instances.pictures)) == 64


def test_the_folder_may_be_named_or_the_one_above(tree: Path) -> None:
    above = tree.parent / "above"
    above.mkdir()
    (above / "coco").symlink_to(tree)
    assert find_tree(tree) == tree
    assert find_tree(above) == above / "coco"
    with pytest.raises(MissingDataError, match="no COCO in"):
        find_tree(tree / "val2017")


def test_what_is_missing_is_named_with_what_to_unpack(tree: Path) -> None:
    (tree / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(MissingDataError, match=r"annotations_trainval2017\.zip"):
        find_split(tree, "train")
    read_instances(tree, "val").pictures[1].image.unlink()
    with pytest.raises(MissingDataError, match=r"is missing; .*image \d lists it"):
        read_instances(tree, "val")


def _first(content: dict[str, Any], **changes: Any) -> None:
    content["annotations"][0].update(changes)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no categories": (lambda c: c.pop("categories"), "no 'categories'"),
    "a category twice": (lambda c: c["categories"].append(c["categories"][0]), "stands there twice"),
    "an image twice": (lambda c: c["images"].append(c["images"][0]), "that of another image already"),
    "a path": (lambda c: c["images"][0].update(file_name="../x.jpg"), "a name without folders"),
    "no width": (lambda c: c["images"][0].update(width=0), "expected at least one"),
    "an annotation twice": (lambda c: c["annotations"].append(c["annotations"][0]), "another annotation already"),
    "an unknown image": (lambda c: _first(c, image_id=7), "no image of the file"),
    "an unknown category": (lambda c: _first(c, category_id=99), "no category of the file"),
    "a box of three": (lambda c: _first(c, bbox=[1, 2, 3]), "expected 4 numbers"),
    "a box outside": (lambda c: _first(c, bbox=[60.0, 1.0, 30.0, 5.0]), "none inside 64 x 48 pixels"),
    "a negative box": (lambda c: _first(c, bbox=[6.0, 1.0, -3.0, 5.0]), "none inside 64 x 48 pixels"),
    "no area": (lambda c: _first(c, area=None), "area is None, expected 1 number"),
    "a crowd of two": (lambda c: _first(c, iscrowd=2), "from 0 to 1"),
    "a crowd of polygons": (lambda c: _first(c, iscrowd=1), "as every crowd has"),
    "no outline": (lambda c: _first(c, segmentation=[]), "expected polygons or runs"),
    "a polygon of five": (lambda c: _first(c, segmentation=[[1, 2, 3, 4, 5]]), "a polygon of 5 numbers"),
    "a polygon of words": (lambda c: _first(c, segmentation=[["a"] * 6]), "expected numbers"),
    "runs of another size": (lambda c: _first(c, segmentation={"size": [1, 2], "counts": "x"}), r"\[48, 64\]"),
    "runs too short": (lambda c: _first(c, segmentation={"size": [48, 64], "counts": [5]}), "runs over 5 pixels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_names_the_list(tree: Path, fault: str) -> None:
    plant, message = FAULTS[fault]
    content = json.loads((tree / LIST).read_text())
    plant(content)
    (tree / LIST).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_instances(tree, "val")
    assert "\n" not in str(caught.value)
    assert "instances_val2017.json" in str(caught.value)


def test_a_torn_list_is_one_line(tree: Path) -> None:
    (tree / LIST).write_text((tree / LIST).read_text()[:-40])
    with pytest.raises(ValueError, match="no json") as caught:
        read_instances(tree, "val")
    assert "\n" not in str(caught.value)


def test_a_picture_that_is_torn_or_of_another_size_is_named(tree: Path) -> None:
    first, second = read_instances(tree, "val").pictures[:2]
    content = first.image.read_bytes()
    first.image.write_bytes(content[:-300])
    with pytest.raises(ValueError, match=f"{first.image.name} is not a readable picture"):
        check_pictures([first])
    first.image.write_bytes(content)
    content_list = json.loads((tree / LIST).read_text())
    next(image for image in content_list["images"] if image["id"] == second.id).update(width=65)
    for one in content_list["annotations"]:
        one["segmentation"] = [[0, 0, 1, 0, 1, 1]]
        one["iscrowd"] = 0
    (tree / LIST).write_text(json.dumps(content_list))
    with pytest.raises(ValueError, match="64 x 48 pixels, the list says 65 x 48"):
        check_pictures(read_instances(tree, "val").pictures)
