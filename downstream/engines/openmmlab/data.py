"""Pipelines and data sets: a folder of pictures and labels to what the segmentor takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from downstream.engines.openmmlab.imports import prepare
from downstream.engines.settings import GeometrySettings
from downstream.formats.segmentation import LabelledSet, Pair, class_table

prepare()

import mmcv  # noqa: E402
from mmcv.transforms import BaseTransform  # noqa: E402
from mmengine.dataset import Compose  # noqa: E402
from mmseg.registry import TRANSFORMS  # noqa: E402

TEST_META = (
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
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


@TRANSFORMS.register_module()
class NumberClasses(BaseTransform):  # type: ignore[misc]  # the registry has no types
    """Turn what a label file says into class numbers.

    Args:
        table: (256,), the class number of each value.
    """

    def __init__(self, table: NDArray[np.uint8]) -> None:
        self.table = table

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Number the pixels of the label."""
        return {**results, "gt_seg_map": self.table[results["gt_seg_map"]]}


def train_pipeline(geometry: GeometrySettings, data: LabelledSet) -> list[dict[str, Any]]:
    """The released training pipeline."""
    crop = (geometry.crop_px, geometry.crop_px)
    return [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {"type": "NumberClasses", "table": class_table(data)},
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
        return [{"type": "LoadImageFromFile"}, whole, fit, pack]
    scales = [tuple(round(side * ratio) for side in geometry.scale_px) for ratio in geometry.test_ratios]
    views = [
        [{"type": "Resize", "scale": scale, "keep_ratio": True} for scale in scales],
        [fit],
        [{"type": "RandomFlip", "prob": probability, "direction": "horizontal"} for probability in (0.0, 1.0)],
        [{"type": "PadShortSide", "size_px": geometry.crop_px}],
        [pack],
    ]
    return [{"type": "LoadImageFromFile"}, {"type": "TestTimeAug", "transforms": views}]


class PairDataset(Dataset[dict[str, Any]]):
    """Exactly some pairs, in their order, each through a pipeline.

    Args:
        pairs: pictures and labels.
        pipeline: transforms in MMSegmentation's words.
    """

    def __init__(self, pairs: Sequence[Pair], pipeline: list[dict[str, Any]]) -> None:
        self.pairs = tuple(pairs)
        self.pipeline = Compose(pipeline)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.pairs[index]
        places = {"img_path": str(pair.image), "seg_map_path": str(pair.label)}
        drawn: dict[str, Any] = self.pipeline({**places, "seg_fields": [], "reduce_zero_label": False})
        return drawn


class SeededDataset(Dataset[dict[str, Any]]):
    """Draws each training sample with random numbers of its own, so that a resumed run draws the same ones.

    Args:
        dataset: the data set with its pipeline.
        seed: of the run.
    """

    def __init__(self, dataset: Dataset[dict[str, Any]], *, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.metainfo: dict[str, Any] = {}  # the Runner asks for it

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
