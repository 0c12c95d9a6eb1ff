"""Recall between two modalities and accuracy of naming by prompts, with intervals over items."""

from collections.abc import Mapping
from statistics import fmean

import numpy as np

from models.retrieval import RANKS, Retrieved
from reports.interval import (
    NUM_RESAMPLES,
    bootstrap_ratio_of_sums,
    measure_share,
    name_bootstrap,
    sum_clusters,
)
from reports.record import MetricValue

OVER = "items"


def score_recall(found: Mapping[str, Retrieved], *, seed: int) -> tuple[MetricValue, ...]:
    """Score a search between two modalities, both ways.

    An item is what both sides belong to: a picture or a clip, with one sentence or several. Where several queries share
    one, their interval comes from drawing whole items again, else it is Wilson's. What is searched in stays as it is.

    Args:
        found: by direction, as `search_both_ways` gives it: "image_to_text" and "text_to_image".
        seed: of the bootstraps.

    Returns:
        `recall_at_1_image_to_text` and so on for 1, 5 and 10, first for the direction that comes first, with n the
        queries of the direction; and `recall_mean`, the mean of the six, which has no count of its own. What a small
        set cannot tell, recall at more ranks than there are candidates and the mean, is left out.

    Raises:
        ValueError: other directions than two opposite ones, recall that was not looked for at 1, or items that are
            asked for one way only.

    Source: reference one_peace/metrics/recall.py; the mean is its `r_mean`.
    """
    _check_directions(found)
    metrics = [
        measure_share(f"recall_at_{k}_{direction}", each.hits[k], clusters=each.query_ids, over=OVER, seed=seed)
        for direction, each in found.items()
        for k in RANKS
        if k in each.hits
    ]
    if any(not set(RANKS) <= set(each.hits) for each in found.values()):
        return tuple(metrics)
    return (*metrics, _measure_mean(found, fmean(metric.value for metric in metrics), seed=seed))


def _measure_mean(found: Mapping[str, Retrieved], value: float, *, seed: int) -> MetricValue:
    """Give the mean of all recalls its interval: an item is drawn with its queries of both directions."""
    columns = [(each.hits[k], each.query_ids) for each in found.values() for k in RANKS]
    hits = np.hstack([sum_clusters(hit, items) for hit, items in columns])
    counts = np.hstack([sum_clusters(np.ones(len(hit)), items) for hit, items in columns])
    low, high = bootstrap_ratio_of_sums(hits, counts, num_resamples=NUM_RESAMPLES, seed=seed)
    method = name_bootstrap(OVER, seed=seed)
    return MetricValue(name="recall_mean", value=value, ci_low=low, ci_high=high, ci_method=method)


def _check_directions(found: Mapping[str, Retrieved]) -> None:
    opposite = ["_to_".join(reversed(direction.split("_to_"))) for direction in found]
    if len(found) != 2 or opposite != list(found)[::-1]:
        raise ValueError(f"recall of {', '.join(found) or 'nothing'}: expected two directions, such as image_to_text")
    for direction, each in found.items():
        if RANKS[0] not in each.hits:
            asked = ", ".join(map(str, each.hits)) or "nothing"
            raise ValueError(f"{direction} was searched for recall at {asked}: expected at least at 1")
    one, other = (np.unique(each.query_ids) for each in found.values())
    if not np.array_equal(one, other):
        lonely = np.setxor1d(one, other)
        raise ValueError(f"{len(lonely)} items are asked for one way only, the first {lonely[0]}: expected both ways")


def score_prompted(found: Retrieved) -> MetricValue:
    """Score naming by prompts: the `accuracy` of the class whose sentence is nearest, with Wilson's interval.

    Args:
        found: pictures or clips searched for among the sentences of all classes, with the class as the item.

    Raises:
        ValueError: the nearest one was not looked for.
    """
    if 1 not in found.hits:
        raise ValueError(f"searched for recall at {', '.join(map(str, found.hits))}: expected at 1 among them")
    return measure_share("accuracy", found.hits[1], over=OVER, seed=0)
