"""A segmentation job from weights to scores."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from downstream.engines.account import describe_checkpoint
from downstream.engines.openmmlab.fit import fit
from downstream.engines.openmmlab.imports import EXPECTED, prepare
from downstream.engines.openmmlab.loop import FitOptions
from downstream.engines.openmmlab.model import Segmentor, build_segmentor
from downstream.engines.openmmlab.predict import PREDICTIONS_FILE, PREDICTIONS_FOLDER, PredictOptions, predict
from downstream.engines.openmmlab.released import (
    CLASS_HEAD,
    CLASSES,
    check_classes,
    count_classes,
    is_released,
    is_segmentor,
    load_released,
)
from downstream.engines.openmmlab.state import STATE_FILE
from downstream.engines.settings import SegmentationJob
from downstream.formats.segmentation import LabelledSet, Pair
from downstream.metrics.segmentation import Areas, class_ious, picture_ious, score
from downstream.pictures import Triple, draw_grid
from downstream.workplace import Workplace
from models.checkpoint.load import LoadReport, load_state, save_state
from models.checkpoint.names import rename_state
from models.checkpoint.reader import Checkpoint, file_sha256, open_checkpoint, read_state
from models.world import choose_kind
from reports.provenance import Clock, describe_processor
from reports.record import CheckpointInfo, MetricValue

prepare()

from mmseg.registry import DATASETS  # noqa: E402

PACKAGES = tuple(EXPECTED.values())
CHECKPOINT_FILE = "segmentor.safetensors"
PICTURES_FILE = "pictures.png"
NUM_PICTURES = 6


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found."""

    metrics: tuple[MetricValue, ...]
    per_class: dict[str, float | None]
    artifacts: dict[str, str]
    """What a file is, to its name in the run's folder."""


def class_names(data: LabelledSet) -> tuple[str, ...]:
    """Name a data set's classes by number, as MMSegmentation does."""
    return tuple(DATASETS.get(data.library_name).METAINFO["classes"])


def class_colours(data: LabelledSet) -> NDArray[np.uint8]:
    """Give the colour of every value that a label file may hold: (256, 3), black where it is no class."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[list(data.values)] = DATASETS.get(data.library_name).METAINFO["palette"]
    return colours


def choose_device(name: str) -> torch.device:
    """Turn `auto` into the machine's best device.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        return torch.device(choose_kind(name))
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}, but torch finds no GPU here; try --device cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}); try --device cpu") from None


