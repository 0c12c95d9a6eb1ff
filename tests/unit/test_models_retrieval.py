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
        (torch.ones(2, 0), torch.ones(4, 0), 1, "of dim 0"),
        (torch.ones(2, 3), torch.tensor([[1.0, 1, 1], [1, float("nan"), 1]]), 1, "row 1 of the gallery is not finite"),
    ],
)
def test_what_cannot_be_searched_is_refused(queries, gallery, k, message):
    with pytest.raises(ValueError, match=message):
        top_k(queries, gallery, k)


def similar(rows: int, dim: int, *, seed: int, spread: float = 1.0) -> torch.Tensor:
    """Unit vectors; with a small spread their products differ by no more than rounding does."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=dim) + spread * rng.normal(size=(rows, dim))
    return torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).float()


@pytest.mark.parametrize("spread", [1, 1e-3, 1e-7])
@pytest.mark.parametrize("dim", [1, 3, 37, 64])
def test_blocks_of_any_size_give_the_same_bits(dim, spread):
    queries = similar(20, dim, seed=0, spread=spread)
    gallery = similar(900, dim, seed=1, spread=spread)
    whole = top_k(queries, gallery, 10)
    for block_bytes in (1, 3600 * 7):
        parts = top_k(queries, gallery, 10, block_bytes=block_bytes)
        assert torch.equal(parts[0], whole[0])
        assert torch.equal(parts[1], whole[1])
    alone = [top_k(query[None], gallery, 10)[1] for query in queries]
    assert torch.equal(torch.cat(alone), whole[1])


@pytest.mark.parametrize("spread", [1, 1e-3, 1e-7])
def test_what_is_found_is_what_exact_sums_put_first_up_to_rounding(spread):
    queries, gallery = similar(20, 64, seed=0, spread=spread), similar(3001, 64, seed=1, spread=spread)
    scores, indices = top_k(queries, gallery, 10)
    sharp = queries.double() @ gallery.double().T
    best = sharp.sort(dim=1, descending=True)[0][:, :10]
    torch.testing.assert_close(scores.double(), best, rtol=0, atol=3e-7)
    torch.testing.assert_close(sharp.gather(1, indices), best, rtol=0, atol=3e-7)


@few
@given(num_distinct=st.integers(1, 40), copies=st.integers(2, 40), seed=st.integers(0, 1000))
def test_equal_candidates_tie_exactly_and_come_in_their_own_order(num_distinct, copies, seed):
    distinct = similar(num_distinct, 37, seed=seed)
    owners = torch.from_numpy(np.random.default_rng(seed).permutation(num_distinct * copies) % num_distinct)
    k = min(10, len(owners))
    queries = similar(5, 37, seed=seed + 1)
    scores, indices = top_k(queries, distinct[owners], k)
    for row in range(len(queries)):
        found = owners[indices[row]].tolist()
        for one, two in zip(range(k - 1), range(1, k), strict=True):
            assert (scores[row, one] == scores[row, two]) == (found[one] == found[two])
            assert found[one] != found[two] or indices[row, one] < indices[row, two]
        # Copies are taken from the first one on.
        for owner in set(found):
            taken = indices[row][owners[indices[row]] == owner].tolist()
            assert taken == (owners == owner).nonzero()[: len(taken), 0].tolist()


def test_equal_queries_have_equal_results_wherever_they_stand():
    queries, gallery = similar(300, 37, seed=0), similar(700, 37, seed=1)
    queries[[3, 150, 299]] = queries[77].clone()
    scores, indices = top_k(queries, gallery, 10, block_bytes=700 * 4 * 64)
    for row in (3, 150, 299):
        assert torch.equal(scores[row], scores[77])
        assert torch.equal(indices[row], indices[77])


def test_a_pair_scores_the_same_from_either_side():
    one, other = similar(30, 37, seed=0), similar(30, 37, seed=1)
    there, back = (torch.empty(30, 30), torch.empty(30, 30))
    for grid, (queries, gallery) in ((there, (one, other)), (back, (other, one))):
        scores, indices = top_k(queries, gallery, 30)
        grid.scatter_(1, indices, scores)
    assert torch.equal(there, back.T)


def test_coarser_products_are_refused():
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ValueError, match="precision is 'high', expected 'highest'"):
            top_k(torch.ones(2, 3), torch.ones(4, 3), 1)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_scores_keep_single_precision_under_autocast():
    queries, gallery = similar(20, 64, seed=0), similar(500, 64, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        scores, indices = top_k(queries, gallery, 10)
    assert torch.equal(scores, top_k(queries, gallery, 10)[0])
    assert torch.equal(indices, top_k(queries, gallery, 10)[1])


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_vectors_of_a_training_or_of_inference_are_searched_alike(mode):
    with mode():
        queries, gallery = (
            similar(20, 8, seed=0).requires_grad_(mode is torch.enable_grad),
            similar(500, 8, seed=1).clone(),
        )
    scores, indices = top_k(queries, gallery, 3)
    assert not scores.requires_grad
    assert torch.equal(indices, top_k(queries.detach().clone(), gallery.clone(), 3)[1])


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
