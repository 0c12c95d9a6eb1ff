"""The loop of a training: step, judge, log, save, resume, stop."""

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch

from models.optim import build_optimizer, learning_rate, parameter_groups, set_learning_rate
from models.sharding import clip_gradients
from models.tokenizer import Tokenizer
from models.world import World
from pretrain.batches import Batcher
from pretrain.config import StageConfig
from pretrain.cost import stage_passes, step_flops
from pretrain.data.lane import Sample
from pretrain.data.loader import Loader, Say, open_loader
from pretrain.guard import LossGuard
from pretrain.objective import Objective, PairBatch
from pretrain.saving import Saver, find_latest, load
from pretrain.step import Stepper, StepResult
from reports.provenance import peak_memory_gib

CHECKPOINTS = "checkpoints"
_STOPPING = (signal.SIGTERM, signal.SIGINT)


class Journal(Protocol):
    """What is told of a training; the first rank has one."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note one step's numbers."""
        ...

    def event(self, step: int, text: str) -> None:
        """Note something that is no number."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    steps: int
    """Done in all."""
    is_complete: bool
    """False where it was told to stop; its state is saved."""
    counts: Mapping[str, int]
    """This rank's samples: seen, kept, filtered, corrupt."""
    last: StepResult | None
    """None where there was nothing left to do."""


