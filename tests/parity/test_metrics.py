"""Case 08: recall, mean average precision, overlap of boxes and accuracy, through the functions that tasks call."""

import numpy as np
import pytest
from numpy.typing import NDArray

from downstream.metrics.classification import average_precisions, score_accuracy, score_map, score_soft_accuracy
from downstream.metrics.grounding import score_boxes
from downstream.metrics.retrieval import score_recall
from models.retrieval import RANKS, search_both_ways

pytestmark = pytest.mark.golden

WORDS = {"txt": "image_to_text", "img": "text_to_image"}  # named after what is searched in
COUNTS = {"txt": "img_count", "img": "txt_count"}
MAP_ATOL = 1e-6  # as the case says
EXACT = 1e-9


@pytest.fixture
def case(find_cases):
    (found,) = find_cases("08_")
    return found


def array(case, name: str) -> NDArray:
    return case.input(name).numpy()


def search_stored(case, key: str):
    vectors = {name: case.input(f"{key}.{name}_features") for name in ("text", "image")}
    ids = {name: array(case, f"{key}.{name}_ids") for name in vectors}
    return search_both_ways(vectors, ids)


@pytest.mark.parametrize("key", ["recall_a", "recall_b"])
def test_recall_has_the_stored_shares_counts_and_means(case, key):
    stored = case.manifest["results"][key]
    metrics = {metric.name: metric for metric in score_recall(search_stored(case, key), seed=0)}
    for word, direction in WORDS.items():
        for k in RANKS:
            metric = metrics.pop(f"recall_at_{k}_{direction}")
            assert metric.value == pytest.approx(stored[f"{word}_r{k}"], abs=EXACT)
            assert metric.n == stored[COUNTS[word]]
            assert metric.hits == round(stored[f"{word}_r{k}"] * metric.n / 100)
    assert metrics.pop("recall_mean").value == pytest.approx(stored["r_mean"], abs=EXACT)
    assert not metrics


@pytest.mark.parametrize("key", ["recall_a", "recall_b"])
def test_every_query_has_the_stored_best_items(case, key):
    stored, found = case.manifest["results"][key], search_stored(case, key)
    for word, direction in WORDS.items():
        each = found[direction]
        # A list stands under the item's id: that of the item's last sentence where it has several.
        ours = dict(zip(map(str, each.query_ids.tolist()), each.ranked_ids.tolist(), strict=True))
        assert ours == stored[f"predict_{word}"]


def test_average_precision_of_every_class(case):
    stored = case.manifest["results"]["map"]
    scores, targets = case.input("map.logits").sigmoid().numpy(), array(case, "map.targets")
    np.testing.assert_allclose(
        average_precisions(scores, targets), stored["per_class_average_precision"], rtol=0, atol=MAP_ATOL
    )
    metric = score_map(scores, targets, seed=0)
    assert metric.value == pytest.approx(100 * stored["map"], abs=100 * MAP_ATOL)
    assert metric.n == stored["map_cnt"]


def test_a_class_without_positives_counts_zero_and_stays_in_the_mean(case):
    stored = case.manifest["results"]["map_one_class_without_positives"]
    scores, targets = case.input("map.logits").sigmoid().numpy(), array(case, "map.targets").copy()
    targets[:, 4] = 0  # as the case says
    assert average_precisions(scores, targets)[4] == 0
    assert score_map(scores, targets, seed=0).value == pytest.approx(100 * stored, abs=100 * MAP_ATOL)


def test_boxes_that_overlap_by_half(case):
    stored = case.manifest["results"]["iou_acc"]
    metric = score_boxes(array(case, "iou.hyps"), array(case, "iou.refs"), seed=0)
    assert (metric.hits, metric.n) == (stored["score_sum"], stored["score_cnt"])
    assert metric.value == pytest.approx(100 * stored["iou_acc"], abs=EXACT)


def test_accuracy_of_indices(case):
    stored = case.manifest["results"]["accuracy_index"]
    metric = score_accuracy(array(case, "accuracy.logits").argmax(axis=1) == array(case, "accuracy.index"), seed=0)
    assert (metric.hits, metric.n) == (stored["score_sum"], stored["score_cnt"])
    assert metric.value == pytest.approx(100 * stored["accuracy"], abs=EXACT)


def test_accuracy_of_soft_targets(case):
    stored = case.manifest["results"]["accuracy_soft"]
    metric = score_soft_accuracy(array(case, "accuracy.soft"), array(case, "accuracy.logits").argmax(axis=1))
    assert metric.n == stored["score_cnt"]
    assert metric.hits == pytest.approx(stored["score_sum"], abs=1e-6)  # the stored sum is one of float32
    assert metric.value == pytest.approx(100 * stored["accuracy"], abs=1e-5)


def test_no_result_of_the_case_is_passed_over(case):
    assert set(case.manifest["results"]) == {
        *("recall_a", "recall_b", "map", "map_one_class_without_positives"),
        *("iou_acc", "accuracy_index", "accuracy_soft"),
    }
