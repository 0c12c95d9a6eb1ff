"""Pictures of one thing each, in the layout of ImageNet.

`imagenet/`, from `write_imagenet`:

    train/<wnid>/               <wnid>_<number>.JPEG
    val/<wnid>/                 ILSVRC2012_val_<8 digits>.JPEG; the classes are mixed in its numbers
    LOC_synset_mapping.txt      <wnid> <names>, wnids ascending

There is a class for every countable thing; its wnid is made up. Some pictures are grey, as in the real set.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from miniworld.canvas import Pixels
from miniworld.concepts import find_concept
from miniworld.orders import Order, make_order
from miniworld.pairs import draw_scene_of
from miniworld.samples import encode_picture, pair_seed
from miniworld.scene import Scene
from miniworld.tables import Files
from miniworld.tree import write_tree

SIDE_PX: Final = 72
EVERY_GREY: Final = 23  # one in so many pictures has no colours
FIRST_NUMBERS: Final = {"train": 18, "val": 1}  # in file names
STEPS: Final = {"train": 37, "val": 1}

# Names by thing, in the order of the classes.
NAMES: Final[Mapping[str, str]] = {
    "bird": "bird",
    "dog": "dog",
    "cow": "cow",
    "sheep": "sheep",
    "airplane": "airplane, plane",
    "boat": "boat, small ship",
    "car": "car, motor vehicle",
    "clock": "clock",
    "flag": "flag",
    "house": "house",
    "streetlight": "streetlight, lamppost",
    "tower": "tower",
    "person": "person",
    "flower": "flower",
    "tree": "tree",
}
WNIDS: Final = {name: f"n0{1_234_567 + 441_133 * place}" for place, name in enumerate(NAMES)}


def write_imagenet(
    root: Path, *, seed: int = 0, train_per_class: int = 40, val_per_class: int = 12, scale: float = 1.0
) -> Path:
    """Write `imagenet` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        train_per_class: training pictures of each of the 15 classes.
        val_per_class: validation pictures of each.
        scale: multiplies every count.

    Returns:
        The folder `imagenet`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"train_per_class": train_per_class, "val_per_class": val_per_class}
    order = make_order("imagenet", seed, counts=counts, scale=scale)
    return write_tree(root / "imagenet", order.recipe, files=_make_files(order))


def draw_single_thing(seed: int, split: str, *, index: int) -> tuple[str, Scene]:
    """Draw one thing in its surroundings, and name it; the classes take turns."""
    name = list(NAMES)[index % len(NAMES)]
    own_seed = pair_seed(seed, f"imagenet-{split}", index=index)
    return name, draw_scene_of(own_seed, [find_concept(name)], width_px=SIDE_PX, height_px=SIDE_PX)


def name_picture(split: str, *, index: int) -> str:
    """Name the file of one of a row of pictures whose classes take turns."""
    wnid = list(WNIDS.values())[index % len(WNIDS)]
    number = FIRST_NUMBERS[split] + STEPS[split] * index
    stem = f"{wnid}_{number}" if split == "train" else f"ILSVRC2012_val_{number:08d}"
    return f"{split}/{wnid}/{stem}.JPEG"


def make_grey(image: Pixels) -> Pixels:
    """Take the colours from a picture (h, w, 3): (h, w)."""
    return np.asarray(Image.fromarray(image).convert("L"))


def _make_files(order: Order) -> Files:
    for split in FIRST_NUMBERS:
        for index in range(order.counts[f"{split}_per_class"] * len(NAMES)):
            _, scene = draw_single_thing(order.seed, split, index=index)
            is_grey = index % EVERY_GREY == EVERY_GREY - 1
            yield name_picture(split, index=index), encode_picture(make_grey(scene.image) if is_grey else scene.image)
    yield "LOC_synset_mapping.txt", "".join(f"{WNIDS[name]} {names}\n" for name, names in NAMES.items()).encode()
