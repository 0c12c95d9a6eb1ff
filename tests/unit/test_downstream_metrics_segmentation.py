"""Scores are ratios of sums over pictures, as MMSegmentation has them; test_downstream_data asks its own code."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from downstream.metrics.segmentation import Areas, class_ious, picture_ious, score

NUM_CLASSES = 5
IGNORED = 255


def make_areas(prediction: np.ndarray, truth: np.ndarray, num_classes: int = NUM_CLASSES) -> Areas:
    """Count with a confusion matrix, the slow and plain way."""
    seen = truth != IGNORED
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for ours, theirs in zip(prediction[seen], truth[seen], strict=True):
        confusion[ours, theirs] += 1
    return Areas(np.diag(confusion).copy(), confusion.sum(1), confusion.sum(0))


@st.composite
def pictures(draw: st.DrawFn) -> list[Areas]:
    """Random label maps; some classes are absent, some pixels ignored."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    absent = draw(st.integers(0, NUM_CLASSES - 1))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        prediction, truth = rng.integers(0, NUM_CLASSES - absent, (2, 6, 7))
        truth = np.where(rng.random((6, 7)) < draw(st.sampled_from([0.0, 0.3, 1.0])), IGNORED, truth)
        made.append(make_areas(prediction, truth))
    return made


def plain_scores(areas: list[Areas]) -> dict[str, float]:
    hits, ours, theirs = (sum(getattr(area, name) for area in areas) for name in ("intersect", "predicted", "labelled"))
    ious = [100 * h / (o + t - h) for h, o, t in zip(hits, ours, theirs, strict=True) if o + t]
    recalls = [100 * h / t for h, t in zip(hits, theirs, strict=True) if t]
    total = int(theirs.sum())
    return {
        "miou": float(np.mean(ious)) if ious else math.nan,
        "macc": float(np.mean(recalls)) if recalls else math.nan,
        "aacc": 100 * int(hits.sum()) / total if total else math.nan,
    }


@settings(max_examples=25, deadline=None)
@given(areas=pictures())
def test_scores_are_ratios_of_sums_over_the_classes_that_occur(areas: list[Areas]) -> None:
    found = {metric.name: metric.value for metric in score(areas, seed=0)}
    assert found == pytest.approx(plain_scores(areas), nan_ok=True, abs=1e-9)


def test_intervals_contain_the_value_and_name_their_method() -> None:
    rng = np.random.default_rng(3)
    areas = [make_areas(*rng.integers(0, NUM_CLASSES, (2, 9, 8))) for _ in range(40)]
    for metric in score(areas, seed=7):
        assert metric.ci_low is not None
        assert metric.ci_high is not None
        assert metric.ci_low < metric.value < metric.ci_high
        assert metric.ci_method == "bootstrap over pictures, 1000 resamples, seed 7"
        assert metric.n == 40


def test_the_interval_of_one_picture_is_its_value() -> None:
    areas = [make_areas(*np.random.default_rng(1).integers(0, NUM_CLASSES, (2, 9, 8)))]
    for metric in score(areas, seed=0):
        assert (metric.ci_low, metric.ci_high) == pytest.approx((metric.value, metric.value))


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(5)
    areas = [make_areas(*rng.integers(0, NUM_CLASSES, (2, 4, 5))) for _ in range(6)]
    assert score(areas, seed=1) == score(areas, seed=1)
    assert score(areas, seed=1) != score(areas, seed=2)


def test_a_perfect_prediction_scores_a_hundred() -> None:
    truth = np.random.default_rng(2).integers(0, NUM_CLASSES, (6, 7))
    assert [metric.value for metric in score([make_areas(truth, truth)] * 3, seed=0)] == [100.0] * 3


def test_a_class_that_is_only_predicted_costs_iou_but_no_accuracy() -> None:
    truth, prediction = np.zeros((2, 3), dtype=int), np.array([[0, 0, 0], [0, 0, 4]])
    found = {metric.name: metric.value for metric in score([make_areas(prediction, truth)], seed=0)}
    assert found == pytest.approx({"miou": 100 * (5 / 6) / 2, "aacc": 500 / 6, "macc": 500 / 6})


def test_each_class_has_its_iou_or_none() -> None:
    truth, prediction = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 3]])
    assert class_ious([make_areas(prediction, truth)] * 2, list("abcde")) == {
        "a": 50.0,
        "b": 50.0,
        "c": None,
        "d": None,
        "e": None,
    }


def test_as_many_names_as_classes_are_needed() -> None:
    with pytest.raises(ValueError, match="argument"):
        class_ious([make_areas(np.zeros((1, 1), int), np.zeros((1, 1), int))], ["a"])


@settings(max_examples=25, deadline=None)
@given(areas=pictures())
def test_a_pictures_own_score_is_that_of_a_set_of_one(areas: list[Areas]) -> None:
    miou = next(metric.value for metric in score(areas[:1], seed=0) if metric.name == "miou")
    assert picture_ious(areas[0]) == pytest.approx(miou, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(areas=pictures())
def test_sparse_counts_come_back_through_json_as_they_were(areas: list[Areas]) -> None:
    for area in areas:
        back = Areas.from_sparse({"id": "x", **json.loads(json.dumps(area.to_sparse()))})
        for name in ("intersect", "predicted", "labelled"):
            assert np.array_equal(getattr(back, name), getattr(area, name))
            assert getattr(back, name).dtype == np.int64


def test_sparse_counts_leave_out_what_does_not_occur() -> None:
    area = make_areas(np.full((2, 3), 4), np.full((2, 3), 4))
    assert area.to_sparse() == {"num_classes": 5, "intersect": {"4": 6}, "predicted": {"4": 6}, "labelled": {"4": 6}}
