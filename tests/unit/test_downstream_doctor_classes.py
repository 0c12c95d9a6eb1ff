"""A list of classes in another order is found out, and an order that is right is left alone."""

import numpy as np
import pytest

from downstream.doctor.classes import _compare, _named_orders, cross_fit, match_classes, reorder
from downstream.doctor.scores import Table, rank_right

NAMES = ("dog", "cat", "ape", "bee", "elk", "fox", "gnu")


def answers(order: list[int], *, noise: float, num_samples: int = 70) -> Table:
    """Give answers of weights to which class k of the data is class `order[k]`."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_samples) % len(order)
    values = rng.normal(0, noise, (num_samples, len(order)))
    values[np.arange(num_samples), np.array(order)[labels]] += 1
    return Table(values, np.eye(len(order), dtype=bool)[labels])


def test_any_order_is_found_by_the_answers() -> None:
    order = [3, 0, 6, 1, 5, 2, 4]
    table = answers(order, noise=0.3)
    assert match_classes(table).tolist() == order
    assert (rank_right(reorder(table, np.array(order))) == 1).mean() > 0.9
    compared = _compare("", rank_right(table), *cross_fit(table))
    assert compared.is_better
    assert compared.gain > 0.5


@pytest.mark.parametrize("noise", [0.1, 1.0, 100.0])
@pytest.mark.parametrize(("num_classes", "num_samples"), [(7, 70), (30, 60)])
def test_an_order_that_is_right_is_not_bettered_on_other_samples(
    noise: float, num_classes: int, num_samples: int
) -> None:
    table = answers(list(range(num_classes)), noise=noise, num_samples=num_samples)
    assert not _compare("", rank_right(table), *cross_fit(table)).is_better


def test_an_answer_that_is_always_the_same_and_often_right_tells_of_no_order() -> None:
    """As weights that were never trained give it, where one class is frequent."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(64) < 0.6, 2, rng.integers(0, 4, 64))
    table = Table(np.tile([0.1, 0.9, 0.2, 0.3], (64, 1)), np.eye(4, dtype=bool)[labels])
    scores, guessed = cross_fit(table)
    assert scores.mean() > rank_right(table).mean() + 0.1
    assert not _compare("", rank_right(table), scores, guessed).is_better


def test_the_usual_orders_are_orders_and_the_alphabet_is_one() -> None:
    orders = _named_orders(NAMES)
    assert all(sorted(order) == list(range(7)) for order in orders.values())
    assert [NAMES[place] for place in orders["in the order of the alphabet"]] == sorted(NAMES)
    assert orders["numbered one higher"] == [1, 2, 3, 4, 5, 6, 0]


def test_reordering_moves_what_is_right_and_nothing_else() -> None:
    table = answers([0, 1, 2], noise=0.1, num_samples=3)
    moved = reorder(table, np.array([2, 0, 1]))
    assert moved.right.tolist() == [[False, False, True], [True, False, False], [False, True, False]]
    assert moved.values is table.values
