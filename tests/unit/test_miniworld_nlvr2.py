"""NLVR2's layout: labels are balanced and true, pictures lie where identifiers say, lists and tables agree."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from miniworld.nlvr2 import draw_pair_set, write_nlvr2
from miniworld.samples import encode_picture

COUNTS = {"train": 12, "dev": 8, "test1": 2}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nlvr2(tmp_path_factory.mktemp("world"), num_train=12, num_dev=8, num_test=2)


def _read(tree: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tree / f"data/{split}.json").read_text().splitlines()]


def _images(example: dict[str, Any]) -> list[str]:
    split, *_ = example["identifier"].split("-")
    folder = f"images/train/{example['directory']}" if split == "train" else f"images/{split}"
    return [f"{folder}/{example['identifier'].rsplit('-', 1)[0]}-img{side}.png" for side in (0, 1)]


@pytest.mark.parametrize("split", COUNTS)
def test_every_example_is_an_object_a_line_with_two_pictures(tree: Path, split: str) -> None:
    examples = _read(tree, split)
    assert len(examples) == COUNTS[split]
    assert len({example["identifier"] for example in examples}) == len(examples)
    for example in examples:
        assert example["sentence"].endswith(".")
        assert ("directory" in example) == (split == "train")
        assert set(example["validation"].values()) == {example["label"]} <= {"True", "False"}
        assert all((tree / image).is_file() for image in _images(example))


@pytest.mark.parametrize("split", COUNTS)
def test_as_many_sentences_are_true_as_false(tree: Path, split: str) -> None:
    labels = [example["label"] for example in _read(tree, split)]
    assert labels.count("True") == labels.count("False")


def test_labels_are_true_of_the_pictures(tree: Path) -> None:
    examples = {example["identifier"]: example for example in _read(tree, "dev")}
    drawn = draw_pair_set(0, "dev", index=0)
    for sentence, claim in enumerate(drawn.claims):
        for pair, (left, right) in enumerate(drawn.pairs):
            example = examples.pop(f"dev-0-{pair}-{sentence}")
            assert example["sentence"].lower() == f"{claim.text}."
            assert example["label"] == str(claim.check(left.things, right.things))
            for image, scene in zip(_images(example), (left, right), strict=True):
                content = (tree / image).read_bytes()
                assert content in (encode_picture(scene.image, "PNG"), encode_picture(scene.image, "JPEG"))
    assert not examples


@pytest.mark.parametrize("index", range(6))
def test_each_sentence_of_a_set_is_true_of_two_of_its_four_pairs(index: int) -> None:
    drawn = draw_pair_set(0, "train", index=index)
    assert len(drawn.claims) == 2
    assert drawn.claims[0].kind != drawn.claims[1].kind
    assert [sum(labels) for labels in drawn.labels] == [2, 2]
    assert drawn.labels[0][::2] in ((True, True), (False, False))


def test_some_files_hold_jpeg_data_and_no_other_is_there(tree: Path) -> None:
    formats = {}
    for path in (tree / "images").rglob("*"):
        if path.is_file():
            with Image.open(path) as image:
                assert image.size == (72, 72)
                formats[str(path.relative_to(tree))] = image.format
    assert set(formats.values()) == {"PNG", "JPEG"}
    assert set(formats) == {image for split in COUNTS for example in _read(tree, split) for image in _images(example)}


@pytest.mark.parametrize("split", COUNTS)
def test_tables_say_what_the_lists_say(tree: Path, split: str) -> None:
    header, *rows = [line.split("\t") for line in (tree / f"nlvr2_{split}.tsv").read_text().splitlines()]
    assert header == ["uniq_id", "text", "image1", "image2", "label"]
    assert rows == [
        [example["identifier"], example["sentence"], *_images(example), example["label"]]
        for example in _read(tree, split)
    ]
