"""The layouts of MSCOCO and Flickr30K after Karpathy: sentences are true, and lists and tables agree."""

import json
from pathlib import Path
from typing import Any

import pytest

from miniworld.karpathy import split_tokens, write_coco, write_flickr30k
from miniworld.samples import make_captioned_picture
from miniworld.sentence import PLURALS

COCO = {"train": 8, "restval": 3, "val": 2, "test": 7}
FLICKR = {"train": 4, "val": 2, "test": 3}
COUNTS = {"coco": COCO, "flickr30k": FLICKR}
FOLDERS = {"train": "train2014", "restval": "val2014", "val": "val2014", "test": "val2014"}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {f"num_{split}": count for split, count in COCO.items()}
    return write_coco(tmp_path_factory.mktemp("world"), **counts)


@pytest.fixture(scope="module")
def flickr30k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {f"num_{split}": count for split, count in FLICKR.items()}
    return write_flickr30k(tmp_path_factory.mktemp("world"), **counts)


@pytest.fixture(params=["coco", "flickr30k"])
def written(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, request.getfixturevalue(request.param)


def _images(name: str, tree: Path) -> list[dict[str, Any]]:
    content = json.loads((tree / f"dataset_{name}.json").read_text())
    assert content["dataset"] == name
    images: list[dict[str, Any]] = content["images"]
    return images


def _rows(tree: Path, table: str) -> list[list[str]]:
    return [line.split("\t") for line in (tree / f"{table}_new.tsv").read_text().removesuffix("\n").split("\n")[1:]]


def test_splits_are_as_large_as_asked_for_and_mixed(written: tuple[str, Path]) -> None:
    name, tree = written
    splits = [image["split"] for image in _images(name, tree)]
    assert {split: splits.count(split) for split in COUNTS[name]} == COUNTS[name]
    assert splits != sorted(splits, key=list(COUNTS[name]).index)


def test_images_and_sentences_are_numbered_through(written: tuple[str, Path]) -> None:
    name, tree = written
    images = _images(name, tree)
    assert [image["imgid"] for image in images] == list(range(len(images)))
    sentids = [sentid for image in images for sentid in image["sentids"]]
    assert sentids == list(range(len(sentids)))
    for image in images:
        assert [sentence["sentid"] for sentence in image["sentences"]] == image["sentids"]
        assert {sentence["imgid"] for sentence in image["sentences"]} == {image["imgid"]}


def test_sentences_are_those_about_the_picture(written: tuple[str, Path]) -> None:
    name, tree = written
    said = {}
    for image in _images(name, tree):
        folder = image.get("filepath", "flickr30k-images")
        said[(tree / folder / image["filename"]).read_bytes()] = [each["raw"] for each in image["sentences"]]
    for split, count in COUNTS[name].items():
        for index in range(count):
            num_captions = 6 if name == "coco" and index == 6 else 5
            drawn = make_captioned_picture(0, f"{name}-{split}", index=index, side_px=72, num_captions=num_captions)
            assert [each.rstrip(" ").lower() for each in said[drawn.jpeg]] == list(drawn.captions)


def test_sentences_about_a_picture_differ_and_name_what_is_in_it() -> None:
    for index in range(10):
        drawn = make_captioned_picture(0, "coco-test", index=index, side_px=72, num_captions=6)
        assert len(set(drawn.captions)) == 6
        kinds = {(thing.name, thing.colour) for thing in drawn.things}
        for caption in drawn.captions:
            named = [(colour, PLURALS.get(name, name)) for name, colour in kinds] + [(c, n) for n, c in kinds]
            assert any(colour in caption and name in caption for colour, name in named)


def test_tokens_are_small_words_without_punctuation(written: tuple[str, Path]) -> None:
    name, tree = written
    assert split_tokens("A red car, a dog and a tree ") == ["a", "red", "car", "a", "dog", "and", "a", "tree"]
    sentences = [sentence for image in _images(name, tree) for sentence in image["sentences"]]
    assert all(sentence["tokens"] == split_tokens(sentence["raw"]) for sentence in sentences)


def test_coco_files_lie_where_their_split_has_them(coco: Path) -> None:
    images = _images("coco", coco)
    for image in images:
        assert image["filepath"] == FOLDERS[image["split"]]
        assert image["filename"] == f"COCO_{image['filepath']}_{image['cocoid']:012d}.jpg"
        assert (coco / image["filepath"] / image["filename"]).is_file()
    assert len({image["cocoid"] for image in images}) == len(images)


def test_some_coco_pictures_have_six_sentences_and_some_sentences_end_in_a_blank(coco: Path) -> None:
    sentences = [[sentence["raw"] for sentence in image["sentences"]] for image in _images("coco", coco)]
    assert {len(each) for each in sentences} == {5, 6}
    ends = [said.endswith(" ") for each in sentences for said in each]
    assert 0 < sum(ends) < len(ends) / 4


def test_flickr_pictures_are_named_by_numbers_and_have_five_sentences(flickr30k: Path) -> None:
    images = _images("flickr30k", flickr30k)
    assert {image["filename"] for image in images} == {path.name for path in (flickr30k / "flickr30k-images").iterdir()}
    assert all(image["filename"].removesuffix(".jpg").isdecimal() for image in images)
    assert all(len(image["sentences"]) == 5 for image in images)


def test_the_token_file_says_what_the_json_says(flickr30k: Path) -> None:
    lines = (flickr30k / "results_20130124.token").read_text().splitlines()
    assert lines == [
        f"{image['filename']}#{number}\t{sentence['raw']}"
        for image in _images("flickr30k", flickr30k)
        for number, sentence in enumerate(image["sentences"])
    ]


def test_tables_say_what_the_lists_say(written: tuple[str, Path]) -> None:
    name, tree = written
    tables = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}
    for table, splits in tables.items():
        listed = [
            (
                str(image["cocoid"]) if name == "coco" else image["filename"].removesuffix(".jpg"),
                f"{image.get('filepath', 'flickr30k-images')}/{image['filename']}",
                sentence["raw"],
            )
            for image in _images(name, tree)
            if image["split"] in splits
            for sentence in image["sentences"]
        ]
        assert [tuple(row) for row in _rows(tree, table)] == listed
