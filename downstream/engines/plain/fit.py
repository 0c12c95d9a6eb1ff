"""Fine-tuning: steps over micro-batches and processes, validations, the best weights, and going on after a kill."""

import json
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from downstream.engines.plain.ahead import prepare_ahead
from downstream.engines.plain.inputs import Crop, Pass, Preparer
from downstream.engines.plain.model import Loaded, Retriever
from downstream.engines.plain.settings import FineTuning
from downstream.engines.plain.training_state import STATE_FILE, Progress, RunningMean, TrainingState
from downstream.engines.plain.units import Example, Unit
from downstream.kinds.base import Batch, Gather, Kind
from downstream.losses import Loss
from models.batch import move
from models.checkpoint.load import save_state
from models.contrast import read_scale
from models.optim import build_optimizer, learning_rate, parameter_groups, set_learning_rate
from models.sharding import clip_gradients, measure_gradients, reduce_numbers, separate_gradients, spread
from models.training import ParallelConfig
from models.world import Negatives, World
from reports.log_file import LOG_FILE, cut_log, encode_row

BEST_FILE = "best.safetensors"

Micro = list[Example]
"""A micro-batch."""


@dataclass(frozen=True)
class Fitting:
    """Everything a fine-tuning works with."""

    loaded: Loaded
    kind: Kind
    examples: Sequence[Example]
    settings: FineTuning
    num_classes: int
    preparer: Preparer
    world: World
    folder: Path
    """Of log, state and the best weights so far."""
    seed: int
    num_workers: int
    validate: Callable[[], float]
    """Gives the metric that chooses, all processes together."""
    progress: Callable[[int, int, str], None]


def fit(fitting: Fitting) -> tuple[dict[str, Tensor], Progress]:
    """Train in place.

    Returns:
        The weights of the best validation, whole, on the first process, nothing on the others; and where they are from.

    Raises:
        FloatingPointError: a loss is no number.
        ValueError: the state to go on from is damaged.
    """
    trainer = _Trainer(fitting)
    progress = trainer.state.load(fitting.folder)
    if fitting.world.is_first:
        cut_log(fitting.folder, progress.step)
    total = fitting.settings.count_steps(len(fitting.examples))
    for step, micros in trainer.list_batches(progress.step, total):
        loss = trainer.run_step(step, micros, total=total)
        progress = Progress(step + 1, progress.best_step, progress.best_value)
        fitting.progress(step + 1, total, f"loss {loss:.3f}")
        if _is_due(step + 1, total, fitting.settings.num_validations):
            progress = trainer.keep_best(progress)
        if (step + 1) % fitting.settings.state_interval == 0 and step + 1 < total:
            trainer.state.save(fitting.folder, progress)
    return trainer.read_best(), progress


def _is_due(step: int, total: int, count: int) -> bool:
    """Tell whether a validation comes after a step: `count` of them, evenly, the last at the end."""
    return step * count // total > (step - 1) * count // total


def _give(negatives: Negatives, _: Mapping[str, Tensor]) -> Negatives:
    """Be a `Gather` that was computed ahead."""
    return negatives


class _Batches:
    """The micro-batches of one process, by number."""

    def __init__(self, micros: Sequence[tuple[int, Micro]], preparer: Preparer, crop: Crop | None) -> None:
        self.micros, self.preparer, self.crop = micros, preparer, crop

    def __len__(self) -> int:
        return len(self.micros)

    def __getitem__(self, index: int) -> list[tuple[list[Unit], list[Pass]]]:
        """Give the passes of every signature that a micro-batch has, with the units that they hold."""
        first_number, examples = self.micros[index]
        groups: dict[object, dict[Unit, None]] = {}
        for example in examples:
            for unit in example.units:
                groups.setdefault(unit.signature, {})[unit] = None
        return [
            (units, self.preparer.collate(units, crop=self.crop, first_number=first_number))
            for units in map(list, groups.values())
        ]


