"""Boxes: overlap by hand, and what counts as a hit."""

import numpy as np
import pytest

from downstream.metrics.grounding import overlaps, score_boxes


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_overlap_is_intersection_over_union():
    truth = boxes((0, 0, 4, 2), (0, 0, 4, 2), (0, 0, 4, 2), (0, 0, 4, 2))
    predicted = boxes((0, 0, 4, 2), (2, 0, 6, 2), (4, 0, 8, 2), (1, 1, 3, 2))
    assert overlaps(predicted, truth).tolist() == pytest.approx([1, 4 / 12, 0, 2 / 8])


def test_boxes_apart_on_both_axes_do_not_overlap():
    assert overlaps(boxes((0, 0, 1, 1)), boxes((2, 2, 3, 3))).tolist() == [0]


def test_crossed_corners_miss_though_their_areas_are_positive():
    assert overlaps(boxes((4, 2, 0, 0)), boxes((0, 0, 4, 2))).tolist() == [0]
    assert score_boxes(boxes((4, 2, 0, 0)), boxes((4, 2, 0, 0)), seed=0).hits == 0


def test_empty_boxes_overlap_nothing():
    assert overlaps(boxes((1, 1, 1, 1), (1, 1, 1, 1)), boxes((1, 1, 1, 1), (0, 0, 3, 3))).tolist() == [0, 0]


def test_half_is_a_hit_and_a_little_less_is_none():
    truth = boxes((0, 0, 4, 2), (0, 0, 4, 2))
    metric = score_boxes(boxes((0, 0, 2, 2), (0, 0, 1.99, 2)), truth, seed=0)
    assert (metric.name, metric.n, metric.hits) == ("accuracy_at_iou_50", 2, 1)
    assert (metric.value, metric.ci_method) == (50, "wilson")


def test_boxes_of_one_picture_are_drawn_again_together():
    truth = np.tile(boxes((0, 0, 4, 2)), (6, 1))
    metric = score_boxes(truth, truth, clusters=np.array([1, 1, 2, 2, 3, 3]), seed=5)
    assert metric.ci_method == "bootstrap over clusters, 1000 resamples, seed 5"


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (np.ones((2, 4)), np.ones((3, 4)), r"predicted \(2, 4\) and true \(3, 4\) boxes"),
        (np.ones((2, 5)), np.ones((2, 5)), r"expected \(boxes, 4\) twice"),
        (np.ones((1, 4)), np.array([[0, 0, np.nan, 1]]), "true box 0 is .*nan.*, expected finite"),
        (np.ones((0, 4)), np.ones((0, 4)), "one or more"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        score_boxes(predicted, truth, seed=0)
