"""A sheet of scenes beside their labels, for people to look at."""

import colorsys
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from miniworld.canvas import Pixels
from miniworld.concepts import CONCEPTS, read_ade20k_names
from miniworld.scene import Scene

GAP_PX: Final = 6
LEGEND_ROW_PX: Final = 20
PAPER: Final = (255, 255, 255)

_LABEL_COLOURS: Final = {
    3: (160, 204, 240),
    5: (30, 110, 60),
    7: (120, 120, 128),
    10: (150, 200, 110),
    17: (150, 130, 170),
    27: (30, 110, 170),
    47: (240, 220, 160),
}


def colour_label(label: Pixels) -> Pixels:
    """Turn class numbers into colours: ground and sky in their own, each thing in a bright one, no class in black."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    for number, rgb in _palette().items():
        palette[number] = rgb
    return palette[label]


def draw_preview(scenes: Sequence[Scene], *, num_columns: int = 4, zoom: int = 2) -> Image.Image:
    """Put scenes of one size on a sheet, each beside its label, with the key to the colours below."""
    if not scenes:
        raise ValueError("a preview needs at least one scene, got none")
    height, width = scenes[0].label.shape
    cell = (2 * width * zoom + GAP_PX, height * zoom + GAP_PX)
    columns = min(num_columns, len(scenes))
    num_rows = -(-len(scenes) // columns)
    legend = _draw_legend(columns * cell[0] + GAP_PX)
    sheet = Image.new("RGB", (legend.width, num_rows * cell[1] + GAP_PX + legend.height), PAPER)
    for index, scene in enumerate(scenes):
        pair = Image.fromarray(np.hstack([scene.image, colour_label(scene.label)]))
        corner = (GAP_PX + index % columns * cell[0], GAP_PX + index // columns * cell[1])
        sheet.paste(pair.resize((pair.width * zoom, pair.height * zoom), Image.Resampling.NEAREST), corner)
    sheet.paste(legend, (0, sheet.height - legend.height))
    return sheet


def _palette() -> dict[int, tuple[int, int, int]]:
    bright = sorted({concept.ade20k_number for concept in CONCEPTS} - set(_LABEL_COLOURS))
    palette = dict(_LABEL_COLOURS)
    for index, number in enumerate(bright):
        red, green, blue = colorsys.hsv_to_rgb(
            index / len(bright), 0.85 if index % 2 else 0.6, 0.95 if index % 3 else 0.7
        )
        palette[number] = (round(255 * red), round(255 * green), round(255 * blue))
    return palette


def _draw_legend(width_px: int) -> Image.Image:
    names, font = read_ade20k_names(), ImageFont.load_default(12)
    entries = [("other", (0, 0, 0))] + [(names[number - 1], rgb) for number, rgb in sorted(_palette().items())]
    spots, x, y = [], GAP_PX, 0
    for name, rgb in entries:
        needed = 22 + round(font.getlength(name)) + 10
        if x + needed > width_px and x > GAP_PX:
            x, y = GAP_PX, y + LEGEND_ROW_PX
        spots.append((x, y, name, rgb))
        x += needed
    legend = Image.new("RGB", (width_px, y + LEGEND_ROW_PX), PAPER)
    pen = ImageDraw.Draw(legend)
    for left, top, name, rgb in spots:
        pen.rectangle((left, top + 3, left + 16, top + 14), fill=rgb)
        pen.text((left + 21, top + 1), name, fill=(40, 40, 40), font=font)
    return legend
