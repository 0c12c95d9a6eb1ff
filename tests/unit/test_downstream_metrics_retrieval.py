"""Recall of a search: names, counts, intervals over items, and what cannot be scored."""

import numpy as np
import pytest
import torch

from downstream.metrics.retrieval import score_prompted, score_recall
from models.retrieval import RANKS, Retrieved, mean_recall, search, search_both_ways
from reports.interval import wilson_interval


def vectors_of(rows: int, *, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 8)))


def captioned(num_items: int = 20, *, per_item: int = 3) -> dict[str, Retrieved]:
    """Pictures with several sentences each, all at random."""
    owners = np.repeat(np.arange(num_items) * 10, per_item)
    vectors = {"image": vectors_of(num_items, seed=0), "text": vectors_of(len(owners), seed=1)}
    return search_both_ways(vectors, {"image": np.unique(owners), "text": owners})


def retrieved(hits: np.ndarray, items: np.ndarray, ks=RANKS) -> Retrieved:
    return Retrieved(items, np.zeros((len(items), 10), np.int64), dict.fromkeys(ks, hits.astype(np.int64)))


def test_both_directions_have_three_ranks_and_their_mean():
    found = captioned()
    metrics = score_recall(found, seed=0)
    assert [metric.name for metric in metrics] == [
        "recall_at_1_image_to_text",
        "recall_at_5_image_to_text",
        "recall_at_10_image_to_text",
        "recall_at_1_text_to_image",
        "recall_at_5_text_to_image",
        "recall_at_10_text_to_image",
        "recall_mean",
    ]
    assert [metric.n for metric in metrics] == [20, 20, 20, 60, 60, 60, None]
    assert metrics[-1].value == pytest.approx(mean_recall(found.values()))
    assert metrics[-1].hits is None
    for metric in metrics[:-1]:
        assert metric.value == pytest.approx(100 * metric.hits / metric.n)
    for metric in metrics:
        assert metric.ci_low <= metric.value <= metric.ci_high
        assert metric.unit == "%"


def test_only_queries_that_share_an_item_are_drawn_again_by_item():
    metrics = {metric.name: metric for metric in score_recall(captioned(), seed=7)}
    assert metrics["recall_at_1_image_to_text"].ci_method == "wilson"
    assert metrics["recall_at_1_text_to_image"].ci_method == "bootstrap over items, 1000 resamples, seed 7"
    assert metrics["recall_mean"].ci_method == "bootstrap over items, 1000 resamples, seed 7"
    single = score_recall(captioned(per_item=1), seed=7)
    assert {metric.ci_method for metric in single[:-1]} == {"wilson"}


def test_sentences_of_one_item_that_agree_widen_the_interval():
    items = np.repeat(np.arange(50), 5)
    together = np.repeat(np.arange(50) % 2, 5)
    apart = np.arange(250) % 2
    widths = []
    for hits in (together, apart):
        sides = {"text_to_image": retrieved(hits, items), "image_to_text": retrieved(np.ones(50), np.arange(50))}
        metric = score_recall(sides, seed=0)[0]
        widths.append(metric.ci_high - metric.ci_low)
    assert widths[0] > 2 * widths[1]


def test_the_mean_is_drawn_with_the_queries_of_both_directions():
    hits = np.arange(40) % 2
    same = {"a_to_b": retrieved(hits, np.arange(40)), "b_to_a": retrieved(hits, np.arange(40))}
    opposite = {"a_to_b": retrieved(hits, np.arange(40)), "b_to_a": retrieved(1 - hits, np.arange(40))}
    mean = score_recall(same, seed=0)[-1]
    assert mean.ci_high - mean.ci_low > 25  # as one share of 40
    mean = score_recall(opposite, seed=0)[-1]
    assert (mean.ci_low, mean.value, mean.ci_high) == pytest.approx((50, 50, 50))


