"""Karpathy's json gives every sentence of a picture, as written; the token file has to agree with it."""

import json
from pathlib import Path

import pytest

from downstream.formats.base import Captioned
from downstream.formats.karpathy import read_coco, read_flickr30k, read_tokens


def image(name: str, split: str, *captions: str, **more: object) -> dict[str, object]:
    return {"filename": name, "split": split, "sentences": [{"raw": text, "tokens": []} for text in captions], **more}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A picture of each split."""
    images = [
        image("a.jpg", "train", "A dog.", filepath="train2014", cocoid=1),
        image("b.jpg", "restval", "A cat.", filepath="val2014", cocoid=22),
        image("c.jpg", "test", " A car.\n", "Two", "3", "4", "5", "6", filepath="val2014", cocoid=3),
        image("d.jpg", "val", "A cow.", filepath="val2014", cocoid=4),
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    for name in ("train2014/a.jpg", "val2014/b.jpg", "val2014/c.jpg", "val2014/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    """A picture of test and one of train."""
    images = [image("10.jpg", "test", "A dog .", "A  cat ."), image("7.jpg", "train", "A cow .")]
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    (tmp_path / "flickr30k-images").mkdir()
    for name in ("10.jpg", "7.jpg"):
        (tmp_path / "flickr30k-images" / name).touch()
    return tmp_path


def test_coco_takes_restval_into_train(coco: Path) -> None:
    assert [sample.id for sample in read_coco(coco, "train").samples] == ["1", "22"]
    assert [sample.id for sample in read_coco(coco, "val").samples] == ["4"]


def test_every_sentence_counts_as_it_is_written(coco: Path) -> None:
    media = coco / "val2014" / "c.jpg"
    assert read_coco(coco, "test").samples == (Captioned("3", media, (" A car.\n", "Two", "3", "4", "5", "6")),)


def test_origins_count_the_images_of_the_whole_json(coco: Path) -> None:
    assert read_coco(coco, "test").samples[0].origin == "dataset_coco.json, image 3"


def test_flickr30k_pictures_are_known_by_their_number(flickr: Path) -> None:
    listing = read_flickr30k(flickr, "test")
    media = flickr / "flickr30k-images" / "10.jpg"
    assert listing.samples == (Captioned("10", media, ("A dog .", "A  cat .")),)
    assert [path.name for path in listing.sources] == ["dataset_flickr30k.json"]


def test_captions_in_another_order_and_of_other_pictures_agree(flickr: Path) -> None:
    tokens = flickr / "results_20130124.token"
    tokens.write_bytes(b"10.jpg#0\tA cat .\r\n10.jpg#1\tA dog . \r\n8.jpg#0\tA pig .")
    listing = read_flickr30k(flickr, "test")
    assert listing.sources[-1] == tokens
    with pytest.raises(ValueError, match=r"image 2: a caption of 7\.jpg is not in .*: 'A cow \.'"):
        read_flickr30k(flickr, "train")


def test_a_caption_given_twice_has_to_stand_twice(flickr: Path) -> None:
    tokens = flickr / "results_20130124.token"
    tokens.write_text("10.jpg#0\tA cat .\n10.jpg#1\tA dog .\n10.jpg#2\tA dog .\n")
    with pytest.raises(ValueError, match="'A dog \\.'; expected the same captions in both"):
        read_flickr30k(flickr, "test")


def test_a_token_line_is_split_at_its_last_number_sign_and_first_tab(tmp_path: Path) -> None:
    path = tmp_path / "x.token"
    path.write_text("a#b.jpg#0\tNo #1\tdog\n")
    assert list(read_tokens(path)) == [("a#b.jpg", "No #1\tdog")]


@pytest.mark.parametrize(
    "names", [("test_new.tsv", "test_texts.json"), ("flickr_test_new.tsv", "flickr30k_test_texts.json")]
)
def test_the_authors_files_of_flickr30k_are_found_by_both_names(tmp_path: Path, names: tuple[str, str]) -> None:
    (tmp_path / "10.jpg").touch()
    (tmp_path / names[0]).write_text("image_id\timage\tcaption\n10\t10.jpg\tA dog .\n")
    (tmp_path / names[1]).write_text(json.dumps({"10": ["A dog .", "A cat ."]}))
    listing = read_flickr30k(tmp_path, "test")
    assert listing.samples == (Captioned("10", tmp_path / "10.jpg", ("A dog .", "A cat .")),)
    assert [path.name for path in listing.sources] == list(names)
