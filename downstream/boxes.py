"""Pictures of boxes: what was asked for, where it is, and where it was found."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from models.modalities.image import read_image

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in the picture's own pixels."""
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

TRUTH_COLOUR: Final = (0, 150, 60)
PREDICTION_COLOUR: Final = (220, 30, 30)
NUM_COLUMNS = 3
CELL_PX = 288
MARGIN_PX = 12
FONT_PX = 14
LINE_PX = 18
HEADING_PX = 28
ANSWER_SIDES_PX = (320, 1024)  # the longer side of a picture with its answer
DASH_PX, GAP_PX = 9, 6
LINE_WIDTH_PX, SEAM_PX = 3, 5


@dataclass(frozen=True)
class Located:
    """A sentence about a picture with its true box and the one that was found."""

    picture: Path
    text: str
    truth: Box
    predicted: Box
    iou: float


def pick_extremes(located: Sequence[Located], count: int) -> dict[str, tuple[Located, ...]]:
    """Pick the best and the worst by overlap, up to `count` of each, the most telling first; none is in both."""
    ranked = sorted(located, key=lambda each: each.iou, reverse=True)
    num_best = min(count, (len(ranked) + 1) // 2)
    num_worst = min(count, len(ranked) - num_best)
    return {"best": tuple(ranked[:num_best]), "worst": tuple(ranked[::-1][:num_worst])}


def draw_sheet(groups: Mapping[str, Sequence[Located]]) -> Image.Image:
    """Draw pictures group below group: the true box solid and green, the found one dashed and red.

    Args:
        groups: by heading, what is shown under it; a group of none is left out.

    Raises:
        FileNotFoundError, ValueError: a picture that cannot be read.
    """
    width = NUM_COLUMNS * (CELL_PX + MARGIN_PX) + MARGIN_PX
    parts = [_draw_legend(width)]
    for heading, members in groups.items():
        cells = [_draw_cell(member) for member in members]
        parts += [_draw_heading(heading, width)] if cells else []
        parts += [_draw_row(cells[start : start + NUM_COLUMNS], width) for start in range(0, len(cells), NUM_COLUMNS)]
    return _stack(parts, width)


def draw_answer(image: Image.Image, text: str, box: Box) -> Image.Image:
    """Draw one picture with the box that was found for a sentence, and the sentence below.

    Args:
        image: of any size; small ones are enlarged, large ones shrunk.
        text: as it was asked.
        box: in the pixels of `image`; what lies outside is cut off.
    """
    smallest, largest = ANSWER_SIDES_PX
    longer = max(image.size)
    picture = _fit(image, min(max(longer, smallest), largest))
    _draw_box(picture, _scale(box, image.size, picture.size), PREDICTION_COLOUR, is_dashed=False)
    width = max(picture.width, smallest)
    return _stack([_put(picture, width), _draw_lines(_wrap(text, width - 2 * MARGIN_PX), width)], width)


def _draw_cell(located: Located) -> Image.Image:
    """Draw one picture with both boxes, its overlap and its sentence."""
    image = read_image(located.picture)
    picture = _fit(image, CELL_PX)
    _draw_box(picture, _scale(located.truth, image.size, picture.size), TRUTH_COLOUR, is_dashed=False)
    _draw_box(picture, _scale(located.predicted, image.size, picture.size), PREDICTION_COLOUR, is_dashed=True)
    lines = [f"IoU {located.iou:.2f}", *_wrap(located.text, CELL_PX)]
    return _stack([_put(picture, CELL_PX), _draw_lines(lines, CELL_PX, left=0)], CELL_PX)


def _draw_row(cells: Sequence[Image.Image], width: int) -> Image.Image:
    row = Image.new("RGB", (width, max(cell.height for cell in cells) + MARGIN_PX), "white")
    for column, cell in enumerate(cells):
        row.paste(cell, (MARGIN_PX + column * (CELL_PX + MARGIN_PX), 0))
    return row


def _draw_legend(width: int) -> Image.Image:
    legend = Image.new("RGB", (width, HEADING_PX), "white")
    draw = ImageDraw.Draw(legend)
    draw.text((MARGIN_PX, 6), "true box (solid)", fill=TRUTH_COLOUR, font=_font())
    draw.text((MARGIN_PX + CELL_PX // 2, 6), "found box (dashed)", fill=PREDICTION_COLOUR, font=_font())
    return legend


def _draw_heading(text: str, width: int) -> Image.Image:
    heading = Image.new("RGB", (width, HEADING_PX), "white")
    draw = ImageDraw.Draw(heading)
    draw.line([(MARGIN_PX, 2), (width - MARGIN_PX, 2)], fill="lightgrey")
    draw.text((MARGIN_PX, 6), text, fill="black", font=_font())
    return heading


def _draw_lines(lines: Sequence[str], width: int, *, left: int = MARGIN_PX) -> Image.Image:
    block = Image.new("RGB", (width, len(lines) * LINE_PX + MARGIN_PX // 2), "white")
    draw = ImageDraw.Draw(block)
    for number, line in enumerate(lines):
        draw.text((left, 4 + number * LINE_PX), line, fill="black", font=_font())
    return block


def _draw_box(picture: Image.Image, box: Box, colour: tuple[int, int, int], *, is_dashed: bool) -> None:
    """Draw a box onto a picture, cut off at its edges, with a white seam that keeps it visible on any ground."""
    left, right = (_clip(x, picture.width) for x in sorted((box[0], box[2])))
    top, bottom = (_clip(y, picture.height) for y in sorted((box[1], box[3])))
    sides = [
        ((left, top), (right, top)),
        ((right, top), (right, bottom)),
        ((right, bottom), (left, bottom)),
        ((left, bottom), (left, top)),
    ]
    draw = ImageDraw.Draw(picture)
    for fill, thickness in (("white", SEAM_PX), (colour, LINE_WIDTH_PX)):
        for start, end in sides:
            for stroke in _dash(start, end) if is_dashed else [(start, end)]:
                draw.line(stroke, fill=fill, width=thickness)


def _clip(place: float, side: int) -> float:
    """Keep a line inside a picture with its whole width, where the picture is wide enough."""
    inset = min(LINE_WIDTH_PX // 2, (side - 1) // 2)
    return min(max(place, inset), side - 1 - inset)


def _dash(
    start: tuple[float, float], end: tuple[float, float]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Cut a line into dashes."""
    (x, y), length = start, max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    if not length:
        return [(start, end)]
    across, down = (end[0] - x) / length, (end[1] - y) / length
    strokes = []
    for number in range(int(length // (DASH_PX + GAP_PX)) + 1):
        begin = number * (DASH_PX + GAP_PX)
        stop = min(begin + DASH_PX, length)
        strokes.append(((x + begin * across, y + begin * down), (x + stop * across, y + stop * down)))
    return strokes


def _fit(image: Image.Image, side_px: int) -> Image.Image:
    """Bring the longer side to a length; a copy."""
    share = side_px / max(image.size)
    width, height = (max(1, round(side * share)) for side in image.size)
    return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def _scale(box: Box, old: tuple[int, int], new: tuple[int, int]) -> Box:
    across, down = new[0] / old[0], new[1] / old[1]
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _put(picture: Image.Image, width: int) -> Image.Image:
    """Give a picture a white ground of some width, itself in the middle."""
    ground = Image.new("RGB", (width, picture.height), "white")
    ground.paste(picture, ((width - picture.width) // 2, 0))
    return ground


def _stack(parts: Sequence[Image.Image], width: int) -> Image.Image:
    sheet = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _wrap(text: str, width_px: int) -> list[str]:
    """Break a text into lines of a width, at blanks, and within words that are wider."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if _length(longer) <= width_px:
            line = longer
            continue
        if line:
            lines.append(line)
        line = ""
        for letter in word:
            if line and _length(line + letter) > width_px:
                lines.append(line)
                line = ""
            line += letter
    return [*lines, line] if line else lines


def _length(text: str) -> float:
    return _font().getlength(text)


@functools.cache
def _font() -> Font:
    return ImageFont.load_default(FONT_PX)
