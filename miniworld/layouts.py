"""The miniworld on disk, in the layouts of the real data sets."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from miniworld.canvas import Pixels
from miniworld.concepts import find_concept, read_ade20k_names
from miniworld.scene import Scene, check_size, draw_scene
from miniworld.tree import write_tree

Counts: TypeAlias = NDArray[np.int64]

GENERATOR_VERSION: Final = 1  # goes up with every change that moves a byte of what is drawn

SPLITS: Final = {"training": "train", "validation": "val"}  # folder and file name prefix, as in the real set

# The place of a stream goes into its seeds: new ones stand at the end, and stay below `samples.FIRST_STREAM`.
SCENE_STREAMS: Final = (*SPLITS, "cocostuff-train", "cocostuff-val")


def write_ade20k(
    root: Path,
    *,
    seed: int = 0,
    num_training: int = 160,
    num_validation: int = 32,
    width_px: int = 128,
    height_px: int = 96,
) -> Path:
    """Write scenes and their labels as `ADEChallengeData2016` below `root`, the layout of ADE20K's SceneParse150.

    Returns:
        The folder `ADEChallengeData2016`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    if min(num_training, num_validation) < 1:
        raise ValueError(f"{num_training} training and {num_validation} validation scenes; expected at least 1 of each")
    check_size(width_px, height_px)
    recipe: dict[str, str | int] = {
        "generator": "miniworld",
        "version": GENERATOR_VERSION,
        "layout": "ade20k",
        "seed": seed,
        "num_training": num_training,
        "num_validation": num_validation,
        "width_px": width_px,
        "height_px": height_px,
    }
    order = _Order(seed, {"training": num_training, "validation": num_validation}, width_px, height_px)
    return write_tree(root / "ADEChallengeData2016", recipe, files=_make_ade20k(order))


def scene_seed(seed: int, split: str, *, index: int) -> int:
    """Derive the seed of one scene: no two splits share any, and asking for more leaves the first ones alone."""
    if split not in SCENE_STREAMS:
        raise ValueError(f"unknown split {split!r}; expected one of: {', '.join(SCENE_STREAMS)}")
    stream = np.random.SeedSequence(seed, spawn_key=(SCENE_STREAMS.index(split), index))
    return int(stream.generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class _Order:
    seed: int
    num_scenes: dict[str, int]
    width_px: int
    height_px: int


def _make_ade20k(order: _Order) -> Iterator[tuple[str, bytes]]:
    categories: list[str] = []
    num_pixels = np.zeros(151, dtype=np.int64)
    num_images: dict[str, Counts] = {split: np.zeros(151, dtype=np.int64) for split in SPLITS}
    for split, prefix in SPLITS.items():
        for index in range(order.num_scenes[split]):
            stem = f"ADE_{prefix}_{index + 1:08d}"
            seed = scene_seed(order.seed, split, index=index)
            scene = draw_scene(seed, width_px=order.width_px, height_px=order.height_px)
            yield f"images/{split}/{stem}.jpg", _encode(scene.image, "JPEG", quality=95, subsampling=0)
            yield f"annotations/{split}/{stem}.png", _encode(scene.label, "PNG")
            counts = np.bincount(scene.label.ravel(), minlength=151)
            num_pixels += counts
            num_images[split] += counts > 0
            categories.append(f"{stem} {_name_category(scene)}\n")
    yield "objectInfo150.txt", _write_object_info(num_pixels, num_images).encode()
    yield "sceneCategories.txt", "".join(categories).encode()


def _encode(pixels: Pixels, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _write_object_info(num_pixels: Counts, num_images: Mapping[str, Counts]) -> str:
    """List all 150 classes with their share of the pixels and the number of images that show them."""
    shares = num_pixels / num_pixels.sum()
    rows = ["Idx\tRatio\tTrain\tVal\tName"]
    for number, name in enumerate(read_ade20k_names(), start=1):
        seen = "\t".join(str(num_images[split][number]) for split in SPLITS)
        rows.append(f"{number}\t{shares[number]:.4f}\t{seen}\t{name}")
    return "\n".join(rows) + "\n"


def _name_category(scene: Scene) -> str:
    for concept, category in (("sea", "coast"), ("road", "street"), ("mountain", "mountain")):
        if (scene.label == find_concept(concept).ade20k_number).any():
            return category
    return "pasture"
