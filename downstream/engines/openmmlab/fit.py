"""Fine-tuning with mmengine's Runner: our optimiser, data order and state, its loop."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from downstream.engines.openmmlab.data import EndlessSampler, SeededDataset, build_dataset, train_pipeline
from downstream.engines.openmmlab.imports import prepare
from downstream.engines.openmmlab.model import Segmentor
from downstream.engines.openmmlab.optim import build_optimizer, build_schedulers
from downstream.engines.openmmlab.state import STATE_FILE, Training
from downstream.engines.settings import SegmentationProfile
from downstream.formats.ade20k import Pair

prepare()

from mmengine.dist import get_rank, get_world_size  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.optim import AmpOptimWrapper, OptimWrapper  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

LOG_INTERVAL = 10

Progress = Callable[[int, int, float], None]
"""Called with iterations done, iterations in all, and the loss."""


@dataclass(frozen=True)
class FitOptions:
    """Where and how a training runs."""

    folder: Path
    """The run's folder: log and state."""
    seed: int
    num_workers: int
    is_resumed: bool
    progress: Progress


def fit(segmentor: Segmentor, pairs: Sequence[Pair], *, profile: SegmentationProfile, options: FitOptions) -> float:
    """Train a segmentor in place.

    Returns:
        Seconds of training in this process; a resumed one does not know of the seconds before it.

    Raises:
        ValueError: the state to resume from is damaged or belongs to other settings.
    """
    settings = profile.training
    optimizer = build_optimizer(segmentor, num_layers=_num_layers(segmentor), settings=settings)
    recipe = json.dumps([profile.model_dump(mode="json"), options.seed, [pair.id for pair in pairs]])
    training = Training(segmentor, optimizer, build_schedulers(optimizer, settings), recipe)
    path = options.folder / STATE_FILE
    done, random_state = training.load(path) if options.is_resumed and path.is_file() else (0, None)
    if done == settings.iterations:
        return 0.0
    hook = _TrainingHook(
        training, options=options, done=done, total=settings.iterations, interval=settings.state_interval
    )
    hook.random_state = random_state
    runner = _build_runner(training, pairs, profile=profile, options=options, done=done, hook=hook)
    started = time.monotonic()
    runner.train()
    return time.monotonic() - started


def _num_layers(segmentor: Segmentor) -> int:
    return len(segmentor.backbone.encoder.layers)


def _build_runner(
    training: Training,
    pairs: Sequence[Pair],
    *,
    profile: SegmentationProfile,
    options: FitOptions,
    done: int,
    hook: "_TrainingHook",
) -> Any:
    settings = profile.training
    dataset = SeededDataset(build_dataset(pairs, train_pipeline(profile.geometry)), seed=options.seed)
    accumulation = max(1, settings.batch_size // (settings.micro_batch_size * get_world_size()))
    sampler = EndlessSampler(
        len(dataset),
        seed=options.seed,
        start=done * settings.batch_size,
        rank=get_rank(),
        world_size=get_world_size(),
    )
    return Runner(
        model=training.model,
        work_dir=str(options.folder / "openmmlab"),
        train_dataloader={
            "batch_size": settings.micro_batch_size,
            "num_workers": options.num_workers,
            "persistent_workers": options.num_workers > 0,
            "sampler": sampler,
            "dataset": dataset,
            "collate_fn": {"type": "pseudo_collate"},
        },
        train_cfg={"by_epoch": False, "max_iters": (settings.iterations - done) * accumulation, "val_interval": 10**9},
        optim_wrapper=_wrap_optimizer(training, profile, accumulation),
        param_scheduler=list(training.schedulers),
        default_hooks={"logger": None, "checkpoint": None, "sampler_seed": None},
        custom_hooks=[hook],
        randomness={"seed": options.seed},
        default_scope="mmseg",
        log_level="ERROR",
        experiment_name="fit",
    )


def _wrap_optimizer(training: Training, profile: SegmentationProfile, accumulation: int) -> Any:
    options: dict[str, Any] = {"optimizer": training.optimizer, "accumulative_counts": accumulation}
    if profile.training.max_grad_norm is not None:
        options["clip_grad"] = {"max_norm": profile.training.max_grad_norm}
    if profile.precision == "float32":
        return OptimWrapper(**options)
    return AmpOptimWrapper(dtype=profile.precision, **options)


class _TrainingHook(Hook):  # type: ignore[misc]  # the stack has no types
    """Logs, shows progress and writes the state; takes up the random numbers of a resumed run."""

    priority = "VERY_LOW"  # after the schedulers have stepped

    def __init__(self, training: Training, *, options: FitOptions, done: int, total: int, interval: int) -> None:
        self.training, self.options = training, options
        self.done, self.total, self.interval = done, total, interval
        self.random_state: Tensor | None = None
        self.log = options.folder / "log.jsonl"

    def before_train(self, runner: Any) -> None:  # noqa: ARG002, the hook's signature
        """Restore what building the loop has drawn from."""
        if self.random_state is not None:
            torch.set_rng_state(self.random_state)

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,  # noqa: ARG002, the hook's signature
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Account for one optimiser step; stop at once when the loss is no number."""
        counts = runner.optim_wrapper._accumulative_counts  # no public name
        if (batch_idx + 1) % counts or outputs is None:
            return
        self.done += 1
        loss = float(outputs["loss"].detach())
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at iteration {self.done}; try a lower training.lr")
        self.options.progress(self.done, self.total, loss)
        if self.done % LOG_INTERVAL == 0 or self.done == self.total:
            self._write_log(runner, loss)
        if get_rank() == 0 and (self.done % self.interval == 0 or self.done == self.total):
            self.training.save(self.options.folder / STATE_FILE, iteration=self.done)

    def _write_log(self, runner: Any, loss: float) -> None:
        lr = max(group["lr"] for group in runner.optim_wrapper.optimizer.param_groups)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": self.done, "loss": loss, "lr": lr}) + "\n")
