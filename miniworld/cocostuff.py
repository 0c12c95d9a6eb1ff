"""Scenes with a class for every pixel, in the layout of COCO-Stuff-164k.

`cocostuff/`, from `write_cocostuff`:

    images/{train2017,val2017}/        <12 digits>.jpg
    annotations/{train2017,val2017}/   <12 digits>.png, category ids minus one, 255 where there is none

The scenes are drawn as ADE20K's are, from seeds of their own; here every animal is a class for itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from miniworld.canvas import Pixels
from miniworld.concepts import STUFF
from miniworld.layouts import scene_seed
from miniworld.orders import Order, make_order
from miniworld.samples import encode_picture
from miniworld.scene import Scene, check_size, draw_scene
from miniworld.tables import Files
from miniworld.tree import write_tree

UNLABELLED: Final = 255

# Folder: what counts its scenes, stream of their seeds, number of the first one and step to the next.
SPLITS: Final = {
    "train2017": ("num_training", "cocostuff-train", 9, 16),
    "val2017": ("num_validation", "cocostuff-val", 139, 146),
}

# COCO-Stuff's category ids by concept.
CATEGORY_IDS: Final[Mapping[str, int]] = {
    "sky": 157,  # sky-other
    "road": 149,
    "grass": 124,
    "mountain": 135,
    "sea": 155,
    "sand": 154,
    "house": 128,
    "tree": 169,
    "tower": 158,  # skyscraper
    "boat": 9,
    "car": 3,
    "streetlight": 130,  # light
    "clock": 85,
    "flag": 92,  # banner
    "person": 1,
    "sheep": 20,
    "cow": 21,
    "dog": 18,
    "bird": 16,
    "flower": 119,
    "airplane": 5,
}


def write_cocostuff(
    root: Path,
    *,
    seed: int = 0,
    num_training: int = 160,
    num_validation: int = 32,
    width_px: int = 128,
    height_px: int = 96,
) -> Path:
    """Write `cocostuff` below `root`; the layout stands at the top of this module.

    Returns:
        The folder `cocostuff`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    order = make_order("cocostuff", seed, counts={"num_training": num_training, "num_validation": num_validation})
    check_size(width_px, height_px)
    recipe = {**order.recipe, "width_px": width_px, "height_px": height_px}
    return write_tree(root / "cocostuff", recipe, files=_make_files(order, width_px=width_px, height_px=height_px))


def _make_files(order: Order, *, width_px: int, height_px: int) -> Files:
    for split, (number, stream, first, step) in SPLITS.items():
        for index in range(order.counts[number]):
            scene = draw_scene(scene_seed(order.seed, stream, index=index), width_px=width_px, height_px=height_px)
            stem = f"{first + step * index:012d}"
            yield f"images/{split}/{stem}.jpg", encode_picture(scene.image)
            yield f"annotations/{split}/{stem}.png", encode_picture(label_categories(scene), "PNG")


def label_categories(scene: Scene) -> Pixels:
    """Label every pixel of a scene with its COCO-Stuff category id minus one: (h, w)."""
    values = np.full(256, UNLABELLED, dtype=np.uint8)
    for concept in STUFF:
        values[concept.ade20k_number] = CATEGORY_IDS[concept.name] - 1
    label = values[scene.label]
    for thing in scene.things:
        label[scene.instances == thing.instance] = CATEGORY_IDS[thing.name] - 1
    return label
