"""Of 1000 simulated evaluations, 93 to 97 in a hundred have a 95 % interval that holds the truth."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from downstream.metrics.classification import score_accuracy, score_map
from reports.interval import measure_share
from reports.record import MetricValue

NUM_TRIALS = 1000
NUM_CLASSES = 4
SEPARATION, PREVALENCE = 1.5, 0.2  # how far the scores of positives lie from those of negatives, and how many there are

pytestmark = pytest.mark.slow


def simulate_accuracy(rng: np.random.Generator, *, seed: int) -> MetricValue:
    return score_accuracy(rng.random(400) < 0.85, seed=seed)


def simulate_recall(rng: np.random.Generator, *, seed: int) -> MetricValue:
    """Five captions a picture that are found or missed together more often than by chance; half of them in all."""
    rates = rng.beta(0.8, 0.8, size=200)
    hits = rng.random((200, 5)) < rates[:, None]
    return measure_share("recall", hits.ravel(), clusters=np.repeat(np.arange(200), 5), over="items", seed=seed)


def simulate_map(rng: np.random.Generator, *, seed: int, num_samples: int = 400) -> MetricValue:
    scores, targets = draw_scores(rng, num_samples)
    return score_map(scores, targets, seed=seed)


def draw_scores(rng: np.random.Generator, num_samples: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    targets = (rng.random((num_samples, NUM_CLASSES)) < PREVALENCE).astype(np.int64)
    return rng.normal(size=targets.shape) + SEPARATION * targets, targets


def true_map() -> float:
    """The average precision of the two distributions: precision integrated over recall, all classes being alike."""
    from scipy.stats import norm

    cuts = np.linspace(-8, 8 + SEPARATION, 200_001)
    right, wrong = PREVALENCE * norm.sf(cuts - SEPARATION), (1 - PREVALENCE) * norm.sf(cuts)
    precision = right / np.maximum(right + wrong, 1e-300)
    return float(100 * np.trapezoid(precision * norm.pdf(cuts - SEPARATION), cuts))


@pytest.mark.parametrize(
    ("simulate", "truth"),
    [(simulate_accuracy, 85.0), (simulate_recall, 50.0), (simulate_map, true_map())],
    ids=["accuracy", "recall with clustered captions", "mAP"],
)
def test_intervals_hold_the_truth_about_95_times_in_100(simulate: Callable[..., MetricValue], truth: float) -> None:
    rng = np.random.default_rng(20230518)
    held = sum(_holds(simulate(rng, seed=trial), truth) for trial in range(NUM_TRIALS))
    assert 0.93 <= held / NUM_TRIALS <= 0.97


def _holds(metric: MetricValue, truth: float) -> bool:
    assert metric.ci_low is not None
    assert metric.ci_high is not None
    return metric.ci_low <= truth <= metric.ci_high
