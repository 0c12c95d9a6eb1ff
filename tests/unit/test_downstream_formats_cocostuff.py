"""COCO-Stuff on disk is read as MMSegmentation counts its classes, or the first bad file is named in one line."""

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from downstream.config import load_task_config
from downstream.formats.base import MissingDataError
from downstream.formats.cocostuff import COCO_STUFF, UNUSED_IDS
from downstream.formats.segmentation import (
    IGNORED,
    check_pairs,
    class_table,
    find_pairs,
    find_tree,
    read_classes,
    write_classes,
)

WIDTH, HEIGHT = 11, 6
STEMS = ("000000000139", "000000000285", "000000581781")
LABEL = np.array([[0, 10, 12, 90 - 1, 92 - 1, 181], [255, 64, 66, 180, 0, 255]], dtype=np.uint8)
NUMBERS = np.array([[0, 10, 11, 79, 80, 170], [IGNORED, 59, 60, 169, 0, IGNORED]], dtype=np.uint8)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three validation pictures with labels, as unpacked from the published archives."""
    root = tmp_path / "cocostuff"
    for folder in ("images", "annotations"):
        (root / folder / "val2017").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for stem in STEMS:
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(image_path(root, stem))
        Image.fromarray(rng.choice([0, 17, 181, 255], (HEIGHT, WIDTH)).astype(np.uint8)).save(label_path(root, stem))
    return root


def image_path(tree: Path, stem: str) -> Path:
    return tree / "images" / "val2017" / f"{stem}.jpg"


def label_path(tree: Path, stem: str) -> Path:
    return tree / "annotations" / "val2017" / f"{stem}.png"


def test_values_stand_in_the_order_in_which_mmsegmentation_numbers_them() -> None:
    spec = importlib.util.find_spec("mmseg")
    assert spec is not None
    assert spec.origin is not None
    script = Path(spec.origin).parent / ".mim" / "tools" / "dataset_converters" / "coco_stuff164k.py"
    assigned = next(
        node.value
        for node in ast.parse(script.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "clsID_to_trID"
    )
    theirs = ast.literal_eval(assigned)
    table = class_table(COCO_STUFF)
    assert {value: int(table[value]) for value in theirs} == theirs
    assert {value for value in range(256) if table[value] != IGNORED} == theirs.keys() - {255}
    assert COCO_STUFF.num_classes == load_task_config("cocostuff").dataset.num_classes == 171


def test_eleven_ids_are_no_class() -> None:
    assert len(UNUSED_IDS) == 182 - 171
    assert all(class_table(COCO_STUFF)[number - 1] == IGNORED for number in UNUSED_IDS)


def test_labels_are_numbered_and_written_back(tree: Path, tmp_path: Path) -> None:
    Image.fromarray(LABEL).save(label_path(tree, STEMS[0]))
    classes = read_classes(COCO_STUFF, find_pairs(COCO_STUFF, tree, "val")[0])
    np.testing.assert_array_equal(classes, NUMBERS)
    write_classes(COCO_STUFF, NUMBERS[:1], tmp_path / "written.png")
    with Image.open(tmp_path / "written.png") as file:
        np.testing.assert_array_equal(np.array(file), LABEL[:1])


@pytest.mark.parametrize("folder", ["", "cocostuff", "coco_stuff164k"])
def test_the_tree_is_found_at_or_below_the_named_folder(tree: Path, folder: str) -> None:
    own = tree.rename(tree.parent / folder) if folder else tree
    assert find_tree(COCO_STUFF, own.parent if folder else own) == own


def test_pairs_stand_in_the_order_of_their_names(tree: Path) -> None:
    pairs = find_pairs(COCO_STUFF, tree, "val")
    assert [(pair.id, pair.image, pair.label) for pair in pairs] == [
        (stem, image_path(tree, stem), label_path(tree, stem)) for stem in STEMS
    ]


def test_labels_that_a_converter_left_beside_the_published_ones_do_no_harm(tree: Path) -> None:
    for stem in STEMS:
        (tree / "annotations" / "val2017" / f"{stem}_labelTrainIds.png").touch()
    assert [pair.label.stem for pair in find_pairs(COCO_STUFF, tree, "val")] == list(STEMS)


@pytest.mark.parametrize("find", [label_path, image_path], ids=["label", "picture"])
def test_a_file_without_partner_is_missing_data(tree: Path, find: Callable[[Path, str], Path]) -> None:
    find(tree, STEMS[1]).unlink()
    with pytest.raises(MissingDataError, match=f"{STEMS[1]} has no .*{find(tree, STEMS[1]).name}") as caught:
        find_pairs(COCO_STUFF, tree, "val")
    assert "\n" not in str(caught.value)


def test_what_to_unpack_is_said_by_folder(tree: Path) -> None:
    with pytest.raises(MissingDataError, match=r"images/train2017 is missing; unpack train2017\.zip and val2017\.zip"):
        find_pairs(COCO_STUFF, tree, "train")
    (tree / "images" / "train2017").mkdir()
    (tree / "images" / "train2017" / f"{STEMS[0]}.jpg").touch()
    with pytest.raises(MissingDataError, match=r"annotations/train2017 is missing; unpack stuffthingmaps_trainval2017"):
        find_pairs(COCO_STUFF, tree, "train")


@pytest.mark.parametrize("value", [11, 90, 182, 254])
def test_a_value_that_is_no_class_is_named(tree: Path, value: int) -> None:
    label = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    label[2, 3] = value
    Image.fromarray(label).save(label_path(tree, STEMS[2]))
    with pytest.raises(ValueError, match=f"{STEMS[2]}.png holds the value {value}, expected ") as caught:
        check_pairs(COCO_STUFF, find_pairs(COCO_STUFF, tree, "val"))
    known = "0 to 10, 12 to 24, 26 to 27, 30 to 43, 45 to 64, 66, 69, 71 to 81, 83 to 89, 91 to 181, 255"
    assert str(caught.value).endswith(f"expected {known}")


def test_a_label_that_is_no_png_inside_is_named(tree: Path) -> None:
    Image.new("L", (WIDTH, HEIGHT)).save(label_path(tree, STEMS[0]), format="JPEG")
    with pytest.raises(ValueError, match=f"{STEMS[0]}.png is JPEG inside, expected PNG"):
        check_pairs(COCO_STUFF, find_pairs(COCO_STUFF, tree, "val"))


def test_a_label_of_another_size_is_named(tree: Path) -> None:
    Image.new("L", (WIDTH + 1, HEIGHT)).save(label_path(tree, STEMS[0]))
    with pytest.raises(ValueError, match=f"is {WIDTH + 1} x {HEIGHT} pixels, its picture {WIDTH} x {HEIGHT}"):
        check_pairs(COCO_STUFF, find_pairs(COCO_STUFF, tree, "val"))


def test_genuine_pieces_of_the_data_set_are_sound(samples_dir: Path) -> None:
    try:
        tree = find_tree(COCO_STUFF, samples_dir)
        pairs = {split: find_pairs(COCO_STUFF, tree, split) for split in COCO_STUFF.splits}
    except MissingDataError as error:
        pytest.skip(f"{error} (.ci/run beside ../shared has it)")
    assert {split: len(found) for split, found in pairs.items()} == {"train": 6, "val": 5}
    assert len(check_pairs(COCO_STUFF, (*pairs["train"], *pairs["val"]))) == 64
    shown = read_classes(COCO_STUFF, pairs["val"][0])  # a living room
    assert {0, 56, 62} <= set(np.unique(shown).tolist()), "person, chair, tv"
