"""Writes the miniworld in the layout that the command line asks for."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from miniworld.benchmarks import WRITERS
from miniworld.coco_detection import write_coco_detection
from miniworld.cocostuff import write_cocostuff
from miniworld.layouts import scene_seed, write_ade20k
from miniworld.pretraining import write_pair_tables, write_pairs
from miniworld.preview import draw_preview
from miniworld.scene import draw_scene

NUM_PREVIEW_SCENES: Final = 8
PREVIEW_SCENE_WIDTH_PX: Final = 256

LAYOUT_WRITERS: Final[Mapping[str, Callable[..., Path]]] = {
    "ade20k": write_ade20k,
    "cocostuff": write_cocostuff,
    "coco_detection": write_coco_detection,
    "pairs": write_pairs,
    "pair-tables": write_pair_tables,
    **WRITERS,
}
PARAMETERS: Final = {
    "training": "num_training",
    "validation": "num_validation",
    "pictures": "num_pictures",
    "sounds": "num_sounds",
    "held_out": "num_held_out",
    "clips": "clips_per_class",
    "side": "side_px",
    "shard": "samples_per_shard",
    "workers": "num_workers",
    "scale": "scale",
}
"""By option of the command line, what the writers call it."""


def write_layout(layout: str, out: Path, *, seed: int, options: Mapping[str, Any]) -> Path:
    """Write one layout, and give the data set's own folder.

    Args:
        layout: one of `LAYOUT_WRITERS`.
        out: receives the data set's own folder.
        seed: of all that is drawn.
        options: all that the layout takes, by their names on the command line.

    Raises:
        ValueError: a number that cannot be, or a preview that is no .png file.
        FileNotFoundError: the folder of the preview does not exist.
    """
    chosen = dict(options)
    preview, size_px = chosen.pop("preview", None), chosen.pop("size", None)
    if preview:
        _check_preview(preview)
    numbers = {PARAMETERS[option]: value for option, value in chosen.items()}
    if size_px:
        numbers |= {"width_px": size_px[0], "height_px": size_px[1]}
    written = LAYOUT_WRITERS[layout](out, seed=seed, **numbers)
    if preview:
        _write_preview(preview, seed, size_px=size_px)
    return written


def _check_preview(file: Path) -> None:
    if file.suffix != ".png":
        raise ValueError(f"the preview {file} is no .png file; give it a name that ends so")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"the folder of the preview {file} does not exist; make it first")


def _write_preview(file: Path, seed: int, *, size_px: tuple[int, int]) -> None:
    """Draw the first validation scenes, enlarged where they are small."""
    width_px, height_px = size_px
    seeds = [scene_seed(seed, "validation", index=index) for index in range(NUM_PREVIEW_SCENES)]
    scenes = [draw_scene(each, width_px=width_px, height_px=height_px) for each in seeds]
    draw_preview(scenes, num_columns=2, zoom=max(1, PREVIEW_SCENE_WIDTH_PX // width_px)).save(file)
    logging.getLogger(__name__).info("drew %s", file)
