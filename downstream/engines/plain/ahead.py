"""Batches that are read and prepared while the model is at work on those before."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol, TypeVar

from torch.utils.data import DataLoader

from models.world import World

T_co = TypeVar("T_co", covariant=True)

PROCESSES_BESIDE_GPU = 8
MOST_THREADS = 4


class Batches(Protocol[T_co]):
    """Batches by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> T_co: ...


def count_workers(wanted: int | None, world: World) -> int:
    """Choose how many processes load data: on a CPU they would take the cores from the model, and threads do."""
    if wanted is not None:
        return wanted
    return 0 if world.device.type == "cpu" else max(1, min(PROCESSES_BESIDE_GPU, (os.cpu_count() or 1) - 1))


def prepare_ahead(batches: Batches[T_co], *, num_workers: int) -> Iterator[T_co]:
    """Give batches in order, some of them prepared ahead.

    Decoders and transforms leave Python's lock alone for most of their time, so threads serve where processes would
    cost more than they save.

    Args:
        batches: each is made when it is asked for.
        num_workers: processes; 0 is threads of this one.

    Raises:
        FileNotFoundError, ValueError: as the making of a batch.
    """
    if num_workers:
        made: Any = batches  # a mapping by number is all that a data set has to be
        yield from DataLoader(made, batch_size=None, num_workers=num_workers)
        return
    num_threads = max(1, min(MOST_THREADS, os.cpu_count() or 1))
    indices = iter(range(len(batches)))
    with ThreadPoolExecutor(num_threads) as pool:
        begun: deque[Future[T_co]] = deque(
            pool.submit(batches.__getitem__, index) for index in islice(indices, num_threads)
        )
        try:
            while begun:
                batch = begun.popleft().result()
                begun.extend(pool.submit(batches.__getitem__, index) for index in islice(indices, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
