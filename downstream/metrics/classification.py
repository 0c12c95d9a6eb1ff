"""Accuracy, also in part, and the mean over classes of average precision, with 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.interval import NUM_RESAMPLES, bootstrap_interval, measure_share, name_bootstrap
from reports.record import MetricValue

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OVER = "clusters"


def score_accuracy(is_right: Array, *, clusters: Array | None = None, seed: int) -> MetricValue:
    """Score answers that are right or wrong: `accuracy`.

    Args:
        is_right: (samples,) of 0 and 1, or of truth values.
        clusters: (samples,) what each belongs to, as its clip, where several belong to one; they are then drawn again
            together for the interval.
        seed: of the bootstrap over clusters.

    Raises:
        ValueError: no sample, other values, or shapes that do not fit.
    """
    if not np.isin(is_right, (0, 1)).all():
        wrong = is_right[~np.isin(is_right, (0, 1))].flat[0]
        raise ValueError(f"is_right holds {wrong}, expected 0 and 1; answers that count in part are soft targets")
    return measure_share("accuracy", is_right.astype(np.int64), clusters=clusters, over=OVER, seed=seed)


def score_soft_accuracy(
    soft_targets: Array, predictions: Array, *, clusters: Array | None = None, seed: int = 0
) -> MetricValue:
    """Score answers that count in part by what each chosen one is worth: `accuracy`.

    Args:
        soft_targets: (samples, answers), what each answer is worth, 0 to 1.
        predictions: (samples,) index of the chosen answer.
        clusters: as in `score_accuracy`.
        seed: of the bootstrap over clusters.

    Raises:
        ValueError: shapes that do not fit, a target outside 0 to 1, or a prediction that is no answer's index.

    Source: reference one_peace/metrics/accuracy.py. Without clusters the interval is Wilson's of the summed worth, a
    little wide, as parts vary less than whole answers.
    """
    if soft_targets.ndim != 2 or predictions.shape != soft_targets.shape[:1]:
        shapes = f"targets {soft_targets.shape} and predictions {predictions.shape}"
        raise ValueError(f"{shapes}: expected (samples, answers) and (samples,)")
    in_range = (soft_targets >= 0) & (soft_targets <= 1)
    if not in_range.all():
        row, column = np.argwhere(~in_range)[0]
        raise ValueError(f"target of row {row}, answer {column}, is {soft_targets[row, column]}, expected 0 to 1")
    if not np.issubdtype(predictions.dtype, np.integer):
        raise ValueError(f"predictions are {predictions.dtype}, expected indices of answers")
    is_answer = (predictions >= 0) & (predictions < soft_targets.shape[1])
    if not is_answer.all():
        row = int(np.flatnonzero(~is_answer)[0])
        raise ValueError(f"prediction of row {row} is {predictions[row]}, expected 0 to {soft_targets.shape[1] - 1}")
    worth = soft_targets[np.arange(len(predictions)), predictions].astype(np.float64)
    return measure_share("accuracy", worth, clusters=clusters, over=OVER, seed=seed)


def average_precisions(scores: Array, targets: Array) -> Floats:
    """Give the average precision of each class, (classes,), from 0 to 1.

    It is the mean precision over the class's positives, samples of equal score being taken together. A class without
    positives has 0.

    Args:
        scores: (samples, classes), higher where the class is more likely.
        targets: (samples, classes) of 0 and 1.

    Raises:
        ValueError: shapes that do not fit, a score that is not finite, or another target.

    Source: scikit-learn's average_precision_score, which reference one_peace/metrics/map.py calls.
    """
    _check_scores(scores, targets, class_names=None)
    once = np.ones((len(scores), 1))
    return np.array([_weigh(each, once)[0] for each in _rank_classes(scores, targets)])


def score_map(scores: Array, targets: Array, *, seed: int, class_names: Sequence[str] | None = None) -> MetricValue:
    """Score by the plain mean over classes of average precision, in per cent: `map`.

    A class without positives counts 0 and stays in the mean, also in a resample that has none of it, which draws the
    interval of rare classes down.

    Args:
        scores: (samples, classes), higher where the class is more likely.
        targets: (samples, classes) of 0 and 1.
        seed: of the bootstrap over samples.
        class_names: (classes,) for errors to tell.

    Raises:
        ValueError: see `average_precisions`.

    Source: reference one_peace/metrics/map.py.
    """
    _check_scores(scores, targets, class_names=class_names)
    rankings = _rank_classes(scores, targets)

    def statistic(weights: Floats) -> Floats:
        by_sample = np.ascontiguousarray(weights.T)
        total = np.zeros(len(weights))
        for ranking in rankings:
            total += _weigh(ranking, by_sample)
        return 100 * total / len(rankings)

    low, high = bootstrap_interval(statistic, len(scores), seed=seed, num_resamples=NUM_RESAMPLES)
    return MetricValue(
        name="map",
        value=float(100 * average_precisions(scores, targets).mean()),
        n=len(scores),
        ci_low=low,
        ci_high=high,
        ci_method=name_bootstrap("samples", seed=seed),
    )


@dataclass(frozen=True)
class _Ranking:
    """One class's samples, best first, down to its last positive; cut behind each group of equals that holds one."""

    order: Ints
    """(samples down to the last positive and its equals,) their places."""
    starts: Ints
    """(groups,) where in `order` each stretch begins; it ends with the group's last positive or an equal of it."""
    positives: Ints
    """(positives,) their places, best first."""
    positive_starts: Ints
    """(groups,) where in `positives` those of each group begin."""


