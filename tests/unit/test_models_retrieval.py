import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval import mean_recall, recall_at, search, search_both_ways, top_k

few = settings(deadline=None, max_examples=60)


def whole_numbers(rows: int, dim: int, *, seed: int) -> torch.Tensor:
    """Vectors whose products are exact, with many ties."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, (rows, dim))).float()


def ranked_by_hand(queries: torch.Tensor, gallery: torch.Tensor, k: int) -> list[list[int]]:
    scores = (queries @ gallery.T).tolist()
    return [sorted(range(len(row)), key=lambda index: (-row[index], index))[:k] for row in scores]


@few
@given(
    num_queries=st.integers(0, 7),
    num_candidates=st.integers(1, 30),
    dim=st.integers(1, 3),
    block_bytes=st.sampled_from([1, 64, 3000, 20_000, 1 << 20]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_any_blocks_give_the_order_of_a_full_sort_with_the_lower_index_first(
    num_queries, num_candidates, dim, block_bytes, seed, data
):
    k = data.draw(st.integers(1, num_candidates))
    queries, gallery = whole_numbers(num_queries, dim, seed=seed), whole_numbers(num_candidates, dim, seed=seed + 1)
    scores, indices = top_k(queries, gallery, k, block_bytes=block_bytes)
    assert indices.tolist() == ranked_by_hand(queries, gallery, k)
    assert torch.equal(scores, (queries @ gallery.T).gather(1, indices))


def test_candidates_that_are_all_alike_come_in_their_own_order():
    _, indices = top_k(torch.ones(3, 2), torch.ones(5000, 2), 10)
    assert indices.tolist() == [list(range(10))] * 3


def test_half_precision_vectors_are_compared_in_single_precision():
    queries, gallery = torch.randn(3, 64).bfloat16(), torch.randn(20, 64).bfloat16()
    scores, indices = top_k(queries, gallery, 4)
    assert scores.dtype == torch.float32
    assert torch.equal(indices, top_k(queries.float(), gallery.float(), 4)[1])
    assert top_k(queries.double(), gallery, 1)[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "message"),
    [
        (torch.ones(2, 3), torch.ones(4, 2), 1, "of one dim"),
        (torch.ones(3), torch.ones(4, 3), 1, "of one dim"),
        (torch.ones(2, 3), torch.ones(4, 3), 5, "k is 5 with 4 candidates"),
        (torch.ones(2, 3), torch.ones(4, 3), 0, "k is 0"),
        (torch.ones(2, 3), torch.tensor([[1.0, 1, 1], [1, float("nan"), 1]]), 1, "row 1 of the gallery is not finite"),
    ],
)
def test_what_cannot_be_searched_is_refused(queries, gallery, k, message):
    with pytest.raises(ValueError, match=message):
        top_k(queries, gallery, k)


@pytest.mark.slow
def test_a_large_search_stays_in_bounded_memory():
    program = """
import resource, torch
from models.retrieval import top_k
queries, gallery = torch.randn(30_000, 32), torch.randn(20_000, 32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
top_k(queries, gallery, 10)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200  # MiB; all scores at once would be 2289


def test_an_item_hits_where_any_of_its_sentences_is_among_the_first():
    ranked = np.array([[7, 7, 3], [3, 9, 9], [9, 7, 7]])
    hits = recall_at(ranked, np.array([3, 9, 9]), ks=(1, 2, 3))
    assert {k: found.tolist() for k, found in hits.items()} == {1: [0, 0, 1], 2: [0, 1, 1], 3: [1, 1, 1]}


def test_denominators_are_items_one_way_and_sentences_the_other():
    images = torch.eye(3)
    texts = torch.eye(3)[[0, 0, 1, 2, 1]]  # the last one is said of picture 2 and looks like picture 1
    ids = {"text": [10, 10, 20, 30, 30], "image": [10, 20, 30]}
    found = search_both_ways({"text": texts, "image": images}, ids, ks=(1, 3))
    assert found["text_to_image"].hits[1].tolist() == [1, 1, 1, 1, 0]
    assert found["image_to_text"].hits[1].tolist() == [1, 1, 1]
    assert found["image_to_text"].ranked_ids[2].tolist() == [30, 10, 10]
    assert found["text_to_image"].percent(1) == pytest.approx(80)
    assert mean_recall(found.values()) == pytest.approx((80 + 100 + 100 + 100) / 4)


@few
@given(seed=st.integers(0, 1000), num_items=st.integers(2, 12))
def test_recall_grows_with_k_and_is_whole_where_everything_is_looked_at(seed, num_items):
    rng = np.random.default_rng(seed)
    owners = np.concatenate([np.arange(num_items), rng.integers(0, num_items, 5)])
    vectors = {"text": torch.from_numpy(rng.normal(size=(len(owners), 4))), "audio": torch.randn(num_items, 4)}
    found = search(
        {name: each.double() for name, each in vectors.items()},
        {"text": owners, "audio": np.arange(num_items)},
        query="text",
        gallery="audio",
        ks=range(1, num_items + 1),
    )
    percents = [found.percent(k) for k in range(1, num_items + 1)]
    assert percents == sorted(percents)
    assert percents[-1] == 100


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"text": [0, 4, 5], "image": [0, 1, 2]}, "2 text have no image, the first of item 4"),
        ({"text": [0, 1], "image": [0, 1, 2]}, "2 ids of 3 vectors of text"),
    ],
)
def test_queries_without_an_answer_and_ids_that_do_not_fit_are_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        search({"text": torch.eye(3), "image": torch.eye(3)}, ids, query="text", gallery="image", ks=(1,))


def test_no_query_and_ranks_that_were_not_looked_at_are_refused():
    with pytest.raises(ValueError, match="no text"):
        search(
            {"text": torch.ones(0, 3), "image": torch.eye(3)},
            {"text": [], "image": [0, 1, 2]},
            query="text",
            gallery="image",
        )
    with pytest.raises(ValueError, match=r"recall at \[1, 5\] of 3 ranked"):
        recall_at(np.zeros((2, 3), np.int64), np.zeros(2, np.int64), ks=(1, 5))
    with pytest.raises(ValueError, match="expected \\(queries, candidates\\)"):
        recall_at(np.zeros((2, 3), np.int64), np.zeros(3, np.int64), ks=(1,))
