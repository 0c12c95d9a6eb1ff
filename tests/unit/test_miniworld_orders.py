"""Counts are scaled and checked."""

import pytest

from miniworld.orders import make_order


def test_a_scale_multiplies_every_count() -> None:
    order = make_order("x", 3, counts={"num_train": 40, "num_test": 16}, scale=0.25)
    assert order.counts == {"num_train": 10, "num_test": 4}
    assert order.recipe == {
        "generator": "miniworld",
        "version": 1,
        "layout": "x",
        "seed": 3,
        "num_train": 10,
        "num_test": 4,
    }


def test_a_scale_leaves_at_least_one_or_what_is_needed() -> None:
    assert make_order("x", 0, counts={"n": 40}, scale=0.001).counts == {"n": 1}
    assert make_order("x", 0, counts={"n": 40}, scale=0.001, at_least=17).counts == {"n": 17}


def test_fewer_that_were_asked_for_stay_as_they_are() -> None:
    assert make_order("x", 0, counts={"n": 3}, scale=0.5, at_least=17).counts == {"n": 3}
    assert make_order("x", 0, counts={"n": 3}, at_least=17).counts == {"n": 3}


def test_scaled_counts_stay_multiples_of_the_step() -> None:
    assert make_order("x", 0, counts={"n": 10}, scale=0.01, step=5).counts == {"n": 5}
    assert make_order("x", 0, counts={"n": 10}, scale=1.6, step=5).counts == {"n": 15}


@pytest.mark.parametrize(
    ("counts", "step", "message"),
    [({"n": 0}, 1, "n is 0; expected at least 1"), ({"n": 12}, 5, "n is 12; expected a multiple of 5")],
)
def test_counts_that_make_no_sense_are_refused(counts: dict[str, int], step: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_order("x", 0, counts=counts, step=step)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_is_a_number_above_0(scale: float) -> None:
    with pytest.raises(ValueError, match="scale is"):
        make_order("x", 0, counts={"n": 1}, scale=scale)
