"""Pipelines and data sets: pictures and marked things to what the detector takes."""

import contextlib
import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from downstream.engines.openmmlab.detection_settings import WindowSettings
from downstream.engines.openmmlab.imports import prepare
from downstream.formats.coco_detection import Instances, Picture

prepare()

with contextlib.redirect_stdout(io.StringIO()):  # "Could not import OneDL" is a plain print
    importlib.import_module("mmdet.datasets.transforms")  # registers what the pipelines are made of

from mmengine.dataset import Compose  # noqa: E402

SMALLEST_SIDE_PX = 1.0  # of a thing that is trained on; detectron2 leaves out empty ones
SMALLEST_LEFT_PX = 1e-2  # of what a crop leaves of it
PILLOW = "pillow"  # detectron2's decoder and filter; OpenCV's bilinear filter does not average when it shrinks


def train_pipeline(settings: WindowSettings) -> list[dict[str, Any]]:
    """The released training pipeline: a random size, a random crop of the square, a random flip."""
    square = (settings.side_px, settings.side_px)
    resize = {"type": "RandomResize", "scale": square, "ratio_range": settings.train_ratio, "keep_ratio": True}
    return [
        {"type": "LoadImageFromFile", "imdecode_backend": PILLOW},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
        {**resize, "resize_type": "Resize", "backend": PILLOW},
        {"type": "RandomCrop", "crop_size": square, "recompute_bbox": True, "allow_negative_crop": True},
        {"type": "FilterAnnotations", "min_gt_bbox_wh": (SMALLEST_LEFT_PX, SMALLEST_LEFT_PX), "keep_empty": False},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PackDetInputs"},
    ]


def test_pipeline(settings: WindowSettings) -> list[dict[str, Any]]:
    """The released test pipeline: the longer side to that of the square."""
    square = (settings.side_px, settings.side_px)
    return [
        {"type": "LoadImageFromFile", "imdecode_backend": PILLOW},
        {"type": "Resize", "scale": square, "keep_ratio": True, "backend": PILLOW},
        {"type": "PackDetInputs", "meta_keys": ("img_id", "ori_shape", "img_shape", "scale_factor")},
    ]


class PictureSet(Dataset[dict[str, Any]]):
    """Pictures in their order, each through a pipeline; those to train on bring their things along.

    Args:
        pictures: what is in it.
        pipeline: of MMDetection's transforms.
        instances: the split that marks the things; None where only pictures are wanted.
    """

    def __init__(
        self, pictures: Sequence[Picture], pipeline: list[dict[str, Any]], *, instances: Instances | None = None
    ) -> None:
        with_scope = [{**step, "_scope_": "mmdet"} for step in pipeline]
        self.rows = [_to_row(picture, instances) for picture in pictures]
        self.transform = Compose(with_scope)
        self.metainfo: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        made: dict[str, Any] = self.transform({**row, "instances": [dict(one) for one in row["instances"]]})
        return made


def pick_trainable(instances: Instances) -> tuple[Picture, ...]:
    """Pick the pictures that show something to learn from; the others teach a cascade nothing but background."""
    return tuple(picture for picture in instances.pictures if _list_things(picture, instances))


def _to_row(picture: Picture, instances: Instances | None) -> dict[str, Any]:
    return {
        "img_path": str(picture.image),
        "img_id": picture.id,
        "height": picture.height_px,
        "width": picture.width_px,
        "instances": _list_things(picture, instances) if instances else [],
    }


def _list_things(picture: Picture, instances: Instances) -> list[dict[str, Any]]:
    numbers = {category: number for number, category in enumerate(instances.categories)}
    marked = instances.annotations.get(picture.id, ())
    return [_to_thing(one, numbers[one["category_id"]]) for one in marked if _is_learned_from(one)]


def _is_learned_from(annotation: Mapping[str, Any]) -> bool:
    """Leave out crowds, as detectron2 does, and things without extent."""
    return not annotation["iscrowd"] and min(annotation["bbox"][2:]) >= SMALLEST_SIDE_PX and annotation["area"] > 0


def _to_thing(annotation: Mapping[str, Any], number: int) -> dict[str, Any]:
    left, top, width, height = annotation["bbox"]
    return {
        "bbox": [left, top, left + width, top + height],
        "bbox_label": number,
        "mask": annotation["segmentation"],
        "ignore_flag": 0,
    }
