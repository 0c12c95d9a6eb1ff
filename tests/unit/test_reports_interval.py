"""Intervals: known values, the same seed gives the same interval, and 95 % of them hold the truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.interval import (
    bootstrap_interval,
    bootstrap_ratio_of_sums,
    measure_share,
    sum_clusters,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (1836, 2000, 90.515917, 92.923818),
        (0, 10, 0.0, 27.75328),
        (10, 10, 72.24672, 100.0),
        (5, 10, 23.659309, 76.340691),
        (9547, 10758, 88.132128, 89.326735),
    ],
)
def test_wilson_gives_the_values_that_scipy_gives(hits: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=1e-5)


@given(st.integers(1, 50_000), st.floats(0, 1))
def test_wilson_holds_the_share_and_stays_within_0_and_100(n: int, share: float) -> None:
    low, high = wilson_interval(share * n, n)
    assert 0 <= low <= 100 * share + 1e-9
    assert 100 * share - 1e-9 <= high <= 100


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_wilson_refuses_an_impossible_count(hits: float, n: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= hits <= n"):
        wilson_interval(hits, n)


def test_the_ratio_of_sums_is_what_a_plain_loop_gives() -> None:
    rng = np.random.default_rng(5)
    union = rng.integers(0, 40, (7, 3))
    inside = rng.integers(0, union + 1)
    draws = np.random.default_rng(11).multinomial(7, np.full(7, 1 / 7), size=50)
    values = []
    for draw in draws:
        top, bottom = draw @ inside, draw @ union
        values.append(np.mean([a / b for a, b in zip(top, bottom, strict=True) if b]))
    expected = 100 * np.percentile(values, [2.5, 97.5])
    assert bootstrap_ratio_of_sums(inside, union, seed=11, num_resamples=50) == pytest.approx(tuple(expected))


def test_the_seed_decides_the_interval() -> None:
    union = np.arange(1, 61).reshape(20, 3)
    inside = union // 2
    first, again, other = (bootstrap_ratio_of_sums(inside, union, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_pooled_sums_over_classes_first() -> None:
    inside, union = np.array([[9, 0], [9, 0]]), np.array([[10, 90], [10, 90]])
    assert bootstrap_ratio_of_sums(inside, union, reduce="pooled", seed=0) == pytest.approx((9.0, 9.0))
    assert bootstrap_ratio_of_sums(inside, union, seed=0) == pytest.approx((45.0, 45.0))


def test_a_class_that_does_not_occur_is_left_out() -> None:
    inside, union = np.array([[5, 0], [5, 0]]), np.array([[10, 0], [10, 0]])
    assert bootstrap_ratio_of_sums(inside, union, seed=0) == pytest.approx((50.0, 50.0))


def test_nothing_at_all_gives_no_interval() -> None:
    zeros = np.zeros((3, 2))
    assert all(map(math.isnan, bootstrap_ratio_of_sums(zeros, zeros, seed=0)))


@pytest.mark.parametrize(("top", "bottom"), [((3, 2), (3, 1)), ((3,), (3,)), ((0, 2), (0, 2))])
def test_other_shapes_are_refused(top: tuple[int, ...], bottom: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        bootstrap_ratio_of_sums(np.ones(top), np.ones(bottom), seed=0)


def test_chunks_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(13)
    whole = bootstrap_interval(lambda weights: weights @ values / 13, 13, seed=3)
    monkeypatch.setattr("reports.interval.CHUNK_CELLS", 13 * 7)
    assert bootstrap_interval(lambda weights: weights @ values / 13, 13, seed=3) == whole


def test_about_95_of_100_bootstrap_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    num_trials, held = 200, 0
    for trial in range(num_trials):
        hits = (rng.random((200, 1)) < 0.7).astype(float)
        low, high = bootstrap_ratio_of_sums(hits, np.ones_like(hits), seed=trial, num_resamples=300)
        held += low <= 70 <= high
    assert 0.90 <= held / num_trials <= 0.99


def test_samples_that_stand_for_themselves_have_wilsons_interval() -> None:
    hits = np.array([1, 0, 1, 1])
    alone, named = (
        measure_share("accuracy", hits, clusters=each, over="clips", seed=0)
        for each in (None, hits.cumsum() * 5 + [0, 1, 2, 3])
    )
    assert alone == named
    assert (alone.value, alone.n, alone.hits, alone.ci_method) == (75, 4, 3, "wilson")
    assert (alone.ci_low, alone.ci_high) == wilson_interval(3, 4)


def test_clusters_are_drawn_again_together() -> None:
    hits, clusters = np.array([1, 0, 1, 1, 0]), np.array(["b", "a", "b", "a", "c"])
    metric = measure_share("accuracy", hits, clusters=clusters, over="clips", seed=3)
    sums = np.array([[1], [2], [0]]), np.array([[2], [2], [1]])
    assert (metric.ci_low, metric.ci_high) == bootstrap_ratio_of_sums(*sums, reduce="pooled", seed=3)
    assert metric.ci_method == "bootstrap over clips, 1000 resamples, seed 3"
    assert (metric.value, metric.n, metric.hits) == (pytest.approx(60), 5, 3)


def test_answers_count_in_part() -> None:
    metric = measure_share("accuracy", np.array([0.3, 1, 0.2]), over="clips", seed=0)
    assert metric.hits == pytest.approx(1.5)
    assert (metric.ci_low, metric.ci_high) == pytest.approx(wilson_interval(1.5, 3))


def test_sums_stand_in_the_order_of_the_names() -> None:
    assert sum_clusters(np.array([1, 2, 4]), np.array([9, -3, 9])).tolist() == [[2], [5]]


def test_no_sample_and_other_shapes_have_no_share() -> None:
    with pytest.raises(ValueError, match=r"accuracy of samples \(0,\): expected \(samples,\), one or more"):
        measure_share("accuracy", np.array([]), over="clips", seed=0)
    with pytest.raises(ValueError, match=r"values \(2,\) and clusters \(3,\)"):
        measure_share("accuracy", np.ones(2), clusters=np.zeros(3), over="clips", seed=0)
