"""Accuracy and mean average precision: scikit-learn's numbers, intervals, and what cannot be scored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from downstream.metrics.classification import average_precisions, score_accuracy, score_map, score_soft_accuracy
from reports.interval import bootstrap_ratio_of_sums, wilson_interval

few = settings(deadline=None, max_examples=60)


def multilabel(samples: int, classes: int, *, seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores on a few levels, so with ties, that know a little of the targets; class 0 has one positive."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((samples, classes)) < 0.3).astype(np.int64)
    targets[:, 0] = 0
    targets[rng.integers(samples), 0] = 1
    scores = np.round(levels * (rng.random((samples, classes)) + 0.3 * targets)) / levels
    return scores, targets


def by_sklearn(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> list[float]:
    weights = np.ones(len(scores)) if weights is None else weights
    return [
        average_precision_score(truth, score, sample_weight=weights) if (truth * weights).any() else 0.0
        for score, truth in zip(scores.T, targets.T, strict=True)
    ]


def test_accuracy_has_wilsons_interval_or_one_over_clusters():
    is_right = np.array([True, False, True, True])
    metric = score_accuracy(is_right, seed=0)
    assert (metric.name, metric.value, metric.n, metric.hits, metric.ci_method) == ("accuracy", 75, 4, 3, "wilson")
    assert (metric.ci_low, metric.ci_high) == pytest.approx(wilson_interval(3, 4))
    metric = score_accuracy(is_right, clusters=np.array([5, 5, 6, 7]), seed=2)
    assert metric.ci_method == "bootstrap over clusters, 1000 resamples, seed 2"
    sums = np.array([[1], [1], [1]]), np.array([[2], [1], [1]])
    assert (metric.ci_low, metric.ci_high) == pytest.approx(bootstrap_ratio_of_sums(*sums, reduce="pooled", seed=2))


@pytest.mark.parametrize(
    ("is_right", "clusters", "message"),
    [
        (np.array([0.5, 1]), None, "is_right holds 0.5, expected 0 and 1"),
        (np.array([], bool), None, r"accuracy of samples \(0,\)"),
        (np.ones((2, 2)), None, r"accuracy of samples \(2, 2\)"),
        (np.ones(3), np.array([1, 1]), r"values \(3,\) and clusters \(2,\)"),
    ],
)
def test_answers_that_are_not_right_or_wrong_are_refused(is_right, clusters, message):
    with pytest.raises(ValueError, match=message):
        score_accuracy(is_right, clusters=clusters, seed=0)


def test_a_soft_answer_counts_what_it_is_worth():
    targets = np.array([[0.3, 0, 1], [0, 0.6, 0], [1, 0, 0]])
    metric = score_soft_accuracy(targets, np.array([0, 1, 2]))
    assert (metric.name, metric.n) == ("accuracy", 3)
    assert metric.hits == pytest.approx(0.9)
    assert metric.value == pytest.approx(30)
    assert metric.ci_low < 30 < metric.ci_high
    clustered = score_soft_accuracy(targets, np.array([0, 1, 2]), clusters=np.array([1, 1, 2]), seed=4)
    assert clustered.ci_method == "bootstrap over clusters, 1000 resamples, seed 4"


@pytest.mark.parametrize(
    ("targets", "predictions", "message"),
    [
        (np.ones((2, 3)), np.array([0]), r"targets \(2, 3\) and predictions \(1,\)"),
        (np.array([[0, 1], [0, 1.5]]), np.array([0, 0]), "target of row 1, answer 1, is 1.5, expected 0 to 1"),
        (np.array([[0, np.nan]]), np.array([0]), "target of row 0, answer 1, is nan"),
        (np.ones((2, 3)), np.array([0, 3]), "prediction of row 1 is 3, expected 0 to 2"),
        (np.ones((2, 3)), np.array([-1, 0]), "prediction of row 0 is -1"),
        (np.ones((2, 3)), np.array([0.0, 1.0]), "predictions are float64, expected indices"),
    ],
)
def test_soft_targets_that_do_not_fit_are_refused(targets, predictions, message):
    with pytest.raises(ValueError, match=message):
        score_soft_accuracy(targets, predictions)


@few
@given(samples=st.integers(1, 40), seed=st.integers(0, 1000), levels=st.sampled_from([1, 4, 1000]))
def test_average_precision_is_scikit_learns(samples, seed, levels):
    scores, targets = multilabel(samples, 5, seed=seed, levels=levels)
    np.testing.assert_allclose(average_precisions(scores, targets), by_sklearn(scores, targets), rtol=1e-12)


def test_a_class_without_positives_counts_zero():
    scores, targets = multilabel(30, 4, seed=0, levels=8)
    targets[:, 2] = 0
    found = average_precisions(scores, targets)
    assert found[2] == 0
    assert score_map(scores, targets, seed=0).value == pytest.approx(100 * found.sum() / 4)


@pytest.mark.parametrize("levels", [3, 1000])
def test_the_interval_is_that_of_scikit_learn_with_weights(levels, monkeypatch):
    monkeypatch.setattr("downstream.metrics.classification.NUM_RESAMPLES", 50)
    scores, targets = multilabel(25, 4, seed=1, levels=levels)
    metric = score_map(scores, targets, seed=9)
    draws = np.random.default_rng(9).multinomial(25, np.full(25, 1 / 25), size=50)
    assert any(not (draw @ targets).all() for draw in draws)  # a resample without positives is among them
    values = [100 * np.mean(by_sklearn(scores, targets, draw)) for draw in draws]
    assert (metric.ci_low, metric.ci_high) == pytest.approx(tuple(np.percentile(values, (2.5, 97.5))))
    assert metric.value == pytest.approx(100 * np.mean(by_sklearn(scores, targets)))


def test_the_metric_says_what_it_is_over():
    metric = score_map(*multilabel(25, 4, seed=1, levels=3), seed=9)
    assert (metric.name, metric.n, metric.hits) == ("map", 25, None)
    assert metric.ci_method == "bootstrap over samples, 1000 resamples, seed 9"
    assert metric.ci_low < metric.value < metric.ci_high


def test_the_order_of_the_samples_does_not_change_the_value():
    scores, targets = multilabel(60, 3, seed=2, levels=5)
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(average_precisions(scores[order], targets[order]), average_precisions(scores, targets))


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (
            np.array([[0.1, 0.2], [np.nan, 0.3]]),
            np.ones((2, 2)),
            "score of row 1, class 'dog', is nan, expected finite",
        ),
        (np.array([[0.1, np.inf]]), np.ones((1, 2)), "score of row 0, class 'cat', is inf"),
        (np.ones((1, 2)), np.array([[0, 0.5]]), "target of row 0, class 'cat', is 0.5, expected 0 or 1"),
        (np.ones((1, 2)), np.ones((2, 1)), r"scores \(1, 2\) and targets \(2, 1\)"),
        (np.ones((0, 2)), np.ones((0, 2)), r"scores \(0, 2\)"),
        (np.ones((1, 3)), np.ones((1, 3)), "2 class names of 3 classes"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        score_map(scores, targets, seed=0, class_names=("dog", "cat"))


def test_without_names_a_class_is_told_by_its_column():
    with pytest.raises(ValueError, match="score of row 0, class 1, is nan"):
        average_precisions(np.array([[0, np.nan]]), np.ones((1, 2)))


@pytest.mark.slow
def test_about_95_of_100_intervals_of_accuracy_hold_the_truth():
    rng, held = np.random.default_rng(1), {"alone": 0, "clustered": 0}
    for trial in range(300):
        alone = rng.random(400) < 0.8
        ease = rng.beta(4, 1, 150)  # 80 % on average
        clustered, clips = (rng.random((150, 4)) < ease[:, None]).ravel(), np.repeat(np.arange(150), 4)
        metrics = score_accuracy(alone, seed=trial), score_accuracy(clustered, clusters=clips, seed=trial)
        for name, metric in zip(held, metrics, strict=True):
            held[name] += metric.ci_low <= 80 <= metric.ci_high
    assert all(0.92 <= count / 300 <= 0.98 for count in held.values()), held
