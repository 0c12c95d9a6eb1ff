"""The micro-batches of one rank, in an order that no number of ranks or processes changes, and where they stand."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from models.config import ModelConfig
from models.tokenizer import Tokenizer
from pretrain.data.config import BatchConfig, DataConfig
from pretrain.data.decoding import Decoder
from pretrain.data.feeds import Feed, InProcess, Processes, choose_num_workers
from pretrain.data.lane import CORRUPT, SEEN, Fault, LaneItem, LaneReader, LaneState, Sample
from pretrain.data.order import count_samples, fingerprint
from pretrain.data.sources import open_sources

MAX_NAMED = 20
"""So many corrupt samples are named, the others only counted."""

Say = Callable[[str], None]


class Loader:
    """An endless iterator over the steps of one rank; make it by `open_loader`.

    Each step is a list of micro-batches in their order, each a list of samples.
    """

    def __init__(
        self,
        feed: Feed,
        data: DataConfig,
        *,
        batching: BatchConfig,
        lanes: range,
        states: Mapping[int, LaneState],
        counts: Mapping[int, Mapping[str, int]],
        mark: str,
        say: Say,
    ) -> None:
        self._feed, self._data, self._batching, self._lanes, self._say = feed, data, batching, lanes, say
        self._states = dict(states)
        self._counts = {lane: Counter(counts[lane]) for lane in lanes}
        self._mark = mark

    def __iter__(self) -> Iterator[list[list[Sample]]]:
        return self

    def __next__(self) -> list[list[Sample]]:
        """Give the micro-batches of the next step.

        Raises:
            FileNotFoundError: a shard is gone.
            RuntimeError: a process that reads data was killed.
            ValueError: too many corrupt samples, none that is kept, or a shard that changed.
        """
        states, counts = dict(self._states), {lane: Counter(own) for lane, own in self._counts.items()}
        width = self._batching.lanes_per_micro_batch
        step = [
            [sample for lane in range(first, first + width) for sample in self._fill(lane, states, counts)]
            for first in range(self._lanes.start, self._lanes.stop, width)
        ]
        self._states, self._counts = states, counts
        return step

    def state(self) -> dict[str, dict[str, Any]]:
        """Tell where each lane stands after the last step that was given out; plain values for JSON.

        What processes have prepared ahead is not in it. Put the states of all ranks together to resume at any world
        size.
        """
        return {
            str(lane): {
                "epoch": self._states[lane].epoch,
                "position": self._states[lane].position,
                "counts": dict(self._counts[lane]),
                "data": self._mark,
            }
            for lane in self._lanes
        }

    def counts(self) -> dict[str, int]:
        """Count this rank's samples since the run began: `seen`, `kept`, `filtered: <why>`, `corrupt: <why>`."""
        return dict(sum(self._counts.values(), Counter[str]()))

    def close(self) -> None:
        """End the processes and close the shards."""
        self._feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self, lane: int, states: dict[int, LaneState], counts: Mapping[int, Counter[str]]) -> Iterator[Sample]:
        """Give a lane's share of a micro-batch, and note in the two mappings where it then stands."""
        is_complete = False
        while not is_complete:
            item = self._feed.take(lane)
            yield from item.samples
            before = _count_corrupt(counts.values())
            counts[lane].update(item.counts_delta)
            states[lane], is_complete = item.state_after, item.is_complete
            self._report(item, before)
            self._require_sound(item, counts)

    def _report(self, item: LaneItem, before: int) -> None:
        """Name the first corrupt samples."""
        for number, fault in enumerate(item.faults, start=before + 1):
            if number <= MAX_NAMED:
                more = "; others are counted only" if number == MAX_NAMED else ""
                self._say(f"corrupt sample {number}, passed over: {fault}{more}")

    def _require_sound(self, item: LaneItem, counts: Mapping[int, Counter[str]]) -> None:
        """Check that no more samples are corrupt than are allowed."""
        if not item.faults:
            return
        corrupt, seen = _count_corrupt(counts.values()), sum(own[SEEN] for own in counts.values())
        share, least = self._data.max_corrupt_share, self._data.min_corrupt_allowed
        if corrupt > max(least, share * seen):
            raise ValueError(_say_too_many(corrupt, seen, counts=counts, last=item.faults[-1], allowed=(share, least)))


