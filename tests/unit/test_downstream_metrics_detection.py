"""AP of boxes and masks is pycocotools', its intervals are over pictures, and both rankings are kept apart."""

import math
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as packed

from downstream.metrics import detection as metric
from downstream.metrics.detection import Detection, class_aps, score, weighted_precision

SIDE = 200
Rect = tuple[int, int, int, int]


def runs_of(rect: Rect) -> dict[str, Any]:
    left, top, width, height = rect
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    made = packed.encode(mask)
    return {"size": [SIDE, SIDE], "counts": made["counts"].decode()}


def found_at(rect: Rect, *, category: int = 1, score: float = 0.9, mask_score: float = 0.9) -> Detection:
    return Detection(category, tuple(map(float, rect)), score, mask_score, runs_of(rect))  # type: ignore[arg-type]


def truth_of(things: dict[int, list[tuple[int, Rect, int]]]) -> dict[str, Any]:
    """Make a truth of category, rectangle and crowd by picture."""
    annotations: list[dict[str, Any]] = []
    for picture, marked in things.items():
        for category, rect, crowd in marked:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": category,
                    "bbox": [float(side) for side in rect],
                    "area": float(rect[2] * rect[3]),
                    "iscrowd": crowd,
                    "segmentation": runs_of(rect),
                }
            )
    return {
        "images": [{"id": picture, "width": SIDE, "height": SIDE} for picture in things],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cup"}, {"id": 7, "name": "dog"}],
    }


def values(truth: dict[str, Any], found: dict[int, list[Detection]]) -> dict[str, float]:
    return {each.name: each.value for each in score(truth, found, seed=0)}


CUP, DOG, FAR = (10, 10, 20, 20), (60, 60, 100, 100), (150, 5, 40, 20)


def test_what_is_all_found_is_a_hundred_and_what_is_not_is_nothing() -> None:
    truth = truth_of({1: [(1, CUP, 0), (7, DOG, 0)], 2: []})
    all_found = {1: [found_at(CUP), found_at(DOG, category=7)], 2: []}
    got = values(truth, all_found)
    assert got["box_ap"] == got["mask_ap"] == got["box_ap_small"] == got["mask_ap_large"] == pytest.approx(100)
    assert math.isnan(got["box_ap_medium"])
    assert values(truth, {1: [], 2: []})["box_ap"] == 0
    assert class_aps(truth, {1: [found_at(CUP)], 2: []}) == {"cup": pytest.approx(100), "dog": 0}
    assert class_aps(truth_of({1: [(1, CUP, 0)]}), {1: []}) == {"cup": 0, "dog": None}


def test_every_metric_counts_the_pictures_and_three_have_an_interval() -> None:
    metrics = score(truth_of({1: [(1, CUP, 0)], 2: []}), {1: [found_at(CUP)], 2: []}, seed=3)
    assert [each.n for each in metrics] == [2] * 12
    with_interval = {each.name for each in metrics if each.ci_low is not None}
    assert with_interval == {f"{what}_{name}" for what in ("box", "mask") for name in ("ap", "ap50", "ap75")}
    assert {each.ci_method for each in metrics} == {None, "bootstrap over pictures, 200 resamples, seed 3"}


def test_boxes_go_by_class_score_and_masks_by_their_own() -> None:
    truth = truth_of({1: [(1, CUP, 0)]})
    right_first = [found_at(CUP, score=0.9, mask_score=0.1), found_at(FAR, score=0.5, mask_score=0.8)]
    got = values(truth, {1: right_first})
    assert got["box_ap"] == pytest.approx(100)
    assert got["mask_ap"] == pytest.approx(50)


def test_a_mask_is_small_or_large_by_its_own_area() -> None:
    thin = (0, 0, 100, 100)
    truth = truth_of({1: [(1, thin, 0)]})
    truth["annotations"][0].update(segmentation=runs_of((0, 0, 4, 4)), area=16.0)
    stray = Detection(1, (100.0, 100.0, 99.0, 99.0), 0.95, 0.95, runs_of((150, 150, 4, 4)))
    hit = Detection(1, (0.0, 0.0, 100.0, 100.0), 0.9, 0.9, runs_of((0, 0, 4, 4)))
    got = values(truth, {1: [stray, hit]})
    assert got["mask_ap_small"] == got["mask_ap"] == pytest.approx(50)  # by its box the stray one would be none of them


