"""Pictures with every thing boxed and outlined, in the layout of COCO's detection data.

`coco_detection/`, from `write_coco_detection`:

    annotations/instances_{train,val}2017.json   images, annotations, categories; outlines as polygons
    {train,val}2017/<image id, 12 digits>.jpg

A thing that is hidden but for a few pixels is marked as well, as in the real set. Where a picture shows three things of
one kind, which a marker may take for a group, the file has a crowd of them besides: runs of pixels.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from miniworld.orders import make_order
from miniworld.pairs import Mix, draw_pair_scene
from miniworld.refcoco import CATEGORIES, GROUPS
from miniworld.samples import encode_picture, pair_seed
from miniworld.scene import Scene, Thing, check_size
from miniworld.tables import Files, format_json
from miniworld.tree import write_tree

Mask = NDArray[np.bool_]

LAYOUT: Final = "coco_detection"
SPLITS: Final = {"train": "num_training", "val": "num_validation"}
MIX: Final = Mix({1: 0.3, 2: 0.4, 3: 0.3}, twin_share=0.25)
CROWD_SIZE: Final = 3
MAX_THINGS: Final = 16  # annotation ids of one picture


@dataclass(frozen=True)
class _Listed:
    """A picture as the list has it."""

    number: int
    scene: Scene

    @property
    def name(self) -> str:
        return f"{self.number:012d}.jpg"

    def mask(self, things: Sequence[Thing]) -> Mask:
        """Mark the visible pixels of some things."""
        return np.isin(self.scene.instances, [thing.instance for thing in things])


def write_coco_detection(
    root: Path,
    *,
    seed: int = 0,
    num_training: int = 320,
    num_validation: int = 64,
    width_px: int = 128,
    height_px: int = 96,
) -> Path:
    """Write `coco_detection` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_training: training pictures; what is drawn for a smaller number is the same.
        num_validation: as `num_training`.
        width_px: of every picture.
        height_px: of every picture.

    Returns:
        The folder `coco_detection`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    check_size(width_px, height_px)
    order = make_order(LAYOUT, seed, counts={"num_training": num_training, "num_validation": num_validation})
    recipe = {**order.recipe, "width_px": width_px, "height_px": height_px}
    files = _make_files(seed, order.counts, size_px=(width_px, height_px))
    return write_tree(root / LAYOUT, recipe, files=files)


def _make_files(seed: int, counts: Mapping[str, int], *, size_px: tuple[int, int]) -> Files:
    for place, (split, count) in enumerate(SPLITS.items()):
        listed = []
        for index in range(counts[count]):
            each = _Listed(139 + 146 * (len(SPLITS) * index + place), _draw(seed, split, index=index, size_px=size_px))
            yield f"{split}2017/{each.name}", encode_picture(each.scene.image)
            listed.append(each)
        yield f"annotations/instances_{split}2017.json", format_json(_list(listed, size_px), indent=None)


def _draw(seed: int, split: str, *, index: int, size_px: tuple[int, int]) -> Scene:
    own_seed = pair_seed(seed, f"{LAYOUT}-{split}", index=index)
    return draw_pair_scene(own_seed, width_px=size_px[0], height_px=size_px[1], mix=MIX)


def _list(listed: Sequence[_Listed], size_px: tuple[int, int]) -> dict[str, Any]:
    width, height = size_px
    return {
        "info": {"description": "miniworld"},
        "licenses": [],
        "images": [{"file_name": each.name, "height": height, "width": width, "id": each.number} for each in listed],
        "annotations": [annotation for each in listed for annotation in _list_annotations(each)],
        "categories": [
            {"supercategory": GROUPS.get(name, "outdoor"), "id": number, "name": name}
            for name, number in CATEGORIES.items()
        ],
    }


def _list_annotations(each: _Listed) -> Iterator[dict[str, Any]]:
    """Mark every thing, and behind them the groups."""
    for thing in each.scene.things:
        mask = each.mask([thing])
        yield _annotate(each, thing.name, mask, instance=thing.instance, outline=outline(mask), is_crowd=0)
    by_name = sorted(each.scene.things, key=lambda thing: thing.name)
    last = len(each.scene.things)
    for name, group in itertools.groupby(by_name, key=lambda thing: thing.name):
        if len(things := list(group)) >= CROWD_SIZE:
            last += 1
            mask = each.mask(things)
            yield _annotate(each, name, mask, instance=last, outline=to_runs(mask), is_crowd=1)


def _annotate(each: _Listed, name: str, mask: Mask, *, instance: int, outline: object, is_crowd: int) -> dict[str, Any]:
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    return {
        "segmentation": outline,
        "area": float(mask.sum()),
        "iscrowd": is_crowd,
        "image_id": each.number,
        "bbox": [float(left), float(top), float(columns.max() + 1 - left), float(rows.max() + 1 - top)],
        "category_id": CATEGORIES[name],
        "id": MAX_THINGS * each.number + instance,
    }


def outline(mask: Mask) -> list[list[float]]:
    """Cut the marked pixels into upright rectangles, each a polygon; together they cover exactly these pixels."""
    done: list[tuple[int, int, int, int]] = []  # left, top, right, bottom
    growing: dict[tuple[int, int], int] = {}  # left and right of a run, the row it began in
    for row in range(len(mask) + 1):
        runs = _find_runs(mask[row]) if row < len(mask) else set()
        for left, right in sorted(growing.keys() - runs):
            done.append((left, growing.pop((left, right)), right, row))
        for run in runs - growing.keys():
            growing[run] = row
    return [[float(side) for side in (x0, y0, x1, y0, x1, y1, x0, y1)] for x0, y0, x1, y1 in sorted(done)]


def _find_runs(row: Mask) -> set[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return {(int(left), int(right)) for left, right in edges.reshape(-1, 2)}


def to_runs(mask: Mask) -> dict[str, Any]:
    """Count runs of equal pixels down the columns, the first one of unmarked pixels, as crowds are written."""
    flat = mask.ravel(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"counts": [int(count) for count in counts], "size": list(mask.shape)}
