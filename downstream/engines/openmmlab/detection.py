"""A detection job from weights to scores."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from downstream.engines.account import describe_checkpoint
from downstream.engines.openmmlab.detection_fit import fit
from downstream.engines.openmmlab.detection_model import Detector, build_detector
from downstream.engines.openmmlab.detection_predict import DetectOptions, detect
from downstream.engines.openmmlab.detection_released import is_released, load_released
from downstream.engines.openmmlab.detection_settings import DetectionJob
from downstream.engines.openmmlab.loop import FitOptions
from downstream.engines.openmmlab.predict import PREDICTIONS_FILE
from downstream.engines.openmmlab.segmentation import PACKAGES, Outcome, choose_device, describe_device
from downstream.engines.openmmlab.state import STATE_FILE
from downstream.formats.coco_detection import Instances, Picture
from downstream.metrics.detection import class_aps, score
from downstream.workplace import Workplace
from models.checkpoint.load import LoadReport, load_state, save_state
from models.checkpoint.names import rename_state
from models.checkpoint.reader import file_sha256, open_checkpoint, read_state
from reports.provenance import Clock
from reports.record import CheckpointInfo

__all__ = ["CHECKPOINT_FILE", "PACKAGES", "choose_device", "describe_device", "evaluate", "prepare_detector"]

CHECKPOINT_FILE = "detector.safetensors"


def prepare_detector(
    job: DetectionJob, training: Instances | None, *, workplace: Workplace, clock: Clock
) -> tuple[Detector, CheckpointInfo]:
    """Give the detector to evaluate: a fine-tuned checkpoint, or one that is fine-tuned now.

    Args:
        job: what to build.
        training: for the fine-tuning; None where there is a checkpoint.
        workplace: where the run writes and speaks.
        clock: gets the seconds of training.

    Raises:
        ValueError: weights that do not fit, or cannot be read safely.
        FileNotFoundError: weights that are not there.
    """
    if job.checkpoint is not None or training is None:
        assert job.checkpoint is not None, "a job without weights has pictures to learn from"
        return _load_finetuned(job, job.checkpoint, workplace)
    detector = build_detector(job.profile, num_classes=job.num_classes, seed=job.seed)
    device = choose_device(job.device)
    path = workplace.folder / CHECKPOINT_FILE
    start = job.pretrained.name if job.pretrained else f"random initialisation, seed {job.seed}"
    name = f"{CHECKPOINT_FILE} (fine-tuned from {start})"
    if workplace.is_resumed and path.is_file():
        report = load_state(detector, read_state(path))
        return detector.to(device), describe_checkpoint(report, name=name, sha256=file_sha256(path))
    report = _load_pretrained(detector, job, workplace)
    seconds = fit(
        detector.to(device),
        training,
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
    save_state(detector.state_dict(), path, metadata={"profile": json.dumps(job.profile.model_dump(mode="json"))})
    (workplace.folder / STATE_FILE).unlink(missing_ok=True)  # only an unfinished training needs it
    return detector, describe_checkpoint(report, name=name, sha256=file_sha256(path))


def _load_finetuned(job: DetectionJob, path: Path, workplace: Workplace) -> tuple[Detector, CheckpointInfo]:
    """Build the detector of a fine-tuned file, published or ours."""
    device = choose_device(job.device)
    checkpoint = open_checkpoint(path)
    load = load_released if is_released(checkpoint) else load_state
    detector = build_detector(job.profile, num_classes=job.num_classes, seed=job.seed)
    report = load(detector, {name: checkpoint.tensor(name) for name in checkpoint.names})
    workplace.say(f"loaded {path.name}: {report}")
    return detector.to(device), describe_checkpoint(report, name=path.name, sha256=file_sha256(path))


def _load_pretrained(detector: Detector, job: DetectionJob, workplace: Workplace) -> LoadReport:
    """Load encoder weights where some are named; everything around the encoder starts fresh either way."""
    if job.pretrained is None:
        return LoadReport(loaded=tuple(detector.state_dict()), missing=(), unexpected=(), reshaped=())
    encoder = detector.backbone.model
    kept = tuple(encoder.state_dict())
    state = rename_state(read_state(job.pretrained))
    report = load_state(encoder, {name: value for name, value in state.items() if name in kept})
    workplace.say(f"loaded {job.pretrained.name} into the encoder: {report}")
    return report


def evaluate(
    detector: Detector,
    job: DetectionJob,
    instances: Instances,
    pictures: Sequence[Picture],
    *,
    workplace: Workplace,
    clock: Clock,
) -> Outcome:
    """Detect and score."""
    started = time.monotonic()
    found = detect(
        detector,
        pictures,
        profile=job.profile,
        options=DetectOptions(
            folder=workplace.folder,
            categories=tuple(instances.categories),
            num_workers=job.num_workers,
            progress=lambda done, total: workplace.progress("predicting", done, total, ""),
        ),
    )
    clock.add("eval_s", time.monotonic() - started)
    truth = instances.select(pictures)
    return Outcome(
        metrics=score(truth, found, seed=job.seed),
        per_class=class_aps(truth, found),
        artifacts={"predictions": PREDICTIONS_FILE},
    )
