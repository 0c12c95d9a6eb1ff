"""The order of samples: a function of seed, epoch and shards alone, whatever the number of ranks and processes."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretrain.data.base import Source

SHARDS_STREAM, SAMPLES_STREAM, CROPS_STREAM = range(3)  # keeps the random numbers of three purposes apart


@dataclass(frozen=True)
class Place:
    """One sample of an epoch."""

    shard: int
    ordinal: int
    """Its number inside the shard, as stored."""


class EpochOrder:
    """The order of one epoch: shards shuffled, samples shuffled inside their shard, cut into a range for each lane.

    Over all lanes every sample comes exactly once. Kept in memory: two numbers a shard.

    Args:
        counts: (shards,) samples of each.
        seed: of the run.
        epoch: from 0.
        num_lanes: of all ranks together.
    """

    def __init__(self, counts: NDArray[np.int64], *, seed: int, epoch: int, num_lanes: int) -> None:
        self._seed, self._epoch, self._num_lanes = seed, epoch, num_lanes
        self._order = np.random.default_rng((seed, SHARDS_STREAM, epoch)).permutation(len(counts))
        self._ends = np.cumsum(counts[self._order])

    def length(self, lane: int) -> int:
        """Count the samples of a lane."""
        start, end = self._bounds(lane)
        return end - start

    def walk(self, lane: int, position: int) -> Iterator[Place]:
        """Give a lane's samples from a position on."""
        start, end = self._bounds(lane)
        at = start + position
        while at < end:
            index = int(np.searchsorted(self._ends, at, side="right"))
            first, last = int(self._ends[index - 1]) if index else 0, int(self._ends[index])
            shard = int(self._order[index])
            ordinals = np.random.default_rng((self._seed, SAMPLES_STREAM, self._epoch, shard)).permutation(last - first)
            for ordinal in ordinals[at - first : min(end, last) - first]:
                yield Place(shard, int(ordinal))
            at = min(end, last)

    def _bounds(self, lane: int) -> tuple[int, int]:
        total = int(self._ends[-1])
        return total * lane // self._num_lanes, total * (lane + 1) // self._num_lanes


def count_samples(source: Source, num_lanes: int) -> NDArray[np.int64]:
    """Count the samples of each shard, (shards,).

    Raises:
        ValueError: fewer samples than lanes.
    """
    counts = np.array([source.count(shard) for shard in range(len(source.shards))], np.int64)
    if counts.sum() < num_lanes:
        raise ValueError(
            f"{counts.sum()} samples in {len(counts)} shards for {num_lanes} lanes; expected one or more each; "
            "give more data or a smaller batch_size"
        )
    return counts


def fingerprint(names: Sequence[str], counts: NDArray[np.int64], *, settings: Sequence[int]) -> str:
    """Name an order: shards, their counts and the numbers that it depends on; 16 characters."""
    digest = hashlib.sha256(repr(tuple(settings)).encode())
    for name, count in zip(names, counts.tolist(), strict=True):
        digest.update(f"\n{name} {count}".encode())
    return digest.hexdigest()[:16]
