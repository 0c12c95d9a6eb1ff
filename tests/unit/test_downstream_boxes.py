"""Sheets of boxes: colours where the boxes are, any shape of picture, long sentences, and the right ones picked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from downstream.boxes import (
    CELL_PX,
    MARGIN_PX,
    NUM_COLUMNS,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    Located,
    _length,
    _wrap,
    draw_answer,
    draw_sheet,
    pick_extremes,
)

WIDTH_PX = NUM_COLUMNS * (CELL_PX + MARGIN_PX) + MARGIN_PX
coordinate = st.floats(-1e6, 1e6)


def located(path: Path, *, iou: float = 0.5, text: str = "the cat", predicted=(0.0, 0.0, 20.0, 10.0)) -> Located:
    return Located(path, text, (10.0, 5.0, 30.0, 15.0), predicted, iou)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "grey.png"
    Image.new("RGB", (40, 20), (90, 90, 90)).save(path)
    return path


def places(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has a colour."""
    rows, columns = np.nonzero((np.array(image) == colour).all(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_both_boxes_are_where_they_should_be(picture: Path) -> None:
    sheet = draw_sheet({"best": [located(picture)]})
    below = sheet.crop((MARGIN_PX, 56, MARGIN_PX + CELL_PX, 56 + CELL_PX // 2))  # under the legend and the heading
    share = CELL_PX / 40
    truth, found = places(below, TRUTH_COLOUR), places(below, PREDICTION_COLOUR)
    assert truth == pytest.approx([10 * share, 5 * share, 30 * share, 15 * share], abs=3)
    assert found == pytest.approx([0, 0, 20 * share, 10 * share], abs=3)
    assert sheet.width == WIDTH_PX


def test_the_found_box_is_dashed_and_the_true_one_is_not(picture: Path) -> None:
    same = Located(picture, "the cat", (4.0, 4.0, 36.0, 16.0), (4.0, 10.0, 36.0, 16.0), 0.5)
    pixels = np.array(draw_sheet({"all": [same]}).crop((MARGIN_PX, 56, MARGIN_PX + CELL_PX, 56 + CELL_PX // 2)))
    share = CELL_PX / 40
    inside = slice(round(6 * share), round(34 * share))
    is_green = (pixels[round(4 * share), inside] == TRUTH_COLOUR).all(axis=1)
    is_red = (pixels[round(10 * share), inside] == PREDICTION_COLOUR).all(axis=1)
    assert is_green.all()
    assert 0.3 < is_red.mean() < 0.9


@pytest.mark.parametrize("size", [(1, 1), (900, 3), (3, 900), (40, 20), (1500, 1000)])
def test_any_shape_of_picture_makes_a_sheet(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", size).save(path)
    assert draw_sheet({"best": [located(path)] * 4, "worst": []}).width == WIDTH_PX
    assert draw_answer(Image.open(path), "the cat", (0, 0, 9, 9)).width <= 1024


def test_long_sentences_make_the_sheet_longer_not_wider(picture: Path) -> None:
    short = draw_sheet({"best": [located(picture)]})
    for text in ("a cat " * 60, "x" * 400):
        sheet = draw_sheet({"best": [located(picture, text=text)]})
        assert sheet.width == short.width
        assert sheet.height > short.height + 50


@given(st.text(max_size=200), st.integers(40, 300))
@settings(deadline=None, max_examples=30)
def test_lines_keep_every_letter_and_their_width(text: str, width_px: int) -> None:
    lines = _wrap(text, width_px)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(_length(line) <= width_px or len(line) == 1 for line in lines)


@given(coordinate, coordinate, coordinate, coordinate)
@settings(deadline=None, max_examples=30)
def test_no_box_is_too_far_out_or_crossed_to_be_drawn(left: float, top: float, right: float, bottom: float) -> None:
    image = Image.new("RGB", (60, 30), "grey")
    drawn = draw_answer(image, "the cat", (left, top, right, bottom))
    assert (np.array(drawn) == PREDICTION_COLOUR).all(axis=2).any()
    assert np.array(image).max() == 128, "the picture itself stays as it is"


def test_small_pictures_are_enlarged_and_large_ones_shrunk() -> None:
    small, large = (draw_answer(Image.new("RGB", size), "the cat", (1, 1, 5, 5)) for size in ((64, 48), (4000, 3000)))
    assert (small.width, large.width) == (320, 1024)


@pytest.mark.parametrize(
    ("ious", "count", "best", "worst"),
    [
        ([0.2, 0.9, 0.5, 0.1, 0.7], 2, [0.9, 0.7], [0.1, 0.2]),
        ([0.2, 0.9, 0.5], 5, [0.9, 0.5], [0.2]),
        ([0.4], 3, [0.4], []),
        ([], 3, [], []),
    ],
)
def test_best_and_worst_share_none(ious: list[float], count: int, best: list[float], worst: list[float]) -> None:
    picked = pick_extremes([located(Path("a.png"), iou=iou) for iou in ious], count)
    assert [each.iou for each in picked["best"]] == best
    assert [each.iou for each in picked["worst"]] == worst