def describe_device(device: torch.device) -> str:
    """Name the device for the record."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else describe_processor()


def prepare_segmentor(
    job: SegmentationJob, training_pairs: Sequence[Pair], *, workplace: Workplace, clock: Clock
) -> tuple[Segmentor, CheckpointInfo]:
    """Give the segmentor to evaluate: a fine-tuned checkpoint, or one that is fine-tuned now.

    Args:
        job: what to build.
        training_pairs: for the fine-tuning; not looked at where there is a checkpoint.
        workplace: where the run writes and speaks.
        clock: gets the seconds of training.

    Raises:
        ValueError: weights that do not fit, or cannot be read safely.
        FileNotFoundError: weights that are not there.
    """
    if job.checkpoint is not None:
        return _load_finetuned(job, job.checkpoint, workplace)
    segmentor = build_segmentor(job.profile, num_classes=job.num_classes, seed=job.seed)
    device = choose_device(job.device)
    path = workplace.folder / CHECKPOINT_FILE
    start = job.pretrained.name if job.pretrained else f"random initialisation, seed {job.seed}"
    name = f"{CHECKPOINT_FILE} (fine-tuned from {start})"
    if workplace.is_resumed and path.is_file():
        report = load_state(segmentor, read_state(path))
        return segmentor.to(device), describe_checkpoint(report, name=name, sha256=file_sha256(path))
    report = _load_pretrained(segmentor, job, workplace)
    segmentor.to(device)
    seconds = fit(
        segmentor,
        training_pairs,
        data=job.data,
        profile=job.profile,
        options=FitOptions(
            folder=workplace.folder,
            seed=job.seed,
            num_workers=job.num_workers,
            is_resumed=workplace.is_resumed,
            progress=lambda done, total, loss: workplace.progress("fine-tuning", done, total, f"loss {loss:.2f}"),
        ),
    )
    clock.add("train_s", seconds)
    facts = {"profile": job.profile.model_dump(mode="json"), CLASSES: class_names(job.data)}
    save_state(segmentor.state_dict(), path, metadata={key: json.dumps(value) for key, value in facts.items()})
    (workplace.folder / STATE_FILE).unlink(missing_ok=True)  # only an unfinished training needs it
    return segmentor, describe_checkpoint(report, name=name, sha256=file_sha256(path))


def _load_finetuned(job: SegmentationJob, path: Path, workplace: Workplace) -> tuple[Segmentor, CheckpointInfo]:
    """Build the segmentor of a fine-tuned file, published or ours; what the file says of itself is judged first."""
    device = choose_device(job.device)
    checkpoint = open_checkpoint(path)
    check_classes(checkpoint, class_names(job.data))
    segmentor = build_segmentor(job.profile, num_classes=job.num_classes, seed=job.seed)
    report = _load_whole(segmentor, checkpoint)
    workplace.say(f"loaded {path.name}: {report}")
    return segmentor.to(device), describe_checkpoint(report, name=path.name, sha256=file_sha256(path))


def _load_whole(segmentor: Segmentor, checkpoint: Checkpoint, *, without: tuple[str, ...] = ()) -> LoadReport:
    """Load a segmentor by published names or ours, strictly but for parts that keep the values they have."""
    load = load_released if is_released(checkpoint) else load_state
    state = {name: checkpoint.tensor(name) for name in checkpoint.names if not name.startswith(without)}
    return load(segmentor, state, may_miss=without)


def _load_pretrained(segmentor: Segmentor, job: SegmentationJob, workplace: Workplace) -> LoadReport:
    """Load weights to start from where some are named: an encoder's, or a segmentor's of an earlier stage."""
    names = tuple(segmentor.state_dict())
    if job.pretrained is None:
        return LoadReport(loaded=names, missing=(), unexpected=(), reshaped=())
    checkpoint = open_checkpoint(job.pretrained)
    if is_segmentor(checkpoint):
        return _load_stage(segmentor, checkpoint, job=job, workplace=workplace)
    kept = tuple(segmentor.backbone.model.state_dict())
    state = rename_state({name: checkpoint.tensor(name) for name in checkpoint.names})
    report = load_state(segmentor.backbone.model, {name: value for name, value in state.items() if name in kept})
    workplace.say(f"loaded {job.pretrained.name} into the encoder: {report}")
    return report


def _load_stage(
    segmentor: Segmentor, checkpoint: Checkpoint, *, job: SegmentationJob, workplace: Workplace
) -> LoadReport:
    """Load the segmentor of an earlier stage; what tells other classes apart starts fresh, as in the released recipe.

    Source: reference one_peace_vision/seg/README.md, `--load-from`, which leaves out what has another shape.
    """
    name, number = checkpoint.path.name, count_classes(checkpoint)
    if number is None or number == job.num_classes:
        report = _load_whole(segmentor, checkpoint)
    else:
        workplace.say(f"{name} was made for {number} classes: what tells the {job.num_classes} apart starts fresh")
        report = _load_whole(segmentor, checkpoint, without=(CLASS_HEAD,))
    workplace.say(f"loaded {name} into the segmentor: {report}")
    return report


def evaluate(
    segmentor: Segmentor, job: SegmentationJob, pairs: Sequence[Pair], *, workplace: Workplace, clock: Clock
) -> Outcome:
    """Predict, score, and draw what the best and the worst look like."""
    started = time.monotonic()
    rows = predict(
        segmentor,
        pairs,
        profile=job.profile,
        options=PredictOptions(
            data=job.data,
            folder=workplace.folder,
            has_views=job.has_views,
            num_workers=job.num_workers,
            progress=lambda done, total: workplace.progress("predicting", done, total, ""),
        ),
    )
    clock.add("eval_s", time.monotonic() - started)
    areas = list(rows.values())
    _draw(pairs, rows, class_colours(job.data), workplace=workplace)
    return Outcome(
        metrics=score(areas, seed=job.seed),
        per_class=class_ious(areas, class_names(job.data)),
        artifacts={"predictions": PREDICTIONS_FILE, "labels": PREDICTIONS_FOLDER, "pictures": PICTURES_FILE},
    )


def _draw(
    pairs: Sequence[Pair], rows: Mapping[str, Areas], colours: NDArray[np.uint8], *, workplace: Workplace
) -> None:
    """Draw the best and the worst pictures."""
    ranked = sorted(pairs, key=lambda pair: -picture_ious(rows[pair.id]))
    half = NUM_PICTURES // 2
    shown = ranked if len(ranked) <= NUM_PICTURES else [*ranked[:half], *ranked[-half:]]
    triples = [
        Triple(
            caption=f"{pair.id}   mIoU {picture_ious(rows[pair.id]):.1f}",
            image=pair.image,
            truth=pair.label,
            prediction=workplace.folder / PREDICTIONS_FOLDER / f"{pair.id}.png",
        )
        for pair in shown
    ]
    draw_grid(triples, colours).save(workplace.folder / PICTURES_FILE)
