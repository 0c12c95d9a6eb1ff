"""Every sample comes once an epoch, in an order that depends on seed, epoch and shards alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.order import EpochOrder, Place, count_samples, fingerprint

SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any)


def order_of(sizes, *, epoch=0, seed=3, num_lanes=1) -> EpochOrder:
    return EpochOrder(np.array(sizes, np.int64), seed=seed, epoch=epoch, num_lanes=num_lanes)


def walk_all(order: EpochOrder, num_lanes: int) -> list[Place]:
    return [place for lane in range(num_lanes) for place in order.walk(lane, 0)]


@settings(deadline=None, max_examples=60)
@given(sizes=SIZES, num_lanes=st.integers(1, 20), epoch=st.integers(0, 3))
def test_every_sample_comes_exactly_once_an_epoch(sizes, num_lanes, epoch):
    order = order_of(sizes, epoch=epoch, num_lanes=num_lanes)
    expected = [(shard, ordinal) for shard, size in enumerate(sizes) for ordinal in range(size)]
    assert sorted((place.shard, place.ordinal) for place in walk_all(order, num_lanes)) == expected
    lengths = [order.length(lane) for lane in range(num_lanes)]
    assert sum(lengths) == sum(sizes)
    assert max(lengths) - min(lengths) <= 1


@settings(deadline=None, max_examples=60)
@given(sizes=SIZES, num_lanes=st.integers(1, 6), position=st.integers(0, 30))
def test_a_walk_from_any_position_gives_the_rest_of_the_walk(sizes, num_lanes, position):
    order = order_of(sizes, num_lanes=num_lanes)
    for lane in range(num_lanes):
        assert list(order.walk(lane, position)) == list(order.walk(lane, 0))[position:]


def test_the_number_of_lanes_cuts_one_and_the_same_order():
    sizes = [5, 0, 9, 3, 7]
    walks = [walk_all(order_of(sizes, num_lanes=number), number) for number in (1, 2, 5, 24)]
    assert all(walk == walks[0] for walk in walks)


def test_epochs_and_seeds_shuffle_shards_and_samples_anew():
    sizes = [40] * 5
    walks = [walk_all(order_of(sizes, epoch=epoch, seed=seed), 1) for epoch, seed in ((0, 3), (1, 3), (0, 4))]
    for other in walks[1:]:
        assert other != walks[0]
    for walk in walks:
        first = [place.ordinal for place in walk if place.shard == walk[0].shard]
        assert first != sorted(first)
    assert len({tuple(dict.fromkeys(place.shard for place in walk)) for walk in walks}) == 3


class Counted:
    def __init__(self, sizes):
        self.sizes = sizes
        self.shards = [f"s{number}" for number in range(len(sizes))]

    def count(self, shard):
        return self.sizes[shard]


def test_fewer_samples_than_lanes_are_refused():
    assert count_samples(Counted([2, 3]), 5).tolist() == [2, 3]
    with pytest.raises(ValueError, match=r"^5 samples in 2 shards for 6 lanes; expected one or more each"):
        count_samples(Counted([2, 3]), 6)


def test_the_fingerprint_tells_shards_counts_and_settings_apart():
    counts = np.array([2, 3])
    marks = {
        fingerprint(["a", "b"], counts, settings=(1, 2)),
        fingerprint(["a", "c"], counts, settings=(1, 2)),
        fingerprint(["a", "b"], counts[::-1], settings=(1, 2)),
        fingerprint(["a", "b"], counts, settings=(1, 3)),
    }
    assert len(marks) == 4
