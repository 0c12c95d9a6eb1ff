"""Detection: one picture at a time, written down as it goes, so that a resumed run goes on where it stopped."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as packed
from torch.utils.data import DataLoader

from downstream.engines.openmmlab.detection_data import PictureSet, test_pipeline
from downstream.engines.openmmlab.detection_model import Detector
from downstream.engines.openmmlab.detection_settings import DetectionProfile
from downstream.engines.openmmlab.imports import prepare
from downstream.engines.openmmlab.predict import DTYPES, PREDICTIONS_FILE, end_torn_line
from downstream.formats.coco_detection import Picture
from downstream.metrics.detection import Detection

prepare()

from mmengine.dataset import pseudo_collate  # noqa: E402


@dataclass(frozen=True)
class DetectOptions:
    """Where and how a detection runs."""

    folder: Path
    """The run's folder: per-picture rows."""
    categories: Sequence[int]
    """Ids by class number."""
    num_workers: int
    progress: Callable[[int, int], None]
    """Called with pictures done and pictures in all."""


def detect(
    detector: Detector, pictures: Sequence[Picture], *, profile: DetectionProfile, options: DetectOptions
) -> dict[int, tuple[Detection, ...]]:
    """Look at every picture that the run's folder has no row of yet.

    Returns:
        What was found, by picture id, in the order of `pictures`; rows of an earlier, interrupted call included.
    """
    detector.eval()
    options.folder.mkdir(parents=True, exist_ok=True)
    done = read_rows(options.folder)
    left = [picture for picture in pictures if picture.id not in done]
    end_torn_line(options.folder / PREDICTIONS_FILE)
    counted = len(pictures) - len(left)
    for number, (picture, found) in enumerate(_run(detector, left, profile=profile, options=options), start=1):
        _append_row(options.folder, picture, found)
        done[picture.id] = found
        options.progress(counted + number, len(pictures))
    return {picture.id: done[picture.id] for picture in pictures}


def _run(
    detector: Detector, pictures: Sequence[Picture], *, profile: DetectionProfile, options: DetectOptions
) -> Iterator[tuple[Picture, tuple[Detection, ...]]]:
    if not pictures:
        return
    dataset = PictureSet(pictures, test_pipeline(profile.picture))
    loader = DataLoader(dataset, batch_size=1, num_workers=options.num_workers, collate_fn=pseudo_collate)
    device, dtype = next(detector.parameters()).device, DTYPES[profile.precision]
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        for picture, batch in zip(pictures, loader, strict=True):
            yield picture, _take(detector.test_step(batch)[0].pred_instances.cpu(), options.categories)


def _take(found: Any, categories: Sequence[int]) -> tuple[Detection, ...]:
    """Bring what the detector found in one picture to plain values."""
    taken = []
    for number in range(len(found)):
        left, top, right, bottom = (float(side) for side in found.bboxes[number])
        runs = packed.encode(np.asfortranarray(found.masks[number].numpy().astype(np.uint8)))
        taken.append(
            Detection(
                category=categories[int(found.labels[number])],
                box=(left, top, right - left, bottom - top),
                score=float(found.scores[number]),
                mask_score=float(found.mask_scores[number]),
                runs={"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")},
            )
        )
    return tuple(taken)


def _append_row(folder: Path, picture: Picture, found: Sequence[Detection]) -> None:
    """Append one line; a kill loses at most this one."""
    row = {"id": picture.id, "picture": picture.image.name, "found": [each.to_row() for each in found]}
    with (folder / PREDICTIONS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(folder: Path) -> dict[int, tuple[Detection, ...]]:
    """Read the rows written so far; a line that a kill cut off is left out."""
    path = folder / PREDICTIONS_FILE
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[int(row["id"])] = tuple(Detection.from_row(each) for each in row["found"])
    return rows
