"""The loop of every fine-tuning with mmengine's Runner: our optimiser, data order, log and state, its iterations."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from downstream.engines.openmmlab.data import EndlessSampler, SeededDataset
from downstream.engines.openmmlab.imports import prepare
from downstream.engines.openmmlab.state import STATE_FILE, Training
from downstream.engines.settings import TrainingSettings

prepare()

from mmengine.hooks import Hook  # noqa: E402
from mmengine.optim import AmpOptimWrapper, OptimWrapper  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

LOG_FILE = "log.jsonl"
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


def train(
    training: Training,
    dataset: SeededDataset,
    *,
    settings: TrainingSettings,
    precision: str,
    options: FitOptions,
    scope: str,
) -> float:
    """Train in place, from the beginning or from where an interrupted run was.

    Args:
        training: model, optimiser and schedules.
        dataset: samples as the model takes them.
        settings: the recipe.
        precision: of the arithmetic.
        options: where and how.
        scope: the package whose parts the model is made of, as mmengine names it.

    Returns:
        Seconds of training in this process; a resumed one does not know of the seconds before it.

    Raises:
        ValueError: the state to resume from is damaged.
    """
    path = options.folder / STATE_FILE
    done, random_state = training.load(path) if options.is_resumed and path.is_file() else (0, None)
    if done == settings.iterations:
        return 0.0
    hook = TrainingHook(training, settings, options, done=done, random_state=random_state)
    started = time.monotonic()
    with TemporaryDirectory() as work_dir:  # for the Runner's own log, which says nothing that ours does not
        runner = Runner(
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
            optim_wrapper=_wrap_optimizer(training, settings, precision),
            default_hooks={"logger": None, "checkpoint": None, "sampler_seed": None, "param_scheduler": None},
            custom_hooks=[hook],
            randomness={"seed": options.seed},
            default_scope=scope,
            log_level="ERROR",
            experiment_name=f"fit-{scope}",
        )
        runner.train()
    return time.monotonic() - started


def _wrap_optimizer(training: Training, settings: TrainingSettings, precision: str) -> Any:
    options: dict[str, Any] = {"optimizer": training.optimizer, "accumulative_counts": settings.accumulation}
    if settings.max_grad_norm is not None:
        options["clip_grad"] = {"max_norm": settings.max_grad_norm}
    if precision == "float32":
        return OptimWrapper(**options)
    return AmpOptimWrapper(dtype=precision, **options)


class TrainingHook(Hook):  # type: ignore[misc]  # the stack has no types
    """Steps the schedule, logs, shows progress, writes the state; takes up the random numbers of a resumed run."""

    def __init__(
        self,
        training: Training,
        settings: TrainingSettings,
        options: FitOptions,
        *,
        done: int,
        random_state: Tensor | None,
    ) -> None:
        self.training, self.settings, self.options = training, settings, options
        self.done, self.random_state = done, random_state

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:  # noqa: ARG002
        """Restore torch's random numbers in a resumed run, after building the loop and its data has drawn some."""
        if self.random_state is not None:
            torch.set_rng_state(self.random_state)
            self.random_state = None

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,  # noqa: ARG002, the hook's signature
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Account for one optimiser step; stop at once when the loss is no number."""
        if (batch_idx + 1) % self.settings.accumulation or outputs is None:
            return
        total = self.settings.iterations
        for scheduler in self.training.schedulers:
            scheduler.step()
        self.done += 1
        loss = float(outputs["loss"].detach())
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at iteration {self.done}; try a lower training.lr")
        self.options.progress(self.done, total, loss)
        if self.done % LOG_INTERVAL == 0 or self.done == total:
            self._write_log(runner, loss)
        if self.done % self.settings.state_interval == 0 or self.done == total:
            self.training.save(self.options.folder / STATE_FILE, iteration=self.done)

    def _write_log(self, runner: Any, loss: float) -> None:
        lr = max(group["lr"] for group in runner.optim_wrapper.optimizer.param_groups)
        with (self.options.folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": self.done, "loss": loss, "lr": lr}) + "\n")
