"""Samples to scores: what both a validation and the final evaluation of a plain task do."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from downstream.engines.plain.cache import VectorCache
from downstream.engines.plain.encode import Encoding, Timing, encode
from downstream.engines.plain.units import Unit, unit_key
from downstream.kinds.base import Facts, Judged, Kind


def judge_samples(
    kind: Kind,
    samples: Sequence[Any],
    facts: Facts,
    *,
    encoding: Encoding,
    cache: VectorCache,
    progress: Callable[[int, int], None],
) -> tuple[Judged, Timing]:
    """Encode what the cache lacks, and score; rows are made as they are asked for.

    Raises:
        FileNotFoundError, ValueError: as `encode`, or too few samples for the metric.
    """
    timing = encode(kind.list_units(samples, facts), encoding, cache, progress=progress)

    def read(asked: Sequence[Unit]) -> Tensor:
        return cache.read([unit_key(unit, encoding.digests) for unit in asked])

    return kind.judge(samples, read, facts), timing