class _Trainer:
    """One process's part of a fine-tuning."""

    def __init__(self, fitting: Fitting) -> None:
        settings, world = fitting.settings, fitting.world
        self.fitting, self.settings, self.world = fitting, settings, world
        self.module = fitting.loaded.module
        self.num_micros = settings.batch_size // (world.size * settings.micro_batch_size)
        if settings.batch_size % (world.size * settings.micro_batch_size):
            raise ValueError(
                f"batch_size {settings.batch_size} is no multiple of {world.size} processes times micro_batch_size "
                f"{settings.micro_batch_size}; start another number of them, or set another"
            )
        is_low = settings.precision != "float32"
        parallel = ParallelConfig(
            dtype="bfloat16" if is_low else "float32", recompute="layer" if settings.has_checkpointing else "none"
        )
        self.autocast = torch.bfloat16 if is_low else None
        model = fitting.loaded.model
        spread(self.module, [model.encoder], config=parallel, world=world)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        groups = parameter_groups(
            self.module.named_parameters(),
            weight_decay=settings.optim.weight_decay,
            layer_decay=settings.layer_decay,
            num_layers=model.config.num_layers,
        )
        optimizer = build_optimizer(groups, settings.optim)
        self.mean = None if settings.ema_decay is None else RunningMean(self.module, settings.ema_decay)
        self.state = TrainingState(self.module, optimizer, world, self.mean)
        self.turn: int | None = None
        self.order: list[int] = []

    def list_batches(self, done: int, total: int) -> Iterator[tuple[int, list[tuple[Micro, Any]]]]:
        """Give the micro-batches of this process, step by step, from where the training is."""
        order = self._list_micros(done, total)
        crop = None if self.settings.crop_scale is None else Crop(self.settings.crop_scale, self.fitting.seed)
        batches = _Batches(order, self.fitting.preparer, crop)
        prepared = prepare_ahead(batches, num_workers=self.fitting.num_workers)
        for step in range(done, total):
            first = (step - done) * self.num_micros
            yield step, [(order[first + number][1], next(prepared)) for number in range(self.num_micros)]

    def _list_micros(self, done: int, total: int) -> list[tuple[int, Micro]]:
        """List this process's micro-batches with the number of their first example in the whole training."""
        size, examples = self.settings.batch_size, self.fitting.examples
        listed = []
        for step in range(done, total):
            for micro in range(self.num_micros):
                first = step * size + (self.world.rank * self.num_micros + micro) * self.settings.micro_batch_size
                numbers = range(first, first + self.settings.micro_batch_size)
                listed.append((first, [examples[self._pick(number)] for number in numbers]))
        return listed

    def _pick(self, number: int) -> int:
        """Tell which example comes at a place of the training: every pass goes through all of them in another order."""
        turn, place = divmod(number, len(self.fitting.examples))
        if self.turn != turn:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{self.fitting.seed} {turn}".encode()))
            self.turn, self.order = turn, torch.randperm(len(self.fitting.examples), generator=generator).tolist()
        return self.order[place]

    def run_step(self, step: int, micros: Sequence[tuple[Micro, Any]], *, total: int) -> float:
        """Make one update; gives the loss over the whole batch.

        Raises:
            FloatingPointError: the loss is no number; nothing was updated.
        """
        started = time.time()
        self.module.train()
        rate = learning_rate(step, config=self.settings.optim, total_steps=total)
        set_learning_rate(self.state.optimizer, rate)
        gathers = self._gather_ahead(step, micros)
        summed = torch.zeros(2, dtype=torch.float64, device=self.world.device)
        for number, ((examples, groups), gather) in enumerate(zip(micros, gathers, strict=True)):
            loss = self._compute(step, number, examples, groups, gather)
            share = loss.total / (loss.weight * self.num_micros)
            share.backward()
            if number == 0:
                separate_gradients(self.parameters)
            summed += torch.stack([share.detach().double(), loss.hits.double() / self.settings.batch_size])
        total_loss, hits = self.world.sum(summed).tolist()
        value = float(total_loss) / self.world.size
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at step {step + 1}; try a lower training.optim.lr")
        norm = self._update()
        if self.world.is_first:
            row = {"loss": value, "hits": hits, "lr": rate, "grad_norm": norm}
            with (self.fitting.folder / LOG_FILE).open("a", encoding="utf-8") as file:
                file.write(encode_row(step + 1, started, row))
        return value

    def _update(self) -> float:
        reduce_numbers(self.parameters, self.world)
        norm = measure_gradients(self.parameters)
        clip_gradients(self.parameters, norm=norm, largest=self.settings.optim.clip)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.mean is not None:
            self.mean.update()
        return float(norm)

    def _gather_ahead(self, step: int, micros: Sequence[tuple[Micro, Any]]) -> list[Gather]:
        """Give each micro-batch's way to what it is contrasted with.

        To contrast several micro-batches with the whole batch, the vectors of all are computed first, without gradient;
        as none flows into negatives, this is the arithmetic of one large batch.
        """
        if not isinstance(self.module, Retriever) or self.settings.negatives == "micro-batch" or len(micros) == 1:
            return [self.world.gather_rows] * len(micros)
        parts = []
        for number, (examples, groups) in enumerate(micros):
            with torch.no_grad():
                parts.append(self._forward(step, number, examples, groups))
        slots = range(len(parts[0]))
        names = ("media", "text")
        own = {names[slot]: torch.cat([part[slot] for part in parts]) for slot in slots}
        whole = self.world.gather_rows(own)
        rows = self.settings.micro_batch_size
        firsts = [whole.first_row + number * rows for number in range(len(micros))]
        return [partial(_give, Negatives(whole.features, first)) for first in firsts]

    def _compute(self, step: int, number: int, examples: Micro, groups: Any, gather: Gather) -> Loss:
        outputs = self._forward(step, number, examples, groups)
        targets = torch.tensor([example.target for example in examples], device=self.world.device)
        is_compared = isinstance(self.module, Retriever)
        scale = read_scale(self.module.model.logit_scale) if is_compared else None
        return self.fitting.kind.compute_loss(
            Batch(outputs, targets, self.fitting.num_classes, scale, gather, self.settings.label_smoothing)
        )

    def _forward(self, step: int, number: int, examples: Micro, groups: Any) -> tuple[Tensor, ...]:
        """Run the units of a micro-batch; gives (examples, width) by the place of a unit in its example.

        What drop path drops follows from the step and the micro-batch's number alone.
        """
        micro = self.world.rank * self.num_micros + number
        torch.manual_seed(zlib.crc32(f"{self.fitting.seed} {step} {micro}".encode()))
        rows: dict[Unit, Tensor] = {}
        device = self.world.device
        for units, passes in groups:
            moved = [move(each, device) for each in passes]
            with torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None):
                vectors = self.module(*moved)
            rows.update(zip(units, vectors.unbind(), strict=True))
        slots = range(len(examples[0].units))
        return tuple(torch.stack([rows[example.units[slot]] for example in examples]) for slot in slots)

    def keep_best(self, progress: Progress) -> Progress:
        """Validate, and keep these weights, or their mean, if none before were better."""
        with nullcontext() if self.mean is None else self.mean.in_place():
            return self._keep_if_best(progress)

    def _keep_if_best(self, progress: Progress) -> Progress:
        if self.settings.num_validations == 1:  # there is nothing to choose from
            value = float("nan")
        else:
            value = self.fitting.validate()
            if progress.best_value is not None and not value > progress.best_value:
                return progress
        state = self.state.collect()
        if self.world.is_first:
            save_state(state, self.fitting.folder / BEST_FILE, metadata={"step": json.dumps(progress.step)})
        return Progress(progress.step, progress.step, None if math.isnan(value) else value)

    def read_best(self) -> dict[str, Tensor]:
        """Give the weights that were kept, on the first process."""
        if not self.world.is_first:
            return {}
        state: dict[str, Tensor] = load_file(self.fitting.folder / BEST_FILE)
        (self.fitting.folder / STATE_FILE).unlink(missing_ok=True)  # only an unfinished training needs it
        return state
