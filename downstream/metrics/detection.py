"""COCO's average precision of boxes and masks as pycocotools counts it, with intervals over pictures."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from reports.interval import bootstrap_interval
from reports.record import MetricValue

Floats = NDArray[np.float64]
What = Literal["box", "mask"]

NUM_RESAMPLES: Final = 200  # each one sorts nothing, but adds up all detections anew
STATISTICS: Final = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5}
"""Places in what COCOeval summarises."""
NUM_THRESHOLDS: Final = 10
TINY: Final = float(np.spacing(1))  # what COCOeval adds to a denominator


@dataclass(frozen=True)
class Detection:
    """One thing that was found in a picture."""

    category: int
    """Id, as the annotations have it."""
    box: tuple[float, float, float, float]
    """Left, top, width, height in the picture's own pixels."""
    score: float
    """By which boxes are ranked."""
    mask_score: float
    """By which masks are ranked."""
    runs: Mapping[str, Any]
    """Pixels, as pycocotools packs them; `counts` as text."""

    def to_row(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {**vars(self), "box": list(self.box), "runs": dict(self.runs)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Detection":
        """Undo `to_row`."""
        left, top, width, height = row["box"]
        return cls(row["category"], (left, top, width, height), row["score"], row["mask_score"], row["runs"])


Found = Mapping[int, Sequence[Detection]]
"""By picture id, what was found in it."""


def score(truth: Mapping[str, Any], found: Found, *, seed: int) -> tuple[MetricValue, ...]:
    """Score boxes and masks over all pictures of the truth.

    Args:
        truth: images, annotations and categories of the pictures that are judged, as COCO has them.
        found: of every one of these pictures.
        seed: of the bootstrap over pictures.

    Returns:
        `box_ap`, `box_ap50`, `box_ap75`, `box_ap_small`, `box_ap_medium`, `box_ap_large`, and the same of masks, in per
        cent; NaN where no thing of that size is marked. AP, AP50 and AP75 have an interval, the sizes have none: each
        would be another pass over all detections.

    Raises:
        ValueError: a picture was not looked at.

    Source: detectron2 COCOEvaluator: masks are judged by their own area and not by that of their box.
    """
    wanted = {image["id"] for image in truth["images"]}
    if wanted != set(found):
        raise ValueError(f"{len(wanted)} pictures to judge, {len(wanted & set(found))} of them were looked at")
    boxes, masks = (_score_one(truth, found, what, seed=seed) for what in ("box", "mask"))
    return (*boxes, *masks)


def class_aps(truth: Mapping[str, Any], found: Found, what: What = "box") -> dict[str, float | None]:
    """Give each category its AP in per cent; None where none of it is marked."""
    judged = _judge(truth, found, what)
    precision = judged.eval["precision"][..., 0, -1]  # (thresholds, recalls, categories), all sizes, most detections
    names = {category["id"]: category["name"] for category in truth["categories"]}
    values = {}
    for place, category in enumerate(judged.params.catIds):
        counted = precision[:, :, place][precision[:, :, place] > -1]
        values[names[category]] = float(100 * counted.mean()) if counted.size else None
    return values


def _score_one(truth: Mapping[str, Any], found: Found, what: What, *, seed: int) -> list[MetricValue]:
    judged = _judge(truth, found, what)
    intervals = _intervals(judged, seed=seed)
    metrics = []
    for name, place in STATISTICS.items():
        low, high = intervals.get(name, (None, None))
        metrics.append(
            MetricValue(
                name=f"{what}_{name}",
                value=float(100 * judged.stats[place]) if judged.stats[place] > -1 else float("nan"),
                n=len(truth["images"]),
                ci_low=low,
                ci_high=high,
                ci_method=f"bootstrap over pictures, {NUM_RESAMPLES} resamples, seed {seed}"
                if name in intervals
                else None,
            )
        )
    return metrics


def _judge(truth: Mapping[str, Any], found: Found, what: What) -> COCOeval:
    """Let pycocotools match and count; what it prints is kept from the screen."""
    with contextlib.redirect_stdout(io.StringIO()):
        marked = _index(truth)
        rows = [_to_result(picture, each, what) for picture in sorted(found) for each in found[picture]]
        results = marked.loadRes(rows) if rows else _index({**truth, "annotations": []})
        judged = COCOeval(marked, results, {"box": "bbox", "mask": "segm"}[what])
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged


def _index(content: Mapping[str, Any]) -> COCO:
    indexed = COCO()
    indexed.dataset = {**content, "annotations": [dict(one) for one in content["annotations"]]}
    indexed.createIndex()
    return indexed


def _to_result(picture: int, each: Detection, what: What) -> dict[str, Any]:
    """Say a detection in pycocotools' words; a mask comes without its box, whose area would stand for its own."""
    common = {"image_id": picture, "category_id": each.category}
    if what == "box":
        return {**common, "bbox": list(each.box), "score": each.score}
    return {**common, "segmentation": dict(each.runs), "score": each.mask_score}


@dataclass(frozen=True)
class _Ranked:
    """All detections of one category, best first, and how many things of it each picture shows."""

    picture: NDArray[np.int64]
    """(detections,) place of the picture."""
    hits: Floats
    """(thresholds, detections)"""
    misses: Floats
    things: Floats
    """(pictures,)"""


def _rank(judged: COCOeval) -> list[_Ranked]:
    """Take out of COCOeval what it found for things of all sizes, by category."""
    params, num_pictures = judged.params, len(judged.params.imgIds)
    ranked = []
    for category in range(len(params.catIds)):
        start = category * len(params.areaRng) * num_pictures  # all sizes come first
        cells = [(place, cell) for place, cell in enumerate(judged.evalImgs[start : start + num_pictures]) if cell]
        if not cells:
            continue
        things = np.zeros(num_pictures)
        for place, cell in cells:
            things[place] = np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)
        scores = np.concatenate([cell["dtScores"] for _, cell in cells])
        order = np.argsort(-scores, kind="mergesort")
        matched = np.concatenate([cell["dtMatches"] for _, cell in cells], axis=1)[:, order] != 0
        counts = np.concatenate([cell["dtIgnore"] for _, cell in cells], axis=1)[:, order] == 0
        picture = np.concatenate([np.full(len(cell["dtScores"]), place) for place, cell in cells])[order]
        hits, misses = (matched & counts).astype(np.float64), (~matched & counts).astype(np.float64)
        ranked.append(_Ranked(picture.astype(np.int64), hits, misses, things))
    return ranked


def _intervals(judged: COCOeval, *, seed: int) -> dict[str, tuple[float, float]]:
    """Draw whole pictures again; the same draws serve all three numbers."""
    ranked, recalls = _rank(judged), judged.params.recThrs
    thresholds = [round(float(threshold), 2) for threshold in judged.params.iouThrs]
    wanted = {"ap": list(range(len(thresholds))), "ap50": [thresholds.index(0.5)], "ap75": [thresholds.index(0.75)]}
    drawn: dict[bytes, Floats] = {}

    def draw(weights: Floats) -> Floats:
        key = weights.tobytes()
        if key not in drawn:
            drawn[key] = weighted_precision(ranked, weights, recalls)
        return drawn[key]

    def interval(columns: list[int]) -> tuple[float, float]:
        def statistic(weights: Floats) -> Floats:
            return np.array([_mean(draw(each)[:, columns]) for each in weights])

        num_pictures = len(judged.params.imgIds)
        low, high = bootstrap_interval(statistic, num_pictures, seed=seed, num_resamples=NUM_RESAMPLES)
        return 100 * low, 100 * high

    return {name: interval(columns) for name, columns in wanted.items()}


def _mean(precisions: Floats) -> float:
    """Average what is there; NaN where nothing is."""
    return float(np.nanmean(precisions)) if not np.isnan(precisions).all() else float("nan")


def weighted_precision(ranked: Sequence[_Ranked], weights: Floats, recalls: Floats) -> Floats:
    """Give (categories, thresholds) mean precisions where picture i counts `weights[i]` times; NaN without things.

    With every weight 1 these are COCOeval's own numbers.
    """
    table = np.full((len(ranked), NUM_THRESHOLDS), np.nan)
    for row, one in enumerate(ranked):
        if not (num_things := one.things @ weights):
            continue
        each = weights[one.picture]
        hits, misses = np.cumsum(one.hits * each, axis=1), np.cumsum(one.misses * each, axis=1)
        precision = hits / (hits + misses + TINY)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for column, recall in enumerate(hits / num_things):
            places = np.searchsorted(recall, recalls, side="left")
            reached = places[places < len(recall)]
            table[row, column] = envelope[column, reached].sum() / len(recalls)
    return table
