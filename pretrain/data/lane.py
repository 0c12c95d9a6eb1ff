"""A lane: one endless, resumable sequence of samples, filtered and decoded."""

import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pretrain.data.base import RawSample, SampleError, Shard, Source
from pretrain.data.config import DataConfig
from pretrain.data.decoding import Decoder
from pretrain.data.filters import reject
from pretrain.data.order import CROPS_STREAM, EpochOrder, Place

PIECE_SAMPLES = 256
"""So many samples are looked at before what was found is handed on, complete or not."""
SEEN, KEPT, FILTERED, CORRUPT = "seen", "kept", "filtered: ", "corrupt: "
"""What counts are kept under; the last two are followed by a reason."""


@dataclass(frozen=True)
class Sample:
    """One decoded sample."""

    key: str
    tensors: Mapping[str, Tensor]
    """By modality, as its transform gives them."""


@dataclass(frozen=True)
class LaneState:
    """Where a lane stands."""

    epoch: int = 0
    position: int = 0
    """Samples of the lane's range of this epoch that it is through with."""


@dataclass(frozen=True)
class Fault:
    """A corrupt sample that was passed over."""

    where: str
    """Shard and key."""
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}: {' '.join(self.message.split())}"


@dataclass(frozen=True)
class LaneItem:
    """What a lane hands on: the samples of one micro-batch, or a part of them where many were passed over."""

    lane: int
    samples: Sequence[Sample]
    state_after: LaneState
    counts_delta: Mapping[str, int]
    """What happened since the item before: `seen` = `kept` + all `filtered: ...` + all `corrupt: ...`."""
    faults: Sequence[Fault]
    is_complete: bool
    """With this item the lane's share of the micro-batch is complete."""


@dataclass
class _Piece:
    """An item in the making."""

    samples: list[Sample] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    def add(self, outcome: "Sample | Fault | str") -> None:
        self.counts[SEEN] += 1
        if isinstance(outcome, Sample):
            self.samples.append(outcome)
            self.counts[KEPT] += 1
        elif isinstance(outcome, Fault):
            self.faults.append(outcome)
            self.counts[CORRUPT + outcome.reason] += 1
        else:
            self.counts[FILTERED + outcome] += 1


class LaneReader:
    """Reads lanes of one data set; one for each process.

    Args:
        source: where the samples lie.
        config: seed and filters.
        counts: (shards,) samples of each.
        decoder: makes tensors.
        num_lanes: of all ranks together.
        samples_per_lane: that make an item complete.
        max_open: shards held open at once.
    """

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        *,
        counts: NDArray[np.int64],
        decoder: Decoder,
        num_lanes: int,
        samples_per_lane: int,
        max_open: int,
    ) -> None:
        self._source, self._config, self._counts, self._decoder = source, config, counts, decoder
        self._num_lanes, self._samples_per_lane, self._max_open = num_lanes, samples_per_lane, max_open
        self._names = source.shards
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._orders: OrderedDict[int, EpochOrder] = OrderedDict()

    def read(self, lane: int, start: LaneState) -> Iterator[LaneItem]:
        """Give a lane's items from a state on, without end.

        Raises:
            FileNotFoundError: a shard is gone.
            ValueError: a shard changed, or nothing was kept of as many samples as there are.
        """
        piece, found, barren = _Piece(), 0, 0
        for state, place in self._walk(lane, start):
            piece.add(self._take(place, state.epoch))
            is_complete = found + len(piece.samples) == self._samples_per_lane
            if is_complete or piece.counts[SEEN] == PIECE_SAMPLES:
                barren = 0 if piece.samples else barren + piece.counts[SEEN]
                self._require_some(lane, barren, piece)
                yield LaneItem(lane, piece.samples, state, dict(piece.counts), piece.faults, is_complete)
                found = 0 if is_complete else found + len(piece.samples)
                piece = _Piece()

    def close(self) -> None:
        """Close the open shards."""
        while self._open:
            self._open.popitem()[1].close()

    def _walk(self, lane: int, start: LaneState) -> Iterator[tuple[LaneState, Place]]:
        """Give a lane's samples through the epochs, each with the state after it."""
        epoch, position = start.epoch, start.position
        while True:
            for place in self._find_order(epoch).walk(lane, position):
                position += 1
                yield LaneState(epoch, position), place
            epoch, position = epoch + 1, 0

    def _require_some(self, lane: int, barren: int, piece: _Piece) -> None:
        if barren > max(int(self._counts.sum()), PIECE_SAMPLES):
            raise ValueError(
                f"lane {lane} went through {barren} samples, more than there are, and kept none; the last "
                f"{dict(piece.counts)}; mend the data, or loosen its filters"
            )

    def _find_order(self, epoch: int) -> EpochOrder:
        """Make an epoch's order once for all lanes; they are rarely more than two epochs apart."""
        if epoch not in self._orders:
            self._orders[epoch] = EpochOrder(
                self._counts, seed=self._config.seed, epoch=epoch, num_lanes=self._num_lanes
            )
            if len(self._orders) > 2:
                self._orders.popitem(last=False)
        return self._orders[epoch]

    def _find_shard(self, number: int) -> Shard:
        """Open a shard, or take one that a lane has open; the one that was not asked for longest is closed."""
        if number not in self._open:
            self._open[number] = self._source.open(number)
            if len(self._open) > self._max_open:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(number)
        return self._open[number]

    def _take(self, place: Place, epoch: int) -> Sample | Fault | str:
        """Give a sample, what is wrong with it, or the filter that it falls by."""
        shard, name = self._find_shard(place.shard), self._names[place.shard]
        key = f"#{place.ordinal}"
        try:
            raw = shard.read(place.ordinal)
            key = raw.key
            return reject(raw, self._config.filters) or self._decode(raw, name, epoch=epoch)
        except SampleError as error:
            return Fault(f"{name}/{error.key or key}", error.reason, str(error))
        except FileNotFoundError as error:
            return Fault(f"{name}/{key}", "missing file", str(error))
        except ValueError as error:
            return Fault(f"{name}/{key}", "undecodable", str(error))
        except OSError as error:
            return Fault(f"{name}/{key}", "unreadable", str(error))

    def _decode(self, raw: RawSample, shard: str, *, epoch: int) -> Sample:
        """Decode a sample with random numbers that depend on seed, epoch and its name alone."""
        name = zlib.crc32(f"{shard}/{raw.key}".encode(errors="surrogateescape"))
        rng = np.random.default_rng((self._config.seed, CROPS_STREAM, epoch, name))
        return Sample(raw.key, self._decoder.decode(raw.fields, rng))
