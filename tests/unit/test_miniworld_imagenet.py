"""ImageNet's layout: every picture lies in the folder of the one thing that it shows."""

import re
from pathlib import Path

import pytest
from PIL import Image

from miniworld.concepts import THINGS
from miniworld.imagenet import EVERY_GREY, NAMES, WNIDS, draw_single_thing, name_picture, write_imagenet
from miniworld.samples import encode_picture


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_imagenet(tmp_path_factory.mktemp("world"), train_per_class=2, val_per_class=1)


def test_the_mapping_lists_a_class_for_every_thing_in_ascending_order(tree: Path) -> None:
    lines = [line.split(" ", 1) for line in (tree / "LOC_synset_mapping.txt").read_text().splitlines()]
    wnids = [wnid for wnid, _ in lines]
    assert wnids == sorted(set(wnids))
    assert all(re.fullmatch(r"n0\d{7}", wnid) for wnid in wnids)
    assert [names.split(",")[0] for _, names in lines] == list(NAMES)
    assert set(NAMES) == {concept.name for concept in THINGS}


@pytest.mark.parametrize(("split", "per_class"), [("train", 2), ("val", 1)])
def test_every_class_has_as_many_pictures_as_asked_for(tree: Path, split: str, per_class: int) -> None:
    folders = {folder.name: list(folder.iterdir()) for folder in (tree / split).iterdir()}
    assert {wnid: len(files) for wnid, files in folders.items()} == dict.fromkeys(WNIDS.values(), per_class)
    pattern = r"{}_\d+\.JPEG" if split == "train" else r"ILSVRC2012_val_\d{{8}}\.JPEG"
    for wnid, files in folders.items():
        assert all(re.fullmatch(pattern.format(wnid), file.name) for file in files)


def test_numbers_of_validation_pictures_are_each_used_once(tree: Path) -> None:
    numbers = [int(path.stem.split("_")[-1]) for path in (tree / "val").rglob("*.JPEG")]
    assert sorted(numbers) == list(range(1, 16))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_picture_shows_its_class_and_nothing_else(tree: Path, split: str) -> None:
    for index in range(15):
        name, scene = draw_single_thing(0, split, index=index)
        assert [thing.name for thing in scene.things] == [name]
        path = tree / name_picture(split, index=index)
        assert path.parent.name == WNIDS[name]
        assert path.read_bytes() == encode_picture(scene.image)


def test_pictures_are_small_and_a_few_are_grey(tree: Path) -> None:
    modes = []
    for path in tree.rglob("*.JPEG"):
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (72, 72))
            modes.append(image.mode)
    assert set(modes) == {"RGB", "L"}
    assert modes.count("L") == 30 // EVERY_GREY
