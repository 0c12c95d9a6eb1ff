"""Prediction: one picture at a time, written down as it goes, so that a resumed run goes on where it stopped."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from downstream.engines.openmmlab.data import PairDataset, test_pipeline
from downstream.engines.openmmlab.imports import prepare
from downstream.engines.openmmlab.model import Segmentor
from downstream.engines.settings import SegmentationProfile
from downstream.formats.segmentation import IGNORED, LabelledSet, Pair, read_classes, write_classes
from downstream.metrics.segmentation import Areas

prepare()

from mmengine.dataset import pseudo_collate  # noqa: E402
from mmseg.evaluation import IoUMetric  # noqa: E402
from mmseg.models import SegTTAModel  # noqa: E402

PREDICTIONS_FILE = "predictions.jsonl"
PREDICTIONS_FOLDER = "predictions"

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class PredictOptions:
    """Where and how a prediction runs."""

    data: LabelledSet
    folder: Path
    """The run's folder: per-sample rows and label files."""
    has_views: bool
    """All scales and flips instead of one view."""
    num_workers: int
    progress: Callable[[int, int], None]
    """Called with pictures done and pictures in all."""


def predict(
    segmentor: Segmentor, pairs: Sequence[Pair], *, profile: SegmentationProfile, options: PredictOptions
) -> dict[str, Areas]:
    """Predict every pair that the run's folder has no row of yet.

    Returns:
        Areas by sample id, in the order of `pairs`; rows of an earlier, interrupted call included.
    """
    segmentor.eval()
    model = SegTTAModel(module=segmentor) if options.has_views else segmentor
    done = read_rows(options.folder)
    left = [pair for pair in pairs if pair.id not in done]
    (options.folder / PREDICTIONS_FOLDER).mkdir(parents=True, exist_ok=True)
    end_torn_line(options.folder / PREDICTIONS_FILE)
    counted = len(pairs) - len(left)
    for number, (pair, areas) in enumerate(_run(model, left, profile=profile, options=options), start=1):
        _append_row(options.folder, pair.id, areas)
        done[pair.id] = areas
        options.progress(counted + number, len(pairs))
    return {pair.id: done[pair.id] for pair in pairs}


def _run(
    model: Any, pairs: Sequence[Pair], *, profile: SegmentationProfile, options: PredictOptions
) -> Iterator[tuple[Pair, Areas]]:
    if not pairs:
        return
    dataset = PairDataset(pairs, test_pipeline(profile.geometry, has_views=options.has_views))
    loader = DataLoader(dataset, batch_size=1, num_workers=options.num_workers, collate_fn=pseudo_collate)
    device = next(model.parameters()).device
    dtype = DTYPES[profile.precision]
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        for pair, batch in zip(pairs, loader, strict=True):
            label = model.test_step(batch)[0].pred_sem_seg.data.squeeze().cpu()
            write_classes(options.data, label.numpy(), options.folder / PREDICTIONS_FOLDER / f"{pair.id}.png")
            yield pair, _measure(label, read_classes(options.data, pair), options.data.num_classes)


def _measure(prediction: Tensor, truth: NDArray[np.uint8], num_classes: int) -> Areas:
    """Count pixels by class, as MMSegmentation's metric does."""
    label = torch.from_numpy(truth).long()
    intersect, _, predicted, labelled = IoUMetric.intersect_and_union(prediction, label, num_classes, IGNORED)
    return Areas(*(area.numpy().astype(np.int64) for area in (intersect, predicted, labelled)))


def _append_row(folder: Path, sample_id: str, areas: Areas) -> None:
    """Append one line; a kill loses at most this one."""
    with (folder / PREDICTIONS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": sample_id, **areas.to_sparse()}) + "\n")


def end_torn_line(path: Path) -> None:
    """Keep a line that a kill cut off apart from the next one."""
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")


def read_rows(folder: Path) -> dict[str, Areas]:
    """Read the rows written so far; a line that a kill cut off is left out."""
    path = folder / PREDICTIONS_FILE
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["id"]] = Areas.from_sparse(row)
    return rows