def _count_corrupt(counts: Any) -> int:
    return sum(number for own in counts for name, number in own.items() if name.startswith(CORRUPT))


def _say_too_many(
    corrupt: int, seen: int, *, counts: Mapping[int, Counter[str]], last: Fault, allowed: tuple[float, int]
) -> str:
    """Put into one line what is wrong with the data."""
    total = sum(counts.values(), Counter[str]())
    reasons = ", ".join(f"{n} {name.removeprefix(CORRUPT)}" for name, n in total.items() if name.startswith(CORRUPT))
    return (
        f"{corrupt} of {seen} samples are corrupt ({corrupt / seen:.1%}: {reasons}), more than max_corrupt_share "
        f"{allowed[0]:g} and min_corrupt_allowed {allowed[1]}; the last is {last}; mend the data, or allow more"
    )


def open_loader(
    data: DataConfig,
    batching: BatchConfig,
    *,
    model: ModelConfig,
    tokenizer: Tokenizer | None,
    lanes: range,
    say: Say,
    states: Mapping[str, Mapping[str, Any]] | None = None,
    num_workers: int = 0,
) -> Loader:
    """Open the data of one rank.

    Args:
        data: sources, filters, decoding, seed.
        batching: how a step is cut.
        model: the size that is trained.
        tokenizer: of the model's vocabulary; needed for text.
        lanes: the rank's own; see `BatchConfig.lanes_of`.
        say: told of corrupt samples and of what takes long.
        states: of all these lanes or more, as `Loader.state` gives them; None begins.
        num_workers: processes at most; 0 reads in this one. The order does not depend on it.

    Raises:
        FileNotFoundError: sources that are not there.
        ValueError: faulty sources, fewer samples than lanes, states of other data or lanes.
    """
    source = open_sources(data.sources, say=say)
    sizes = count_samples(source, batching.num_lanes)
    order = (data.seed, batching.num_lanes)
    mark = fingerprint(source.shards, sizes, settings=order)
    places = {lane: _read_state(lane, states, mark) for lane in lanes}
    decoder = Decoder(model, data.decoding, names=data.sources[0].fields, tokenizer=tokenizer)
    processes = choose_num_workers(num_workers, len(lanes), say=say)
    reader = LaneReader(
        source,
        data,
        counts=sizes,
        decoder=decoder,
        num_lanes=batching.num_lanes,
        samples_per_lane=batching.samples_per_lane,
        max_open=len(lanes) // max(processes, 1) + 1,
    )
    starts = {lane: place for lane, (place, _) in places.items()}
    feed = Processes(reader, starts, num_workers=processes) if processes else InProcess(reader, starts)
    counts = {lane: told for lane, (_, told) in places.items()}
    return Loader(feed, data, batching=batching, lanes=lanes, states=starts, counts=counts, mark=mark, say=say)


def _read_state(
    lane: int, states: Mapping[str, Mapping[str, Any]] | None, mark: str
) -> tuple[LaneState, Mapping[str, int]]:
    """Read one lane's state, and check that it belongs to this data."""
    if states is None:
        return LaneState(), {}
    state = states.get(str(lane))
    if state is None:
        raise ValueError(f"no state of lane {lane} among {len(states)}; give those of all ranks of the run resumed")
    if state.get("data") != mark:
        raise ValueError(
            f"the state of lane {lane} belongs to data {state.get('data')}, but this is {mark}: other shards, counts, "
            "seed or number of lanes; resume with those of the run, or begin anew"
        )
    return LaneState(int(state["epoch"]), int(state["position"])), state["counts"]