def _rank_classes(scores: Array, targets: Array) -> list[_Ranking]:
    return [_rank(*each) for each in zip(scores.T, targets.T != 0, strict=True)]


def _rank(scores: Array, is_positive: NDArray[np.bool_]) -> _Ranking:
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], is_positive[order]
    # Where the group of equals ends that each place belongs to, behind its last one.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, len(ranked))
    places = np.flatnonzero(positive)
    cuts, positive_starts = np.unique(ends[np.searchsorted(ends, places, side="right")], return_index=True)
    starts = np.concatenate([[0], cuts[:-1]]) if cuts.size else cuts
    return _Ranking(order[: cuts[-1]] if cuts.size else order[:0], starts, order[places], positive_starts)


def _weigh(ranking: _Ranking, weights: Floats) -> Floats:
    """Give the class's average precision under each set of weights, (sets,), of `weights` (samples, sets)."""
    if not ranking.starts.size:
        return np.zeros(weights.shape[1])
    right = np.add.reduceat(weights[ranking.positives], ranking.positive_starts, axis=0)
    seen = np.add.reduceat(weights[ranking.order], ranking.starts, axis=0).cumsum(axis=0)
    found = right.cumsum(axis=0)
    precisions = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    sums = np.einsum("gs,gs->s", right, precisions)
    means: Floats = np.divide(sums, found[-1], out=np.zeros_like(sums), where=found[-1] > 0)
    return means


def _check_scores(scores: Array, targets: Array, *, class_names: Sequence[str] | None) -> None:
    if scores.ndim != 2 or scores.shape != targets.shape or not scores.size:
        raise ValueError(f"scores {scores.shape} and targets {targets.shape}: expected (samples, classes) twice")
    if class_names is not None and len(class_names) != scores.shape[1]:
        raise ValueError(f"{len(class_names)} class names of {scores.shape[1]} classes, expected as many")
    for what, values, is_fine, wanted in (
        ("score", scores, np.isfinite(scores), "finite ones"),
        ("target", targets, np.isin(targets, (0, 1)), "0 or 1"),
    ):
        if not is_fine.all():
            row, column = np.argwhere(~is_fine)[0]
            name = column if class_names is None else repr(class_names[column])
            raise ValueError(f"{what} of row {row}, class {name}, is {values[row, column]}, expected {wanted}")