class Trainer:
    """Trains one stage; every rank makes one and calls it alike.

    Args:
        objective: built, loaded, frozen and spread.
        config: of the stage.
        world: the ranks.
        folder: of the run; checkpoints go below it.
        tokenizer: of the model's vocabulary.
        say: one line to the user.
    """

    def __init__(
        self,
        objective: Objective,
        config: StageConfig,
        *,
        world: World,
        folder: Path,
        tokenizer: Tokenizer | None,
        say: Say,
    ) -> None:
        self.objective, self.config, self.world, self.say = objective, config, world, say
        named = [(name, value) for name, value in objective.named_parameters() if value.requires_grad]
        self.optimizer = build_optimizer(parameter_groups(named, weight_decay=config.optim.weight_decay), config.optim)
        self.stepper = Stepper(objective, config, world)
        self.guard = LossGuard(config.guard)
        self.batcher = Batcher(objective.model.config, config.objective, tokenizer, config.seed)
        self.saver = Saver(folder / CHECKPOINTS, keep=config.saving.keep)
        self.done = 0
        self.loader = self._open_data(tokenizer, self._resume())

    def _resume(self) -> Mapping[str, Any] | None:
        """Take up the newest checkpoint; gives the lanes' states, or None where the training begins."""
        latest = find_latest(self.saver.folder)
        if latest is None:
            return None
        progress = load(latest, model=self.objective, optimizer=self.optimizer)
        self.done = int(progress["step"])
        self.guard.restore(progress["guard"])
        self.say(f"going on after step {self.done}, from {latest.name}")
        lanes: Mapping[str, Any] = progress["lanes"]
        return lanes

    def _open_data(self, tokenizer: Tokenizer | None, states: Mapping[str, Any] | None) -> Loader:
        with _shield_children():
            return open_loader(
                self.config.data,
                self.config.batch,
                model=self.objective.model.config,
                tokenizer=tokenizer,
                lanes=self.config.batch.lanes_of(self.world.rank, self.world.size),
                say=self.say,
                states=states,
                num_workers=self.config.num_workers,
            )

    def run(self, journal: Journal | None) -> Outcome:
        """Train to the end, or until SIGTERM or an interrupt, and save either way.

        Raises:
            FloatingPointError: the loss has gone wrong too often.
            OSError: a checkpoint could not be written, or a process that reads data was killed.
            ValueError: too many corrupt samples.
        """
        last = None
        self.objective.train()
        with _explain_killed_readers(), self._last_save_done(), _catch_signals() as caught, self.loader:
            while self.done < self.config.steps and not (last and last.is_stopped):
                last = self._run_step(journal, is_stopped=bool(caught))
                is_due = self.done % self.config.saving.every_steps == 0
                if is_due or last.is_stopped or self.done == self.config.steps:
                    self._save(journal, wait=not is_due or last.is_stopped)
            self.saver.finish()
            counts = self.loader.counts()
        return Outcome(self.done, self.done == self.config.steps, counts, last)

    @contextlib.contextmanager
    def _last_save_done(self) -> Iterator[None]:
        """Let a checkpoint that is being written become whole before an error leaves, or it would appear at any time.

        What goes wrong with it then is not told: the error is what ends the training.
        """
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):
                self.saver.finish()
            raise

    def _run_step(self, journal: Journal | None, *, is_stopped: bool) -> StepResult:
        step, started = self.done, time.monotonic()
        batches = self._make_batches(next(self.loader), step)
        waited = time.monotonic() - started
        rate = learning_rate(step, config=self.config.optim, total_steps=self.config.steps)
        set_learning_rate(self.optimizer, rate)
        result = self.stepper.run(batches, step=step, is_stopped=is_stopped)
        verdict = self.guard.check(
            result.loss, result.grad_norm, step=step + 1, last_checkpoint=find_latest(self.saver.folder)
        )
        if not verdict.is_bad:
            clip_gradients(self.stepper.parameters, norm=result.norm, largest=self.config.optim.clip)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        if journal is not None:
            if verdict.is_bad:
                journal.event(self.done, verdict.reason)
            journal.step(self.done, self._tell(result, rate=rate, seconds=time.monotonic() - started, waited=waited))
        return result

    def _make_batches(self, micro_batches: list[list[Sample]], step: int) -> list[PairBatch]:
        size = self.config.batch.micro_batch_size
        first = self.world.rank * (self.config.batch.batch_size // self.world.size)
        return [
            self.batcher.make(samples, step=step, first_row=first + number * size)
            for number, samples in enumerate(micro_batches)
        ]

    def _tell(self, result: StepResult, *, rate: float, seconds: float, waited: float) -> dict[str, float]:
        """Lay a step's numbers out for the journal."""
        first, second = self.config.objective.pair
        accuracy = {f"accuracy_{first}_to_{second}": result.accuracy[first]}
        accuracy[f"accuracy_{second}_to_{first}"] = result.accuracy[second]
        return {
            "loss": result.loss,
            **{f"loss_{name}": value for name, value in result.terms.items()},
            **{name: 100 * value for name, value in accuracy.items()},
            "lr": rate,
            "grad_norm": result.grad_norm,
            "logit_scale": result.scale,
            "seconds": seconds,
            "data_seconds": waited,
            "samples": self.config.batch.batch_size,
            "tokens": sum(result.tokens.values()),
            "flops": self._count_flops(result.tokens),
            "memory_gib": _peak_memory_gib(self.world.device),
        }

    def _count_flops(self, tokens: Mapping[str, int]) -> float:
        """Count the model's operations of one step, at the mean length of its samples."""
        batch = self.config.batch.batch_size
        mean = {name: round(count / batch) for name, count in tokens.items()}
        passes = stage_passes(self.config.objective, mean, trained=self.config.trained)
        return float(step_flops(passes, self.objective.model.config, decoder=self.config.decoder, batch=batch))

    def _save(self, journal: Journal | None, *, wait: bool) -> None:
        progress = {"step": self.done, "lanes": self.loader.state(), "guard": self.guard.state()}
        pending = self.saver.save(
            self.done, model=self.objective, optimizer=self.optimizer, progress=progress, wait=wait
        )
        if journal is not None:
            journal.event(self.done, f"saving {pending.path.name}")


@contextlib.contextmanager
def _shield_children() -> Iterator[None]:
    """Keep SIGTERM and interrupts, which often reach a whole group, from processes that are started within.

    They end with this one; killed by themselves, they would end the training before it is saved.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _explain_killed_readers() -> Iterator[None]:
    """Tell the end of a process that reads data from faults of ours: torch has one kind of error for both."""
    try:
        yield
    except RuntimeError as error:
        cause = str(error).splitlines()[0].rstrip(". ") if str(error) else ""
        if not cause.startswith(("DataLoader worker", "a process that reads data")):
            raise
        raise ChildProcessError(
            f"{cause}; give it more memory or lower num_workers, then go on with --resume"
        ) from None


def _peak_memory_gib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else peak_memory_gib()


@contextlib.contextmanager
def _catch_signals() -> Iterator[list[int]]:
    """Note SIGTERM and the first interrupt, so that the step at hand is finished and saved; a second ends at once."""
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in _STOPPING}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
