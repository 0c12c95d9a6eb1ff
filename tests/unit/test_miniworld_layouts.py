"""What lies on disk is the real data set's layout, and is there whole or not at all."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import miniworld.layouts
from miniworld.layouts import scene_seed, write_ade20k
from miniworld.scene import Scene, draw_scene

SPLITS = {"training": "train", "validation": "val"}


def _write(root: Path, seed: int = 0, num_training: int = 3) -> Path:
    return write_ade20k(root, seed=seed, num_training=num_training, num_validation=2, width_px=64, height_px=48)


def _contents(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("world"))


def test_files_are_named_as_in_the_real_set(tree: Path) -> None:
    expected = {"objectInfo150.txt", "sceneCategories.txt", "miniworld.json"}
    for split, numbers in (("training", (1, 2, 3)), ("validation", (1, 2))):
        stems = [f"ADE_{SPLITS[split]}_{number:08d}" for number in numbers]
        expected |= {f"images/{split}/{stem}.jpg" for stem in stems}
        expected |= {f"annotations/{split}/{stem}.png" for stem in stems}
    assert tree.name == "ADEChallengeData2016"
    assert set(_contents(tree)) == expected


def test_pictures_are_colour_jpegs_and_labels_are_bytes_of_the_same_size(tree: Path) -> None:
    for path in sorted((tree / "images").rglob("*.jpg")):
        with Image.open(path) as image, Image.open(_label_of(path)) as label:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 48))
            assert (label.format, label.mode, label.size) == ("PNG", "L", (64, 48))


def test_the_stored_label_is_the_drawn_one_and_the_picture_nearly(tree: Path) -> None:
    scene = draw_scene(scene_seed(0, "validation", index=1), width_px=64, height_px=48)
    path = tree / "images/validation/ADE_val_00000002.jpg"
    with Image.open(path) as image, Image.open(_label_of(path)) as label:
        np.testing.assert_array_equal(np.asarray(label), scene.label)
        assert np.abs(np.asarray(image).astype(int) - scene.image).mean() < 3


def test_object_info_lists_150_classes_with_this_worlds_counts(tree: Path) -> None:
    header, *rows = [line.split("\t") for line in (tree / "objectInfo150.txt").read_text().splitlines()]
    assert header == ["Idx", "Ratio", "Train", "Val", "Name"]
    assert [int(row[0]) for row in rows] == list(range(1, 151))
    assert rows[2][2:] == ["3", "2", "sky"]
    assert rows[0] == ["1", "0.0000", "0", "0", "wall"]
    assert 0.8 < sum(float(row[1]) for row in rows) <= 1.0


def test_every_picture_has_a_scene_category(tree: Path) -> None:
    lines = [line.split(" ") for line in (tree / "sceneCategories.txt").read_text().splitlines()]
    assert [stem for stem, _ in lines] == [path.stem for path in sorted((tree / "images").rglob("*.jpg"))]
    assert {category for _, category in lines} <= {"coast", "street", "mountain", "pasture"}


def test_the_manifest_digest_covers_all_names_and_contents(tree: Path) -> None:
    contents = _contents(tree)
    manifest = json.loads(contents.pop("miniworld.json"))
    listing = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(contents.items()))
    assert manifest["sha256"] == hashlib.sha256(listing.encode()).hexdigest()
    assert manifest["num_files"] == len(contents)


def test_same_seed_gives_the_same_tree(tree: Path, tmp_path: Path) -> None:
    assert _contents(_write(tmp_path)) == _contents(tree)


def test_training_and_validation_do_not_share_scenes() -> None:
    seeds = [scene_seed(seed, split, index=index) for seed in (0, 1) for split in SPLITS for index in range(500)]
    assert len(set(seeds)) == len(seeds)


def test_more_scenes_leave_the_first_ones_alone(tree: Path, tmp_path: Path) -> None:
    larger = _write(tmp_path, num_training=4)
    for path in (tree / "images").rglob("*.jpg"):
        assert (larger / path.relative_to(tree)).read_bytes() == path.read_bytes()


def test_a_complete_tree_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _write(tmp_path)
    monkeypatch.setattr(miniworld.layouts, "draw_scene", _fail)
    assert _write(tmp_path) == first


def test_other_parameters_are_refused_with_one_line(tmp_path: Path) -> None:
    before = _contents(_write(tmp_path))
    with pytest.raises(ValueError, match="was made with seed 0, not 5") as caught:
        _write(tmp_path, seed=5)
    assert "\n" not in str(caught.value)
    assert _contents(tmp_path / "ADEChallengeData2016") == before


def test_an_incomplete_tree_is_refused(tmp_path: Path) -> None:
    (_write(tmp_path) / "images/training/ADE_train_00000001.jpg").unlink()
    with pytest.raises(ValueError, match="holds 11 files instead of 12"):
        _write(tmp_path)


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    precious = tmp_path / "ADEChallengeData2016" / "images" / "mine.jpg"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"precious")
    with pytest.raises(ValueError, match="not written by miniworld"):
        _write(tmp_path)
    assert _contents(tmp_path) == {"ADEChallengeData2016/images/mine.jpg": b"precious"}


def test_a_foreign_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ADEChallengeData2016").write_bytes(b"precious")
    with pytest.raises(ValueError, match="not written by miniworld"):
        _write(tmp_path)


def test_an_interrupted_write_leaves_no_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def draw_two(seed: int, *, width_px: int, height_px: int) -> Scene:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(seed)
        return draw_scene(seed, width_px=width_px, height_px=height_px)

    monkeypatch.setattr(miniworld.layouts, "draw_scene", draw_two)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_does_not_hinder_the_next_one(tree: Path, tmp_path: Path) -> None:
    leftover = tmp_path / ".miniworld-killed" / "ADEChallengeData2016"
    leftover.mkdir(parents=True)
    (leftover / "objectInfo150.txt").write_text("half")
    assert _contents(_write(tmp_path)) == _contents(tree)


def test_two_writers_at_once_leave_one_whole_tree(tree: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=3) as pool:
        written = list(pool.map(_write, [tmp_path] * 3))
    assert set(written) == {tmp_path / "ADEChallengeData2016"}
    assert _contents(written[0]) == _contents(tree)
    assert [path.name for path in tmp_path.iterdir()] == ["ADEChallengeData2016"]


@pytest.mark.parametrize(("num_faster", "is_accepted"), [(3, True), (4, False)])
def test_the_slower_of_two_writers_takes_an_equal_tree_and_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_faster: int, is_accepted: bool
) -> None:
    def draw_while_another_finishes(seed: int, *, width_px: int, height_px: int) -> Scene:
        monkeypatch.setattr(miniworld.layouts, "draw_scene", draw_scene)
        faster.append(_contents(_write(tmp_path, num_training=num_faster)))
        return draw_scene(seed, width_px=width_px, height_px=height_px)

    faster: list[dict[str, bytes]] = []
    monkeypatch.setattr(miniworld.layouts, "draw_scene", draw_while_another_finishes)
    if is_accepted:
        _write(tmp_path)
    else:
        with pytest.raises(ValueError, match="made with num_training 4, not 3"):
            _write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ADEChallengeData2016"]
    assert _contents(tmp_path / "ADEChallengeData2016") == faster[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"num_training": 0}, "0 training and 32 validation"),
        ({"width_px": 20}, "20x96"),
    ],
)
def test_impossible_orders_write_nothing(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_ade20k(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ValueError, match="unknown split 'test'"):
        scene_seed(0, "test", index=0)


def _label_of(image: Path) -> Path:
    return Path(str(image.with_suffix(".png")).replace("images", "annotations"))


def _fail(*args: object, **options: object) -> Scene:
    raise AssertionError("a scene was drawn that is already there")
