"""How well the right answers stand: one number a sample, whatever kind of task it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from downstream.kinds.base import Facts, Kind, Outputs
from downstream.kinds.grounding import to_pixels
from downstream.kinds.pairs import IS_TRUE
from downstream.metrics.grounding import overlaps

NUM_SHUFFLES = 50
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Table:
    """What each sample's candidates get, and which of them are right."""

    values: Floats
    """(samples, candidates), the higher the better."""
    right: Bools
    """(samples, candidates)."""


def rank_right(table: Table) -> Floats:
    """Give the reciprocal rank of each sample's best right answer, (samples,): 1 where it is the first.

    Wrong answers of the same value count half; a right answer that is no number comes last.
    """
    values = np.where(np.isfinite(table.values), table.values, -np.inf)
    best = np.where(table.right, values, -np.inf).max(axis=1, keepdims=True)
    wrong = ~table.right
    before = ((values > best) & wrong).sum(axis=1) + 0.5 * ((values == best) & wrong).sum(axis=1)
    ranks: Floats = 1 / (1 + before)
    return ranks


def rank_guesses(table: Table) -> Floats:
    """Give what each sample's answers would score if they were other samples' answers, (samples,)."""
    ranks: Floats = np.mean([rank_right(Table(table.values, table.right[order])) for order in _shuffle(table)], axis=0)
    return ranks


def _shuffle(rows: Table | Floats) -> Iterator[NDArray[np.int64]]:
    rng, count = np.random.default_rng(0), len(rows.values if isinstance(rows, Table) else rows)
    return (rng.permutation(count) for _ in range(NUM_SHUFFLES))


def score_guesses(kind_name: str, kind: Kind, samples: Sequence[Any], outputs: Outputs, facts: Facts) -> Floats:
    """Score the answers against other samples' truths, (samples,): what nobody who knows nothing gets beyond."""
    if kind_name != "grounding":
        return rank_guesses(tabulate(kind_name, kind, samples, outputs, facts))
    predicted = to_pixels(outputs(kind.list_units(samples, facts)), samples, facts)
    sides = np.array([facts.sizes[sample.media] * 2 for sample in samples], dtype=np.float64)
    shares = np.array([sample.box for sample in samples], dtype=np.float64) / sides
    guesses: Floats = np.mean([overlaps(predicted, shares[order] * sides) for order in _shuffle(shares)], axis=0)
    return guesses


def score_samples(kind_name: str, kind: Kind, samples: Sequence[Any], outputs: Outputs, facts: Facts) -> Floats:
    """Score every sample, (samples,) from 0 to 1: the reciprocal rank of the right answer, or a box's overlap."""
    if kind_name == "grounding":
        predicted = to_pixels(outputs(kind.list_units(samples, facts)), samples, facts)
        return overlaps(predicted, np.array([sample.box for sample in samples], dtype=np.float64))
    return rank_right(tabulate(kind_name, kind, samples, outputs, facts))


def tabulate(kind_name: str, kind: Kind, samples: Sequence[Any], outputs: Outputs, facts: Facts) -> Table:
    """Put the outputs for some samples beside what is right.

    Raises:
        ValueError: a kind whose answers nobody has put into a table yet.
    """
    if kind_name not in TABLES:
        raise ValueError(f"tasks of kind {kind_name!r} have no score for a probe")
    return TABLES[kind_name](samples, outputs, kind, facts)


def _classes(samples: Sequence[Any], outputs: Outputs, kind: Kind, facts: Facts) -> Table:
    """Classes by a head."""
    values = outputs(kind.list_units(samples, facts)).double().numpy()
    return Table(values, _mark([sample.labels for sample in samples], values.shape[1]))


def _prompted(samples: Sequence[Any], outputs: Outputs, kind: Kind, facts: Facts) -> Table:
    """Classes by the sentences that name them."""
    units = kind.list_units(samples, facts)
    vectors = outputs(units).double().numpy()
    values = vectors[: len(samples)] @ vectors[len(samples) :].T
    return Table(values, _mark([sample.labels for sample in samples], values.shape[1]))


def _captions(samples: Sequence[Any], outputs: Outputs, kind: Kind, facts: Facts) -> Table:
    """The captions of all samples at hand."""
    vectors = outputs(kind.list_units(samples, facts)).double().numpy()
    owners = np.repeat(np.arange(len(samples)), [len(sample.captions) for sample in samples])
    return Table(vectors[: len(samples)] @ vectors[len(samples) :].T, owners == np.arange(len(samples))[:, None])


def _choices(samples: Sequence[Any], outputs: Outputs, kind: Kind, facts: Facts) -> Table:
    """The answers to choose from."""
    values = outputs(kind.list_units(samples, facts)).double().numpy().reshape(len(samples), -1)
    return Table(values, _mark([(sample.answer,) for sample in samples], values.shape[1]))


def _answers(samples: Sequence[Any], outputs: Outputs, kind: Kind, facts: Facts) -> Table:
    """The vocabulary of answers; those that are worth most are right, and where nobody tells, all are."""
    values = outputs(kind.list_units(samples, facts)).double().numpy()
    right = np.ones(values.shape, dtype=bool)
    places = {answer: index for index, answer in enumerate(facts.class_names)}
    for row, sample in zip(right, samples, strict=True):
        known = [(places[answer], worth) for answer, worth in sample.scores or () if answer in places]
        if known:
            highest = max(worth for _, worth in known)
            row[:] = False
            row[[index for index, worth in known if worth == highest]] = True
    return Table(values, right)


def _pairs(samples: Sequence[Any], outputs: Outputs, kind: Kind, facts: Facts) -> Table:
    """True and false."""
    values = outputs(kind.list_units(samples, facts)).double().numpy()
    labels = [(IS_TRUE if sample.is_true else 1 - IS_TRUE,) for sample in samples]
    return Table(values, _mark(labels, values.shape[1]))


def _mark(labels: Sequence[Sequence[int]], width: int) -> Bools:
    right = np.zeros((len(labels), width), dtype=bool)
    for row, each in zip(right, labels, strict=True):
        row[list(each)] = True
    return right


TABLES: Final[Mapping[str, Callable[..., Table]]] = MappingProxyType(
    {
        "classification": _classes,
        "picture_class": _classes,
        "multi_label": _classes,
        "prompted": _prompted,
        "retrieval": _captions,
        "choice": _choices,
        "answers": _answers,
        "pairs": _pairs,
    }
)
"""By kind, how its outputs are put beside what is right; grounding, whose answers are boxes, is scored by overlap."""
