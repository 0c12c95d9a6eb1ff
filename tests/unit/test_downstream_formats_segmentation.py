"""Pictures and labels on disk are sound, or the first bad file is named in one line; both data sets by one reader."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from downstream.formats.ade20k import ADE20K
from downstream.formats.base import MissingDataError
from downstream.formats.segmentation import (
    IGNORED,
    check_pairs,
    class_table,
    find_pairs,
    find_tree,
    read_classes,
    write_classes,
)

WIDTH, HEIGHT = 13, 7
STEMS = ("ADE_val_00000001", "ADE_val_00000002", "ADE_val_00000010")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three validation pictures with labels, as unpacked from the published archive."""
    root = tmp_path / "ADEChallengeData2016"
    for folder in ("images", "annotations"):
        (root / folder / "validation").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, stem in enumerate(STEMS):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / "validation" / f"{stem}.jpg")
        save_label(root, stem, np.full((HEIGHT, WIDTH), 150 - number, dtype=np.uint8))
    return root


def save_label(tree: Path, stem: str, label: np.ndarray) -> None:
    Image.fromarray(label).save(label_path(tree, stem))


def image_path(tree: Path, stem: str) -> Path:
    return tree / "images" / "validation" / f"{stem}.jpg"


def label_path(tree: Path, stem: str) -> Path:
    return tree / "annotations" / "validation" / f"{stem}.png"


