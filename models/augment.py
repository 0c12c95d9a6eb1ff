"""Random changes of training pictures, by random numbers of our own."""

import math
from typing import Final

import numpy as np

Box = tuple[int, int, int, int]

CROP_RATIO: Final = (3 / 4, 4 / 3)  # width by height; torchvision's RandomResizedCrop
CROP_ATTEMPTS: Final = 10  # as CROP_RATIO


def draw_crop(size: tuple[int, int], scale: tuple[float, float], *, rng: np.random.Generator) -> Box:
    """Draw a random part of a picture, which is then squashed to the square.

    Args:
        size: width and height in pixels.
        scale: least and greatest share of the area.
        rng: random numbers.

    Returns:
        Left, top, right and bottom in pixels, inside the picture.

    Source: torchvision's RandomResizedCrop, with random numbers of our own.
    """
    width, height = size
    for _ in range(CROP_ATTEMPTS):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        part_width, part_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < part_width <= width and 0 < part_height <= height:
            left, top = int(rng.integers(width - part_width + 1)), int(rng.integers(height - part_height + 1))
            return left, top, left + part_width, top + part_height
    return _middle(width, height)


def _middle(width: int, height: int) -> Box:
    """Take the middle of a picture, as much of it as the allowed ratios leave."""
    narrowest, widest = CROP_RATIO
    part_width, part_height = width, height
    if width / height < narrowest:
        part_height = round(width / narrowest)
    elif width / height > widest:
        part_width = round(height * widest)
    left, top = (width - part_width) // 2, (height - part_height) // 2
    return left, top, left + part_width, top + part_height
