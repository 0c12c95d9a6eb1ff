"""The order of the classes: a list in another order makes every answer a wrong one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from downstream.doctor.base import Cost, Finding, Question, ok, suspect, unchecked
from downstream.doctor.case import NO_DATA, Case
from reports.provenance import digest

if TYPE_CHECKING:
    from downstream.doctor.probe import Compared
    from downstream.doctor.scores import Floats, Table

Ints = NDArray[np.int64]

LEAST_PER_CLASS = 2  # samples of a class, on average, to find any order
NO_CLASSES = "there are no classes"
SHOWN = 3


def look_at_order(case: Case) -> Finding:
    """Hold the classes of the data against those that weights of ours were fine-tuned with."""
    if case.listing is None:
        return unchecked(NO_DATA)
    names = case.listing.class_names
    if not names:
        return unchecked(NO_CLASSES)
    wanted = case.config.dataset.num_classes
    if case.is_published and wanted is not None and len(names) != wanted:
        return suspect(f"{len(names)} classes are named, {wanted} are published", "take the makers' own list")
    if case.origin is None or case.origin.head is None or not case.origin.classes_sha256:
        return ok(f"{len(names)} classes, the first {names[0]!r}; the weights tell no names")
    made = case.origin.classes_sha256
    if made == digest(list(names)):
        return ok(f"{len(names)} classes, those that the weights were fine-tuned with")
    source = case.listing.sources[-1].name
    for word, order in _named_orders(names).items():
        if digest([names[place] for place in order]) == made:
            return suspect(
                f"the weights were fine-tuned with these classes {word}, {source} has them in another order",
                f"restore the order of {source}: take the makers' own list",
            )
    return suspect(
        f"the weights were fine-tuned with other names or another order of classes than {source} has",
        "take the list that the weights were fine-tuned with",
    )


def _named_orders(names: Sequence[str]) -> Mapping[str, list[int]]:
    """Give orders that lists are often found in."""
    places = list(range(len(names)))
    return {
        "in the order of the alphabet": sorted(places, key=lambda place: names[place]),
        "from the last to the first": places[::-1],
        "numbered one higher": [*places[1:], places[0]],
        "numbered one lower": [places[-1], *places[:-1]],
    }


def probe_order(case: Case) -> Finding:
    """See whether the answers are right under another order of the classes."""
    from downstream.doctor.scores import rank_guesses, rank_right

    if case.listing is None or (not case.listing.class_names and case.probe.kind_name != "pairs"):
        return unchecked(NO_CLASSES)
    table = case.probe.tabulate()
    names = case.listing.class_names or ("false", "true")
    before = rank_right(table)
    orders = {word: np.array(order) for word, order in _named_orders(names).items()}
    if len(names) == 2:
        orders = {"the other way round": np.array([1, 0])}
    tried = [
        _compare(f"the classes {word}", before, rank_right(moved), rank_guesses(moved))
        for word, order in orders.items()
        for moved in (reorder(table, order), reorder(table, np.argsort(order)))
    ]
    has_enough = len(table.right) >= LEAST_PER_CLASS * len(names) and (table.right.sum(axis=1) == 1).all()
    if has_enough and len(names) > 2:
        tried.append(_compare("the classes in an order found on other samples", before, *cross_fit(table)))
    best = max(tried, key=lambda each: each.gain)
    if not best.is_better:
        rest = "" if has_enough else "; too few samples of a class to look for any order"
        return ok(f"{best.told}{rest}")
    return suspect(f"{best.told}{_tell_moves(table, names)}", _remedy(case), gain=best.gain)


def _remedy(case: Case) -> str:
    if case.probe.kind_name == "pairs":
        return "these weights say True with the other output: the accuracy is the complement of what is reported"
    assert case.listing is not None, "data"
    return f"take the makers' own {case.listing.sources[-1].name}: its order is not the one that the weights know"


def reorder(table: "Table", order: Ints) -> "Table":
    """Move what is right: class k becomes class `order[k]`."""
    from downstream.doctor.scores import Table

    right = np.zeros_like(table.right)
    right[:, order] = table.right
    return Table(table.values, right)


def match_classes(table: "Table") -> Ints:
    """Find the order of classes that the answers fit best: class k goes with the returned k-th column."""
    from scipy.optimize import linear_sum_assignment

    centred = table.values - table.values.mean(axis=1, keepdims=True)
    fit = table.right.astype(float).T @ centred
    _, columns = linear_sum_assignment(-fit)
    found: Ints = columns.astype(np.int64)
    return found


def _compare(name: str, before: "Floats", after: "Floats", guessed: "Floats") -> "Compared":
    """Compare scores; an order that fits answers which are always the same explains nothing."""
    from downstream.doctor.probe import compare, is_informed

    return replace(compare(name, before, after), is_informed=is_informed(after, guessed))


def cross_fit(table: "Table") -> tuple["Floats", "Floats"]:
    """Score each half of the samples by the order that the other half fits best, and by guessing under that order."""
    from downstream.doctor.scores import Table, rank_guesses, rank_right

    scores, guessed = np.zeros(len(table.values)), np.zeros(len(table.values))
    halves = (np.arange(len(scores)) % 4 < 2, np.arange(len(scores)) % 4 >= 2)
    for own, other in (halves, halves[::-1]):
        order = match_classes(Table(table.values[other], table.right[other]))
        moved = reorder(Table(table.values[own], table.right[own]), order)
        scores[own], guessed[own] = rank_right(moved), rank_guesses(moved)
    return scores, guessed


def _tell_moves(table: "Table", names: Sequence[str]) -> str:
    """Show some classes and what they are answered as."""
    if len(names) == 2:
        return ""
    order = match_classes(table)
    moved = [
        f"{names[k]!r} as {names[order[k]]!r}" for k in range(len(names)) if order[k] != k and table.right[:, k].any()
    ]
    return f"; answered are {', '.join(moved[:SHOWN])}" if moved else ""


ORDER = Question("class order", Cost.CHEAP, look_at_order)
ORDER_PROBE = Question("class order", Cost.COMPUTE, probe_order)
