"""Fine-tuning of a detector with mmengine's Runner: our optimiser, data order and state, its loop."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from downstream.engines.openmmlab.data import EndlessSampler, SeededDataset
from downstream.engines.openmmlab.detection_data import PictureSet, pick_trainable, train_pipeline
from downstream.engines.openmmlab.detection_model import Detector
from downstream.engines.openmmlab.detection_optim import build_optimizer, build_schedulers
from downstream.engines.openmmlab.detection_settings import DetectionProfile
from downstream.engines.openmmlab.fit import Progress, TrainingHook
from downstream.engines.openmmlab.imports import prepare
from downstream.engines.openmmlab.state import STATE_FILE, Training
from downstream.formats.coco_detection import Instances

prepare()

from mmengine.optim import AmpOptimWrapper, OptimWrapper  # noqa: E402
from mmengine.runner import Runner  # noqa: E402


@dataclass(frozen=True)
class DetectionFitOptions:
    """Where and how a training runs."""

    folder: Path
    """The run's folder: log and state."""
    seed: int
    num_workers: int
    is_resumed: bool
    progress: Progress


def fit(detector: Detector, instances: Instances, *, profile: DetectionProfile, options: DetectionFitOptions) -> float:
    """Train a detector in place on the pictures that show something.

    Returns:
        Seconds of training in this process; a resumed one does not know of the seconds before it.

    Raises:
        ValueError: no picture shows anything, or the state to resume from is damaged.
    """
    settings = profile.training
    pictures = pick_trainable(instances)
    if not pictures:
        raise ValueError(f"{instances.path} marks nothing to learn from, expected at least one thing that is no crowd")
    optimizer = build_optimizer(detector, num_layers=len(detector.backbone.sides), settings=settings)
    training = Training(detector, optimizer, build_schedulers(optimizer, settings))
    path = options.folder / STATE_FILE
    done, random_state = training.load(path) if options.is_resumed and path.is_file() else (0, None)
    if done == settings.iterations:
        return 0.0
    hook = TrainingHook(
        training,
        settings,
        options,  # type: ignore[arg-type]  # it looks at the folder and the progress alone
        done=done,
        random_state=random_state,
    )
    dataset = SeededDataset(
        PictureSet(pictures, train_pipeline(profile.picture), instances=instances), seed=options.seed
    )
    started = time.monotonic()
    with TemporaryDirectory() as work_dir:  # for the Runner's own log, which says nothing that ours does not
        _build_runner(training, dataset, profile=profile, options=options, hook=hook, work_dir=work_dir).train()
    return time.monotonic() - started


def _build_runner(
    training: Training,
    dataset: SeededDataset,
    *,
    profile: DetectionProfile,
    options: DetectionFitOptions,
    hook: TrainingHook,
    work_dir: str,
) -> Any:
    settings, done = profile.training, hook.done
    return Runner(
        model=training.model,
        work_dir=work_dir,
        train_dataloader={
            "batch_size": settings.micro_batch_size,
            "num_workers": options.num_workers,
            "persistent_workers": options.num_workers > 0,
            "sampler": EndlessSampler(len(dataset), seed=options.seed, start=done * settings.batch_size),
            "dataset": dataset,
            "collate_fn": {"type": "pseudo_collate"},
        },
        train_cfg={"by_epoch": False, "max_iters": (settings.iterations - done) * settings.accumulation},
        optim_wrapper=_wrap_optimizer(training, profile),
        default_hooks={"logger": None, "checkpoint": None, "sampler_seed": None, "param_scheduler": None},
        custom_hooks=[hook],
        randomness={"seed": options.seed},
        default_scope="mmdet",
        log_level="ERROR",
        experiment_name="fit-detection",
    )


def _wrap_optimizer(training: Training, profile: DetectionProfile) -> Any:
    options: dict[str, Any] = {"optimizer": training.optimizer, "accumulative_counts": profile.training.accumulation}
    if profile.training.max_grad_norm is not None:
        options["clip_grad"] = {"max_norm": profile.training.max_grad_norm}
    if profile.precision == "float32":
        return OptimWrapper(**options)
    return AmpOptimWrapper(dtype=profile.precision, **options)
