"""Runs units through a model, each once, however many processes share the work and however often it is interrupted."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from downstream.engines.plain.ahead import prepare_ahead
from downstream.engines.plain.cache import VectorCache
from downstream.engines.plain.inputs import Pass, Preparer
from downstream.engines.plain.units import Unit, unit_key
from models.batch import move
from models.world import World

WRITE_INTERVAL_S = 1.0  # a kill loses what came since


@dataclass(frozen=True)
class Encoding:
    """How units are run through a model."""

    module: nn.Module
    """Takes passes, gives (batch, width)."""
    preparer: Preparer
    digests: Mapping[Path, str]
    """Of the files that units refer to."""
    lengths: Mapping[Path, float]
    """Of those files, in seconds, where they have a length."""
    batch_size: int
    dtype: torch.dtype
    """Of the weights, and so of the inputs."""
    world: World
    num_workers: int = 0
    autocast: torch.dtype | None = None
    """Lower precision of the arithmetic, while the weights are being trained."""
    is_sharded: bool = False
    """Whether all processes have to run the model equally often."""


@dataclass(frozen=True)
class Timing:
    """Where the seconds of an encoding went, in this process."""

    num_units: int
    model_s: float
    waiting_s: float
    """For batches to be read and prepared."""


def encode(
    units: Sequence[Unit], encoding: Encoding, cache: VectorCache, *, progress: Callable[[int, int], None]
) -> Timing:
    """Encode every unit whose vector is not in the cache; all processes return when all vectors are there.

    Batches hold neighbours in length. They are cut from the whole list before the processes share them, so their number
    changes no vector.

    Args:
        units: of any signatures; equal ones are encoded once.
        encoding: the model and its inputs.
        cache: where vectors are kept.
        progress: called with units done and units in all, over all processes, estimated from this one's.

    Raises:
        FileNotFoundError, ValueError: a file that cannot be read.
    """
    distinct = {unit_key(unit, encoding.digests): unit for unit in units}
    done = cache.find(distinct)
    encoding.world.barrier()  # nobody writes before all have looked
    left = [(key, unit) for key, unit in distinct.items() if key not in done]
    batches = [list(batch) for batch in _cut(left, encoding)]
    rank, size = encoding.world.rank, encoding.world.size
    own = batches[rank::size]
    num_idle = len(batches[::size]) - len(own) if encoding.is_sharded else 0
    run = _Run(encoding, cache, lambda count: progress(min(len(distinct), len(done) + size * count), len(distinct)))
    timing = run.go(own, idle=batches[:1] * num_idle)
    encoding.world.barrier()
    return timing


def _cut(left: Sequence[tuple[bytes, Unit]], encoding: Encoding) -> Iterator[Sequence[tuple[bytes, Unit]]]:
    """Cut units into batches of one signature and of neighbours in length, the longest first."""
    groups: dict[object, list[tuple[tuple[float, ...], bytes, Unit]]] = {}
    for key, unit in left:
        measure = encoding.preparer.measure(unit, encoding.lengths)
        groups.setdefault(unit.signature, []).append((measure, key, unit))
    for group in groups.values():
        group.sort(key=lambda item: (item[0], item[1]), reverse=True)
        for start in range(0, len(group), encoding.batch_size):
            yield [(key, unit) for _, key, unit in group[start : start + encoding.batch_size]]


class _Prepared:
    """Batches by number."""

    def __init__(self, batches: Sequence[Sequence[tuple[bytes, Unit]]], preparer: Preparer) -> None:
        self.batches, self.preparer = batches, preparer

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> list[Pass]:
        return self.preparer.collate([unit for _, unit in self.batches[index]])


class _Run:
    """One process's share of an encoding."""

    def __init__(self, encoding: Encoding, cache: VectorCache, progress: Callable[[int], None]) -> None:
        self.encoding, self.cache, self.progress = encoding, cache, progress
        self.waiting: dict[bytes, Tensor] = {}
        self.written_at = time.monotonic()

    def go(
        self, own: Sequence[Sequence[tuple[bytes, Unit]]], *, idle: Sequence[Sequence[tuple[bytes, Unit]]]
    ) -> Timing:
        """Encode the own batches, and run the idle ones for the sake of the others."""
        prepared = _Prepared([*own, *idle], self.encoding.preparer)
        count, model_s, started = 0, 0.0, time.monotonic()
        self.encoding.module.eval()
        for number, passes in enumerate(prepare_ahead(prepared, num_workers=self.encoding.num_workers)):
            before = time.monotonic()
            vectors = self._forward(passes)
            model_s += time.monotonic() - before
            if number < len(own):
                keys = [key for key, _ in own[number]]
                self.waiting.update(zip(keys, vectors, strict=True))
                count += len(keys)
                self._write(is_last=False)
                self.progress(count)
        self._write(is_last=True)
        return Timing(count, model_s, time.monotonic() - started - model_s)

    def _forward(self, passes: Sequence[Pass]) -> Tensor:
        device = self.encoding.world.device
        moved = [move(each, device, dtype=self.encoding.dtype) for each in passes]
        with (
            torch.no_grad(),
            torch.autocast(device.type, dtype=self.encoding.autocast, enabled=self.encoding.autocast is not None),
        ):
            vectors: Tensor = self.encoding.module(*moved)
            return vectors.float().cpu()

    def _write(self, *, is_last: bool) -> None:
        if self.waiting and (is_last or time.monotonic() - self.written_at >= WRITE_INTERVAL_S):
            self.cache.write(self.waiting)
            self.waiting, self.written_at = {}, time.monotonic()
