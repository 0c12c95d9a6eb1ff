"""One optimiser step over the micro-batches of a rank, with the whole batch as negatives."""

import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from models.batch import move
from models.sharding import measure_gradients, reduce_numbers, separate_gradients
from models.world import Negatives, World
from pretrain.config import StageConfig
from pretrain.objective import Gather, Objective, PairBatch, StepLosses


@dataclass(frozen=True)
class StepResult:
    """What one step measured, averaged over the whole batch and the same on all ranks."""

    loss: float
    terms: Mapping[str, float]
    accuracy: Mapping[str, float]
    """By the modality that asks, the share of rows that found their partner in the whole batch."""
    scale: float
    grad_norm: float
    norm: Tensor
    """`grad_norm` as a tensor, for clipping."""
    tokens: Mapping[str, int]
    """By modality, of all samples, padding left out."""
    is_stopped: bool
    """Whether any rank was told to stop."""


class Stepper:
    """Computes losses and gradients.

    With several micro-batches a rank, the features of all are computed first, without gradient, and every micro-batch
    is then contrasted with the whole batch. As no gradient flows into negatives, this is the arithmetic of one large
    batch. Random numbers (drop path) follow from seed, step and the micro-batch's number alone, so both runs over a
    micro-batch drop the same, and so does any other number of ranks.
    """

    def __init__(self, objective: Objective, config: StageConfig, world: World) -> None:
        self.objective, self.config, self.world = objective, config, world
        self.parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]

    def run(self, batches: Sequence[PairBatch], *, step: int, is_stopped: bool = False) -> StepResult:
        """Leave the averaged gradients of one step in the parameters.

        Args:
            batches: the micro-batches of this rank, on the CPU.
            step: of the training.
            is_stopped: whether this rank was told to stop.
        """
        batches = [move(batch, self.world.device) for batch in batches]
        cached = self._cache(batches, step) if len(batches) > 1 else None
        found = []
        for number, batch in enumerate(batches):
            losses = self._compute(batch, step=step, number=number, gather=self._choose_gather(cached, number))
            (losses.total / len(batches)).backward()
            if number == 0:
                separate_gradients(self.parameters)
            found.append(losses)
        reduce_numbers(self.parameters, self.world)
        return self._summarise(found, batches, is_stopped=is_stopped)

    def _cache(self, batches: Sequence[PairBatch], step: int) -> Negatives:
        """Compute the features of all micro-batches of all ranks."""
        parts = []
        for number, batch in enumerate(batches):
            with torch.no_grad(), self._repeatable(step, number):
                parts.append(self.objective(batch, None))
        own = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self.world.gather_rows(own)

    def _choose_gather(self, cached: Negatives | None, number: int) -> Gather:
        if cached is None:
            return self.world.gather_rows
        first_row = cached.first_row + number * self.config.batch.micro_batch_size
        return lambda _: Negatives(cached.features, first_row)

    def _compute(self, batch: PairBatch, *, step: int, number: int, gather: Gather) -> StepLosses:
        with self._repeatable(step, number):
            losses: StepLosses = self.objective(batch, gather)
        return losses

    def _repeatable(self, step: int, number: int) -> AbstractContextManager[object]:
        """Set the random numbers of a micro-batch, and give the precision to compute in."""
        micro_batch = self.world.rank * (self.config.batch.num_micro_batches // self.world.size) + number
        torch.manual_seed(zlib.crc32(f"{self.config.seed} {step} {micro_batch}".encode()))
        if self.config.parallel.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)

    def _summarise(self, found: Sequence[StepLosses], batches: Sequence[PairBatch], *, is_stopped: bool) -> StepResult:
        """Average over micro-batches and ranks, in one exchange."""
        terms, asking = list(found[0].terms), list(found[0].hits)
        pair = list(batches[0].units)
        counts = [sum(batch.units[name].real.sum() for batch in batches) for name in pair]
        columns = [
            torch.stack([losses.total.detach().double() for losses in found]).sum(),
            *(torch.stack([losses.terms[name].double() for losses in found]).sum() for name in terms),
            *(torch.stack([losses.hits[name].double() for losses in found]).sum() for name in asking),
            *(torch.as_tensor(count, dtype=torch.float64) for count in counts),
            torch.tensor(float(is_stopped), dtype=torch.float64, device=self.world.device),
        ]
        norm = measure_gradients(self.parameters)
        summed = self.world.sum(torch.stack(columns)).tolist()
        count = len(found) * self.world.size
        means = dict(zip(("loss", *terms), (value / count for value in summed), strict=False))
        hits = dict(zip(asking, summed[1 + len(terms) :], strict=False))
        return StepResult(
            loss=means.pop("loss"),
            terms=means,
            accuracy={name: value / self.config.batch.batch_size for name, value in hits.items()},
            scale=float(found[-1].scale),
            grad_norm=float(norm),
            norm=norm,
            tokens={name: int(value) for name, value in zip(pair, summed[-1 - len(pair) : -1], strict=True)},
            is_stopped=summed[-1] > 0,
        )
