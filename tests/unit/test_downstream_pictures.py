"""The grid shows picture, truth and prediction of each sample side by side."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from downstream.pictures import CAPTION_PX, CELL_WIDTH_PX, MARGIN_PX, Triple, draw_grid

COLOURS = np.array([[0, 0, 0], [250, 0, 0], [0, 240, 0], [0, 0, 230]], dtype=np.uint8)
WIDTH, HEIGHT = 40, 20


@pytest.fixture
def triple(tmp_path: Path) -> Triple:
    truth = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    truth[:, WIDTH // 2 :] = 2
    for name, pixels in (
        ("image.png", np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)),
        ("truth.png", truth),
        ("prediction.png", np.full((HEIGHT, WIDTH), 3, dtype=np.uint8)),
    ):
        Image.fromarray(pixels).save(tmp_path / name)
    return Triple("caption", tmp_path / "image.png", tmp_path / "truth.png", tmp_path / "prediction.png")


def cell(sheet: np.ndarray, column: int) -> np.ndarray:
    top, left = MARGIN_PX + CAPTION_PX, MARGIN_PX + column * (CELL_WIDTH_PX + MARGIN_PX)
    return sheet[top : top + CELL_WIDTH_PX * HEIGHT // WIDTH, left : left + CELL_WIDTH_PX]


def test_each_value_of_a_label_has_its_colour(triple: Triple) -> None:
    sheet = np.array(draw_grid([triple], COLOURS))
    picture, truth, prediction = (cell(sheet, column) for column in range(3))
    assert (picture == 90).all()
    assert (truth[:, : CELL_WIDTH_PX // 2] == 0).all()
    assert (truth[:, CELL_WIDTH_PX // 2 :] == COLOURS[2]).all()
    assert (prediction == COLOURS[3]).all()


def test_the_grid_has_a_row_for_each_sample(triple: Triple) -> None:
    one, three = draw_grid([triple], COLOURS), draw_grid([triple] * 3, COLOURS)
    row = CELL_WIDTH_PX * HEIGHT // WIDTH + CAPTION_PX + MARGIN_PX
    assert one.size == (3 * (CELL_WIDTH_PX + MARGIN_PX) + MARGIN_PX, MARGIN_PX + CAPTION_PX + row)
    assert three.size == (one.width, one.height + 2 * row)
    assert draw_grid([], COLOURS).height == MARGIN_PX + CAPTION_PX