def test_the_order_of_the_queries_does_not_matter():
    found = captioned()
    order = np.random.default_rng(0).permutation(60)
    text = found["text_to_image"]
    mixed = Retrieved(text.query_ids[order], text.ranked_ids[order], {k: each[order] for k, each in text.hits.items()})
    assert score_recall({**found, "text_to_image": mixed}, seed=0) == score_recall(found, seed=0)


def test_what_too_few_candidates_cannot_tell_is_left_out():
    vectors = {"image": vectors_of(9, seed=0), "text": vectors_of(9, seed=1)}
    ids = {"image": range(9), "text": range(9)}
    with pytest.raises(ValueError, match="k is 10 with 9 candidates"):
        search_both_ways(vectors, ids)
    names = [metric.name for metric in score_recall(search_both_ways(vectors, ids, ks=(1, 5)), seed=0)]
    assert names == [f"recall_at_{k}_{way}" for way in ("image_to_text", "text_to_image") for k in (1, 5)]
    with pytest.raises(ValueError, match="image_to_text was searched for recall at 5: expected at least at 1"):
        score_recall(search_both_ways(vectors, ids, ks=(5,)), seed=0)


def test_anything_but_two_opposite_directions_is_refused():
    found = captioned()
    with pytest.raises(ValueError, match="recall of text_to_image: expected two directions"):
        score_recall({"text_to_image": found["text_to_image"]}, seed=0)
    with pytest.raises(ValueError, match="recall of text_to_image, text_to_audio"):
        score_recall({"text_to_image": found["text_to_image"], "text_to_audio": found["image_to_text"]}, seed=0)
    with pytest.raises(ValueError, match="recall of nothing"):
        score_recall({}, seed=0)


def test_items_that_are_asked_for_one_way_only_are_refused():
    sides = {"a_to_b": retrieved(np.ones(12), np.arange(12)), "b_to_a": retrieved(np.ones(11), np.arange(11))}
    with pytest.raises(ValueError, match="1 items are asked for one way only, the first 11"):
        score_recall(sides, seed=0)


def test_naming_by_prompts_counts_every_clip_though_many_share_a_class():
    labels, clips = torch.eye(3), torch.eye(3)[[0, 0, 1, 2, 1, 1]]
    ids = {"text": [0, 1, 2], "audio": [0, 0, 1, 1, 1, 2]}
    metric = score_prompted(search({"text": labels, "audio": clips}, ids, query="audio", gallery="text", ks=(1,)))
    assert (metric.name, metric.n, metric.hits, metric.ci_method) == ("accuracy", 6, 4, "wilson")
    assert metric.value == pytest.approx(100 * 4 / 6)
    assert (metric.ci_low, metric.ci_high) == pytest.approx(wilson_interval(4, 6))
    with pytest.raises(ValueError, match="searched for recall at 5: expected at 1"):
        score_prompted(retrieved(np.ones(3), np.arange(3), ks=(5,)))


@pytest.mark.slow
def test_about_95_of_100_intervals_of_recall_with_five_sentences_an_item_hold_the_truth():
    rng, num_items, held = np.random.default_rng(1), 200, {"text_to_image": 0, "image_to_text": 0, "mean": 0}
    for trial in range(300):
        # How easy an item is differs, 60 % on average: its sentences hit or miss together more often than by chance.
        ease = rng.beta(1.5, 1.0, num_items)
        texts = rng.random((num_items, 5)) < ease[:, None]
        sides = {
            "text_to_image": retrieved(texts.ravel(), np.repeat(np.arange(num_items), 5)),
            "image_to_text": retrieved(rng.random(num_items) < ease, np.arange(num_items)),
        }
        metrics = score_recall(sides, seed=trial)
        for name, metric in zip(held, (metrics[0], metrics[3], metrics[6]), strict=True):
            held[name] += metric.ci_low <= 60 <= metric.ci_high
    assert all(0.92 <= count / 300 <= 0.98 for count in held.values()), held
