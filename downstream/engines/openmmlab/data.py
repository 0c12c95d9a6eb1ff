"""Pipelines and data sets: a folder of pictures and labels to what the segmentor takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from downstream.engines.openmmlab.imports import prepare
from downstream.engines.settings import GeometrySettings
from downstream.formats.ade20k import Pair

prepare()

import mmcv  # noqa: E402
from mmcv.transforms import BaseTransform  # noqa: E402
from mmseg.registry import DATASETS, TRANSFORMS  # noqa: E402

LABEL_PAD = 255

# `pad_shape` stays out: the head would trust it over the size of a sliding window.
TEST_META = (
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "reduce_zero_label",
    "img_padding_size",
)


@TRANSFORMS.register_module()
class PadShortSide(BaseTransform):  # type: ignore[misc]  # the registry has no types
    """Pad right and bottom so that no side is shorter than the window; the result is cut back afterwards.

    Args:
        size_px: the window's side.

    Source: reference one_peace_vision/seg, PadShortSide of the multi-scale test.
    """

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pad the picture and note by how much: left, right, top, bottom."""
        height, width = results["img"].shape[:2]
        bottom, right = max(self.size_px - height, 0), max(self.size_px - width, 0)
        padded = mmcv.impad(results["img"], padding=(0, 0, right, bottom), pad_val=0)
        return {**results, "img": padded, "img_shape": padded.shape[:2], "img_padding_size": (0, right, 0, bottom)}


def train_pipeline(geometry: GeometrySettings) -> list[dict[str, Any]]:
    """The released training pipeline."""
    crop = (geometry.crop_px, geometry.crop_px)
    return [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {"type": "RandomResize", "scale": geometry.scale_px, "ratio_range": geometry.train_ratio, "keep_ratio": True},
        {"type": "RandomCrop", "crop_size": crop, "cat_max_ratio": geometry.max_class_share},
        {"type": "RandomFlip", "prob": 0.5},
        *([{"type": "PhotoMetricDistortion"}] if geometry.has_photometric_distortion else []),
        {"type": "PackSegInputs"},
    ]


def test_pipeline(geometry: GeometrySettings, *, has_views: bool) -> list[dict[str, Any]]:
    """The released test pipeline: one view, or every scale with and without a flip."""
    fit = {"type": "ResizeToMultiple", "size_divisor": geometry.size_divisor}
    pack = {"type": "PackSegInputs", "meta_keys": TEST_META}
    whole = {"type": "Resize", "scale": geometry.scale_px, "keep_ratio": True}
    if not has_views:
        return [{"type": "LoadImageFromFile"}, whole, fit, {"type": "LoadAnnotations"}, pack]
    scales = [tuple(round(side * ratio) for side in geometry.scale_px) for ratio in geometry.test_ratios]
    views = [
        [{"type": "Resize", "scale": scale, "keep_ratio": True} for scale in scales],
        [fit],
        [{"type": "RandomFlip", "prob": probability, "direction": "horizontal"} for probability in (0.0, 1.0)],
        [{"type": "PadShortSide", "size_px": geometry.crop_px}],
        [{"type": "LoadAnnotations"}],
        [pack],
    ]
    return [{"type": "LoadImageFromFile"}, {"type": "TestTimeAug", "transforms": views}]


def build_dataset(pairs: Sequence[Pair], pipeline: list[dict[str, Any]]) -> Dataset[dict[str, Any]]:
    """Build MMSegmentation's ADE20K data set over exactly these pairs, in this order."""
    folder, labels = pairs[0].image.parent, pairs[0].label.parent
    dataset = DATASETS.build(
        {
            "type": "ADE20KDataset",
            "data_prefix": {"img_path": str(folder), "seg_map_path": str(labels)},
            "pipeline": pipeline,
            "serialize_data": False,
        }
    )
    found = {Path(entry["img_path"]).stem: entry for entry in dataset.data_list}
    dataset.data_list = [found[pair.id] for pair in pairs]
    picked: Dataset[dict[str, Any]] = dataset
    return picked


class SeededDataset(Dataset[dict[str, Any]]):
    """Draws each training sample with random numbers of its own, so that a resumed run draws the same ones.

    Args:
        dataset: the data set with its pipeline.
        seed: of the run.
    """

    def __init__(self, dataset: Dataset[dict[str, Any]], *, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.metainfo: dict[str, Any] = dataset.metainfo  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        number, index = draw
        np.random.seed(np.random.SeedSequence([self.seed, number]).generate_state(1))  # noqa: NPY002, what mmcv reads
        return self.dataset[index]


class EndlessSampler(Sampler[tuple[int, int]]):
    """Shuffled passes over a data set without end, from any point on.

    Args:
        num_samples: samples of the data set.
        seed: of the run.
        start: draws already used.
    """

    def __init__(self, num_samples: int, *, seed: int, start: int = 0) -> None:
        self.num_samples, self.seed, self.start = num_samples, seed, start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        number = self.start
        order, current_pass = torch.empty(0, dtype=torch.long), -1
        while True:
            if number // self.num_samples != current_pass:
                current_pass = number // self.num_samples
                generator = torch.Generator().manual_seed(self.seed + current_pass)
                order = torch.randperm(self.num_samples, generator=generator)
            yield number, int(order[number % self.num_samples])
            number += 1