def test_what_lies_in_a_crowd_is_neither_hit_nor_miss() -> None:
    truth = truth_of({1: [(1, CUP, 0), (1, DOG, 1)]})
    inside = (70, 70, 20, 20)
    assert values(truth, {1: [found_at(CUP, score=0.5), found_at(inside, score=0.9)]})["box_ap"] == pytest.approx(100)
    assert values(truth, {1: [found_at(CUP, score=0.5), found_at(FAR, score=0.9)]})["box_ap"] == pytest.approx(50)


def test_a_picture_that_was_not_looked_at_is_refused() -> None:
    with pytest.raises(ValueError, match="2 pictures to judge, 1 of them"):
        score(truth_of({1: [], 2: []}), {1: []}, seed=0)


def random_case(seed: int) -> tuple[dict[str, Any], dict[int, list[Detection]]]:
    rng = np.random.default_rng(seed)

    def rect() -> Rect:
        left, top, width, height = (int(x) for x in rng.integers([0, 0, 8, 8], [100, 100, 90, 90]))
        return left, top, width, height

    things = {
        picture: [(int(rng.choice([1, 7])), rect(), int(rng.random() < 0.15)) for _ in range(rng.integers(0, 5))]
        for picture in range(1, 13)
    }
    found: dict[int, list[Detection]] = {}
    for picture, marked in things.items():
        near = [
            (category, (left + int(rng.integers(0, 8)), top, width, height))
            for category, (left, top, width, height), _ in marked
        ]
        guesses = [*near, *((int(rng.choice([1, 7])), rect()) for _ in range(4))]
        found[picture] = [
            found_at(box, category=category, score=float(rng.random()), mask_score=float(rng.random()))
            for category, box in guesses
        ]
    return truth_of(things), found


@pytest.mark.parametrize("what", ["box", "mask"])
@pytest.mark.parametrize("seed", range(3))
def test_pictures_that_count_once_give_pycocotools_own_numbers(what: metric.What, seed: int) -> None:
    truth, found = random_case(seed)
    judged = metric._judge(truth, found, what)
    ranked = metric._rank(judged)
    table = weighted_precision(ranked, np.ones(len(truth["images"])), judged.params.recThrs)
    assert np.nanmean(table) == pytest.approx(judged.stats[0], abs=1e-12)
    assert np.nanmean(table[:, 0]) == pytest.approx(judged.stats[1], abs=1e-12)
    assert np.nanmean(table[:, 5]) == pytest.approx(judged.stats[2], abs=1e-12)


def test_a_picture_that_counts_twice_is_as_good_as_two_of_it() -> None:
    truth, found = random_case(5)
    ids = [image["id"] for image in truth["images"]]
    weights = np.ones(len(ids))
    weights[2], weights[4] = 2, 0
    judged = metric._judge(truth, found, "box")
    table = weighted_precision(metric._rank(judged), weights, judged.params.recThrs)
    copy = max(ids) + 1
    kept = [one for one in truth["annotations"] if one["image_id"] != ids[4]]
    doubled = [{**one, "image_id": copy, "id": one["id"] + 1000} for one in kept if one["image_id"] == ids[2]]
    twice = {
        **truth,
        "images": [image for image in truth["images"] if image["id"] != ids[4]] + [{**truth["images"][2], "id": copy}],
        "annotations": kept + doubled,
    }
    found_twice = {key: value for key, value in found.items() if key != ids[4]} | {copy: found[ids[2]]}
    assert np.nanmean(table) == pytest.approx(metric._judge(twice, found_twice, "box").stats[0], abs=1e-12)


def test_a_detection_survives_its_row() -> None:
    each = found_at(CUP, category=7, score=0.25, mask_score=0.125)
    assert Detection.from_row(each.to_row()) == each
