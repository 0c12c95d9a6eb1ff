"""How lanes reach the loader: read in its own process, or in others ahead of time."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from pretrain.data.lane import LaneItem, LaneReader, LaneState, Sample

PREFETCHED = 2
"""Items that each process prepares ahead."""


class Feed(Protocol):
    """Items of lanes, each lane's in its order."""

    def take(self, lane: int) -> LaneItem:
        """Take the next item of a lane; see `LaneReader.read` for what it raises."""
        ...

    def close(self) -> None:
        """Give back processes and files."""
        ...


def choose_num_workers(wanted: int, num_lanes: int, *, say: Callable[[str], None]) -> int:
    """Choose how many processes read: as many as wanted, fewer where the lanes would not be shared out equally.

    Raises:
        ValueError: a negative number.
    """
    if wanted < 0:
        raise ValueError(f"num_workers {wanted}, expected 0 or more")
    chosen = max((number for number in range(1, wanted + 1) if num_lanes % number == 0), default=0)
    if chosen != wanted:
        say(f"{chosen} processes read data instead of {wanted}: {num_lanes} lanes are shared out equally")
    return chosen


class InProcess:
    """Reads when asked."""

    def __init__(self, reader: LaneReader, starts: Mapping[int, LaneState]) -> None:
        self._reader = reader
        self._lanes = {lane: reader.read(lane, start) for lane, start in starts.items()}

    def take(self, lane: int) -> LaneItem:
        """Read the next item of a lane."""
        return next(self._lanes[lane])

    def close(self) -> None:
        """Close the shards."""
        self._reader.close()


@dataclass(frozen=True)
class _Refusal:
    """What a process ended with."""

    kind: type[Exception]
    message: str


class _Lanes(IterableDataset[Any]):
    """What one process reads: every so-many-th lane, one complete item of each in turn."""

    def __init__(self, reader: LaneReader, starts: Mapping[int, LaneState]) -> None:
        self._reader, self._starts = reader, starts

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        assert worker is not None
        own = list(self._starts)[worker.id :: worker.num_workers]
        lanes = [self._reader.read(lane, self._starts[lane]) for lane in own]
        try:
            while True:
                for items in lanes:
                    yield from _until_complete(items)
        except (ValueError, FileNotFoundError) as error:  # as a value: torch would add a traceback to the line
            yield _Refusal(FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError, str(error))


def _until_complete(items: Iterator[LaneItem]) -> Iterator[LaneItem]:
    for item in items:
        yield _with_arrays(item)
        if item.is_complete:
            return


def _with_arrays(item: LaneItem) -> LaneItem:
    """Send arrays through the pipe: each tensor would take a file handle of its own."""
    samples = [Sample(s.key, {name: tensor.numpy() for name, tensor in s.tensors.items()}) for s in item.samples]  # type: ignore[misc]
    return replace(item, samples=samples)


def _with_tensors(item: LaneItem) -> LaneItem:
    samples = [Sample(s.key, {name: torch.from_numpy(a) for name, a in s.tensors.items()}) for s in item.samples]
    return replace(item, samples=samples)


def _as_it_is(item: Any) -> Any:
    return item


class Processes:
    """Reads ahead in other processes.

    Args:
        reader: sent to each.
        starts: by lane, where it begins; in the order in which lanes are taken.
        num_workers: a divisor of the number of lanes.
    """

    def __init__(self, reader: LaneReader, starts: Mapping[int, LaneState], *, num_workers: int) -> None:
        self._waiting: dict[int, deque[LaneItem]] = {lane: deque() for lane in starts}
        loader = DataLoader(
            _Lanes(reader, starts),
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=PREFETCHED,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else torch's own random numbers would depend on the number of processes
        )
        self._items: Iterator[Any] | None = iter(loader)

    def take(self, lane: int) -> LaneItem:
        """Wait for the next item of a lane; those of other lanes that come before are kept for their turn."""
        while not self._waiting[lane]:
            item = self._receive()
            self._waiting[item.lane].append(item)
        return self._waiting[lane].popleft()

    def _receive(self) -> LaneItem:
        if self._items is None:
            raise ValueError("the data is closed; open it again")
        try:
            item = next(self._items)
        except RuntimeError as error:
            self.close()
            if not str(error).startswith("DataLoader worker"):  # what torch says of one that was killed
                raise
            cause = str(error).splitlines()[0].rstrip(". ")
            raise RuntimeError(f"a process that reads data has ended: {cause}; is there enough memory?") from None
        if isinstance(item, _Refusal):
            self.close()
            raise item.kind(item.message)
        return _with_tensors(item)

    def close(self) -> None:
        """End the processes."""
        self._items = None
