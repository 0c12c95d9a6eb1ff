"""The paper's filters keep and drop what they say, before anything is decoded."""

import io

import pytest
from PIL import Image

from pretrain.data.base import RawSample, SampleError
from pretrain.data.config import FilterConfig
from pretrain.data.filters import read_caption, read_size, reject, reject_caption, reject_size, seems_english

PAPER = FilterConfig()
NO_SCORE = FilterConfig(min_score=None)
OPEN = FilterConfig(**dict.fromkeys(FilterConfig.model_fields))


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_the_defaults_are_the_papers():
    assert PAPER.model_dump() == {
        "max_aspect": 3.5,
        "min_side_px": 128,
        "min_score": 0.3,
        "min_characters": 3,
        "max_characters": 512,
        "english_only": True,
        "no_emoji": True,
    }


@pytest.mark.parametrize(
    ("size", "reason"),
    [((128, 128), None), ((448, 128), None), ((449, 128), "aspect"), ((128, 449), "aspect"), ((127, 400), "side")],
)
def test_pictures_fall_by_their_sides(size, reason):
    assert reject_size(*size, PAPER) == reason
    assert reject_size(*size, OPEN) is None


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("cat", None),
        ("  ab ", "short"),
        ("a" * 512, None),
        ("a" * 513, "long"),
        ("a cat \N{CAT FACE}", "emoji"),
        ("the flag \N{REGIONAL INDICATOR SYMBOL LETTER F}\N{REGIONAL INDICATOR SYMBOL LETTER R}", "emoji"),
        ("press 1\ufe0f\u20e3 now", "emoji"),
        ("a heart \u2764", "emoji"),
        ("a photo \N{COPYRIGHT SIGN} 2019 by Smith, 3 #1", None),
        ("кошка на диване", "language"),
        ("un chat noir sur le canapé", "language"),
    ],
)
def test_captions_fall_by_length_emoji_and_language(caption, reason):
    assert reject_caption(caption, PAPER) == reason
    assert reject_caption(caption, OPEN) is None


@pytest.mark.parametrize(
    "text",
    [
        "A black dog runs along the beach in El Paso",
        "red car",
        "Café de la Paix is on the corner of the street",
        "IMG_1234",
        "it's a dog\N{RIGHT SINGLE QUOTATION MARK}s life",
    ],
)
def test_english_passes(text):
    assert seems_english(text)


@pytest.mark.parametrize(
    "text",
    [
        "犬が海辺を走る",
        "собака",
        "ein Hund und eine Katze",
        "el perro en la playa",
        "12345",
        "Việt đường phố ở",
        "a dog собака бежит",
    ],
)
def test_other_languages_fall(text):
    assert not seems_english(text)


def raw(text="a small red car", image=None, **facts) -> RawSample:
    return RawSample("k", {"text": text, "image": image or png(200, 200)}, facts)


def test_score_falls_first_and_no_number_is_no_score():
    assert reject(raw(score=0.3), PAPER) is None
    assert reject(raw("", score=0.29), PAPER) == "score"
    assert reject(raw(score=float("nan")), PAPER) == "score"


def test_what_the_source_tells_of_a_picture_goes_before_its_header():
    assert reject(raw(), NO_SCORE) is None
    assert reject(raw(image=png(100, 200)), NO_SCORE) == "side"
    assert reject(raw(image=png(100, 200), width=300, height=300), NO_SCORE) is None
    assert reject(raw(image=b"none", width=1000, height=200), NO_SCORE) == "aspect"


def test_pictures_are_not_looked_at_when_no_filter_asks():
    assert reject(raw(image=b"none"), OPEN) is None


@pytest.mark.parametrize("text", ["", "  \n", b"", "!!?", b"\t "])
def test_an_empty_caption_is_a_fault_whatever_the_filters(text):
    with pytest.raises(SampleError, match="nothing is left of") as error:
        reject(raw(text), OPEN)
    assert (error.value.reason, error.value.key) == ("empty caption", "k")


def test_a_caption_that_is_not_utf8_is_a_fault():
    assert read_caption("na\u00efve".encode(), "k") == "na\u00efve"
    with pytest.raises(SampleError, match="its text is not UTF-8") as error:
        read_caption(b"na\xefve", "k")
    assert error.value.reason == "undecodable"


def test_the_header_gives_the_size_of_a_file_or_of_bytes(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(png(30, 7))
    assert read_size(path) == read_size(path.read_bytes()) == (30, 7)
    with pytest.raises(FileNotFoundError, match="no picture at"):
        read_size(tmp_path / "q.png")
    with pytest.raises(ValueError, match=r"^the picture has no header that can be read: UnidentifiedImageError$"):
        read_size(b"no picture")