def one_line(caught: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("is_inside", [False, True])
def test_the_tree_is_found_at_or_below_the_named_folder(tree: Path, is_inside: bool) -> None:
    assert find_tree(ADE20K, tree if is_inside else tree.parent) == tree


def test_pairs_stand_in_the_order_of_their_names(tree: Path) -> None:
    pairs = find_pairs(ADE20K, tree, "val")
    assert [pair.id for pair in pairs] == list(STEMS)
    assert [pair.label.stem for pair in pairs] == list(STEMS)


def test_upper_case_extensions_and_other_files_do_no_harm(tree: Path) -> None:
    image_path(tree, STEMS[0]).rename(tree / "images" / "validation" / f"{STEMS[0]}.JPG")
    (tree / "images" / "validation" / "Thumbs.db").touch()
    assert len(find_pairs(ADE20K, tree, "val")) == 3


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_folder_without_the_data_set_is_missing_data(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingDataError) as caught:
        find_tree(ADE20K, tmp_path / name)
    assert "no ADE20K in" in one_line(caught)
    assert issubclass(MissingDataError, FileNotFoundError)


@pytest.mark.parametrize("folder", ["images", "annotations"])
def test_a_missing_folder_is_named(tree: Path, folder: str) -> None:
    shutil.rmtree(tree / folder / "validation")
    with pytest.raises(MissingDataError) as caught:
        find_pairs(ADE20K, tree, "val")
    assert f"{tree / folder / 'validation'} is missing" in one_line(caught)


@pytest.mark.parametrize(("folder", "extension"), [("images", ".jpg"), ("annotations", ".png")])
def test_an_empty_folder_is_named(tree: Path, folder: str, extension: str) -> None:
    for path in (tree / folder / "validation").iterdir():
        path.unlink()
    with pytest.raises(MissingDataError) as caught:
        find_pairs(ADE20K, tree, "val")
    assert f"{tree / folder / 'validation'} holds no {extension} files" in one_line(caught)


@pytest.mark.parametrize(
    ("find", "what"), [(label_path, "has no label"), (image_path, "has no picture")], ids=["label", "picture"]
)
def test_a_file_without_partner_is_named(tree: Path, find: Callable[[Path, str], Path], what: str) -> None:
    find(tree, STEMS[1]).unlink()
    with pytest.raises(MissingDataError) as caught:
        find_pairs(ADE20K, tree, "val")
    assert f"{STEMS[1]} {what}: {find(tree, STEMS[1])}" in one_line(caught)


def refused(tree: Path, path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        check_pairs(ADE20K, find_pairs(ADE20K, tree, "val"))
    assert not isinstance(caught.value, FileNotFoundError)
    return one_line(caught)


@pytest.mark.parametrize("find", [image_path, label_path], ids=["picture", "label"])
def test_an_empty_file_is_named(tree: Path, find: Callable[[Path, str], Path]) -> None:
    path = find(tree, STEMS[2])
    path.write_bytes(b"")
    assert "is not a readable picture" in refused(tree, path)


def test_bytes_that_are_no_picture_are_named(tree: Path) -> None:
    image_path(tree, STEMS[0]).write_text("<html>404</html>")
    assert "fetch it again" in refused(tree, image_path(tree, STEMS[0]))


def test_a_label_of_another_size_is_named_with_both_sizes(tree: Path) -> None:
    save_label(tree, STEMS[1], np.zeros((HEIGHT + 1, WIDTH), dtype=np.uint8))
    message = refused(tree, label_path(tree, STEMS[1]))
    assert f"is {WIDTH} x {HEIGHT + 1} pixels, its picture {WIDTH} x {HEIGHT}" in message


@pytest.mark.parametrize(("value", "dtype"), [(151, np.uint8), (255, np.uint8), (2000, np.uint16)])
def test_a_label_above_the_last_class_is_named_with_its_value(tree: Path, value: int, dtype: type) -> None:
    label = np.zeros((HEIGHT, WIDTH), dtype=dtype)
    label[3, 5] = value
    save_label(tree, STEMS[0], label)
    assert f"holds the value {value}, expected 0 to 150" in refused(tree, label_path(tree, STEMS[0]))


@pytest.mark.parametrize("channels", [3, 4])
def test_a_coloured_label_is_named(tree: Path, channels: int) -> None:
    save_label(tree, STEMS[0], np.zeros((HEIGHT, WIDTH, channels), dtype=np.uint8))
    assert "expected one 8-bit channel" in refused(tree, label_path(tree, STEMS[0]))


def test_the_digest_follows_contents_and_names_only(tree: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "ADEChallengeData2016"
    shutil.copytree(tree, moved)
    digest = check_pairs(ADE20K, find_pairs(ADE20K, tree, "val"))
    assert digest == check_pairs(ADE20K, find_pairs(ADE20K, moved, "val"))
    assert digest == check_pairs(ADE20K, find_pairs(ADE20K, tree, "val"), num_threads=1)
    save_label(moved, STEMS[0], np.ones((HEIGHT, WIDTH), dtype=np.uint8))
    assert digest != check_pairs(ADE20K, find_pairs(ADE20K, moved, "val"))
    assert digest != check_pairs(ADE20K, find_pairs(ADE20K, tree, "val")[:2])


def test_genuine_pieces_of_the_data_set_are_sound(samples_dir: Path) -> None:
    try:
        tree = find_tree(ADE20K, samples_dir / "ade20k")
        pairs = find_pairs(ADE20K, tree, "val")
    except MissingDataError as error:
        pytest.skip(f"{error} (.ci/run beside ../shared has it)")
    assert len(check_pairs(ADE20K, pairs[:3])) == 64


def test_a_label_that_is_no_png_inside_is_named(tree: Path) -> None:
    Image.new("L", (WIDTH, HEIGHT)).save(label_path(tree, STEMS[1]), format="JPEG")
    assert "is JPEG inside, expected PNG" in refused(tree, label_path(tree, STEMS[1]))


def test_other_is_ignored_and_classes_start_at_zero(tree: Path, tmp_path: Path) -> None:
    values = np.array([[0, 1, 149], [150, 7, 0]], dtype=np.uint8)
    save_label(tree, STEMS[0], values)
    classes = read_classes(ADE20K, find_pairs(ADE20K, tree, "val")[0])
    np.testing.assert_array_equal(classes, [[IGNORED, 0, 148], [149, 6, IGNORED]])
    assert (class_table(ADE20K) != IGNORED).sum() == ADE20K.num_classes == 150
    write_classes(ADE20K, classes[1:, :2], tmp_path / "written.png")
    with Image.open(tmp_path / "written.png") as file:
        np.testing.assert_array_equal(np.array(file), values[1:, :2])


@pytest.mark.parametrize("find", [image_path, label_path], ids=["picture", "label"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_half_transferred_file_is_named(tree: Path, find: Callable[[Path, str], Path], share: float) -> None:
    path, rng = find(tree, STEMS[2]), np.random.default_rng(1)
    shape = (200, 300) if find is label_path else (200, 300, 3)
    Image.fromarray(rng.integers(0, 150, shape, dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "is not a readable picture" in refused(tree, path)
