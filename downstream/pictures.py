"""A grid of pictures: what was seen, what is true, what was said."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Labels = NDArray[np.uint8]
Colours = NDArray[np.uint8]

CELL_WIDTH_PX = 288
MARGIN_PX = 8
CAPTION_PX = 16
HEADINGS = ("picture", "truth", "prediction")


@dataclass(frozen=True)
class Triple:
    """One row of the grid."""

    caption: str
    image: Path
    truth: Path
    """Label file."""
    prediction: Path
    """Label file with the same values."""


def draw_grid(triples: Sequence[Triple], colours: Colours) -> Image.Image:
    """Draw one row a sample: picture, truth, prediction.

    Args:
        triples: rows from top to bottom.
        colours: (values, 3), by what a label file says.
    """
    rows = [_draw_row(triple, colours) for triple in triples]
    height = MARGIN_PX + CAPTION_PX + sum(row.height + MARGIN_PX for row in rows)
    sheet = Image.new("RGB", (3 * (CELL_WIDTH_PX + MARGIN_PX) + MARGIN_PX, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(HEADINGS):
        draw.text((MARGIN_PX + column * (CELL_WIDTH_PX + MARGIN_PX), MARGIN_PX // 2), heading, fill="black")
    top = MARGIN_PX + CAPTION_PX
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + MARGIN_PX
    return sheet


def _draw_row(triple: Triple, colours: Colours) -> Image.Image:
    with Image.open(triple.image) as file:
        picture = file.convert("RGB")
    cells = [picture, *(_colour(path, colours) for path in (triple.truth, triple.prediction))]
    height = round(CELL_WIDTH_PX * picture.height / picture.width)
    row = Image.new("RGB", (3 * (CELL_WIDTH_PX + MARGIN_PX) + MARGIN_PX, height + CAPTION_PX), "white")
    for column, cell in enumerate(cells):
        method = Image.Resampling.BICUBIC if column == 0 else Image.Resampling.NEAREST
        row.paste(cell.resize((CELL_WIDTH_PX, height), method), (MARGIN_PX + column * (CELL_WIDTH_PX + MARGIN_PX), 0))
    ImageDraw.Draw(row).text((MARGIN_PX, height + 2), triple.caption, fill="black")
    return row


def _colour(path: Path, colours: Colours) -> Image.Image:
    with Image.open(path) as file:
        labels = np.array(file.convert("L") if file.mode not in ("L", "P") else file)
    return Image.fromarray(colours[labels])
