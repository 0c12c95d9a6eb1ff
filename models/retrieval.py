"""Searching vectors of one modality among those of another: exact ranking in bounded memory, and recall.

Source: reference one_peace/metrics/recall.py.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints: TypeAlias = NDArray[np.int64]

RANKS = (1, 5, 10)
"""How many of the first candidates are looked at, in the paper's tables."""
BLOCK_BYTES = 4 << 20  # scores held at a time; more than the caches hold is slower
QUERIES_PER_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Retrieved:
    """What a search in one direction found."""

    query_ids: Ints
    """(queries,) the item that each query belongs to."""
    ranked_ids: Ints
    """(queries, largest k) the items of its best candidates, best first; an item may come more than once."""
    hits: Mapping[int, Ints]
    """k to (queries,): 1 where the query's own item is among the first k, else 0."""

    def percent(self, k: int) -> float:
        """Give recall at k: the share of queries that hit, in per cent."""
        return float(100 * self.hits[k].mean())


def top_k(queries: Tensor, gallery: Tensor, k: int, *, block_bytes: int = BLOCK_BYTES) -> tuple[Tensor, Tensor]:
    """Find the best candidates of every query by their dot product, which is the cosine of unit vectors.

    The search is exact. Scores are computed in float32, or float64 for such vectors, a block at a time, so that memory
    does not grow with their number. Of equal scores, the lower index comes first; a matrix product may round the
    scores of two equal vectors differently in the last digit, and then they are not equal.

    Args:
        queries: (queries, dim).
        gallery: (candidates, dim), on the same device.
        k: how many to find.
        block_bytes: scores held at a time.

    Returns:
        scores (queries, k), falling, and the indices of the candidates (queries, k), int64.

    Raises:
        ValueError: shapes that do not fit, fewer than k candidates, or a number that is not finite.

    Differs: the reference leaves ties to the library's selection, which promises no order.
    """
    _check_vectors(queries, gallery, k, block_bytes=block_bytes)
    dtype = torch.promote_types(torch.promote_types(queries.dtype, gallery.dtype), torch.float32)
    scores = queries.new_empty(len(queries), k, dtype=dtype)
    indices = queries.new_empty(len(queries), k, dtype=torch.int64)
    num_scores = max(1, block_bytes // dtype.itemsize)
    width = max(1, min(len(gallery), num_scores // QUERIES_PER_BLOCK))
    height = max(1, num_scores // width)
    for row in range(0, len(queries), height):
        rows = slice(row, row + height)
        scores[rows], indices[rows] = _search_rows(queries[rows].to(dtype), gallery, k, width=width)
    return scores, indices


def _search_rows(queries: Tensor, gallery: Tensor, k: int, *, width: int) -> tuple[Tensor, Tensor]:
    """Go through the gallery from its beginning and keep the best k so far."""
    best = queries.new_empty(len(queries), 0)
    places = queries.new_empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(gallery), width):
        block = queries @ gallery[start : start + width].to(queries.dtype).T
        scores, indices = _take_best(block, min(k, block.shape[1]))
        # What was found earlier has lower indices and stands in front, where a stable sort leaves it.
        best, order = torch.cat([best, scores], dim=1).sort(dim=1, descending=True, stable=True)
        places = torch.cat([places, indices + start], dim=1).gather(1, order)[:, :k]
        best = best[:, :k]
    return best, places


def _take_best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Take the best k of each row, the lower index first among equals.

    The library's selection picks any of those that are equal to the last one taken. Where one more than k shows that
    there is a choice, the row is sorted in full.
    """
    values, indices = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if values.shape[1] > k:
        is_open = values[:, k] == values[:, k - 1]
        if is_open.any():
            full, order = scores[is_open].sort(dim=1, descending=True, stable=True)
            values[is_open], indices[is_open] = full[:, : k + 1], order[:, : k + 1]
    indices, order = indices[:, :k].sort(dim=1)
    values, again = values[:, :k].gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, indices.gather(1, again)


def _check_vectors(queries: Tensor, gallery: Tensor, k: int, *, block_bytes: int) -> None:
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        shapes = f"queries {tuple(queries.shape)} and gallery {tuple(gallery.shape)}"
        raise ValueError(f"{shapes}: expected (queries, dim) and (candidates, dim) of one dim")
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k is {k} with {len(gallery)} candidates, expected 1 or more and no more than there are")
    if block_bytes < 1:
        raise ValueError(f"block_bytes is {block_bytes}, expected 1 or more")
    for name, vectors in (("queries", queries), ("gallery", gallery)):
        if not vectors.isfinite().all():
            row = int((~vectors.isfinite()).any(dim=1).nonzero()[0])
            raise ValueError(f"row {row} of the {name} is not finite, expected vectors that can be compared")


def recall_at(ranked_ids: Ints, query_ids: Ints, *, ks: Sequence[int] = RANKS) -> dict[int, Ints]:
    """Tell for each query whether its own item is among the first k.

    It serves both ways: a picture hits where any of its sentences is among the first k, and there are as many queries
    as pictures; a sentence hits where its picture is, and there are as many as sentences.

    Args:
        ranked_ids: (queries, largest k or more) items of the candidates, best first.
        query_ids: (queries,) the item that each query belongs to.
        ks: how many of the first candidates to look at.

    Returns:
        k to (queries,) of 0 and 1.

    Raises:
        ValueError: shapes that do not fit, or fewer candidates ranked than a k looks at.
    """
    if ranked_ids.ndim != 2 or query_ids.shape != ranked_ids.shape[:1]:
        shapes = f"ranked {ranked_ids.shape} and queries {query_ids.shape}"
        raise ValueError(f"{shapes}: expected (queries, candidates) and (queries,)")
    if not ks or min(ks) < 1 or max(ks) > ranked_ids.shape[1]:
        raise ValueError(f"recall at {list(ks)} of {ranked_ids.shape[1]} ranked candidates, expected 1 to that many")
    is_own = ranked_ids == query_ids[:, None]
    return {k: is_own[:, :k].any(axis=1).astype(np.int64) for k in ks}


def search(
    vectors: Mapping[str, Tensor],
    ids: Mapping[str, Sequence[int] | Ints],
    *,
    query: str,
    gallery: str,
    ks: Sequence[int] = RANKS,
) -> Retrieved:
    """Search one modality with the other: every query among all candidates, hits by the item that both belong to.

    Args:
        vectors: modality to (count, dim), of unit length.
        ids: modality to (count,) items; several vectors of a modality may share one.
        query: modality searched with.
        gallery: modality searched in.
        ks: how many of the first candidates to look at.

    Raises:
        ValueError: no query, a query that nothing in the gallery belongs to, or fewer candidates than the largest k.
    """
    items = {name: _check_ids(name, vectors[name], ids[name]) for name in (query, gallery)}
    lost = items[query][~np.isin(items[query], items[gallery])]
    if lost.size or not items[query].size:
        fault = f"{len(lost)} {query} have no {gallery}, the first of item {lost[0]}" if lost.size else f"no {query}"
        raise ValueError(f"{fault}; expected queries that can be answered")
    _, indices = top_k(vectors[query], vectors[gallery], max(ks))
    ranked = items[gallery][indices.cpu().numpy()]
    return Retrieved(items[query], ranked, recall_at(ranked, items[query], ks=ks))


def _check_ids(name: str, vectors: Tensor, ids: Sequence[int] | Ints) -> Ints:
    if len(ids) != len(vectors):
        raise ValueError(f"{len(ids)} ids of {len(vectors)} vectors of {name}, expected as many")
    return np.asarray(ids, dtype=np.int64)


def search_both_ways(
    vectors: Mapping[str, Tensor], ids: Mapping[str, Sequence[int] | Ints], *, ks: Sequence[int] = RANKS
) -> dict[str, Retrieved]:
    """Search every modality with every other one; by direction, `text_to_image` and so on. See `search`."""
    return {
        f"{query}_to_{gallery}": search(vectors, ids, query=query, gallery=gallery, ks=ks)
        for query in vectors
        for gallery in vectors
        if query != gallery
    }


def mean_recall(found: Iterable[Retrieved]) -> float:
    """Average recall over directions and ranks, in per cent: the mean of the six where there are two and three."""
    return fmean(each.percent(k) for each in found for k in each.hits)
