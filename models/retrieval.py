"""Searching vectors of one modality among those of another: exact ranking in bounded memory, and recall.

Source: reference one_peace/metrics/recall.py.
"""

import math
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
BLOCK_BYTES = 32 << 20  # scores held at a time
PRODUCT_BYTES = 4 << 20  # products of pairs held at a time; more than the caches hold is slower
CHECKED_ROWS = 4096  # vectors looked at together for numbers that are not finite
CHUNK = 16  # scores of which the largest is looked at first
NUM_SPARE = 2  # candidates settled beyond those asked for, so that few queries must be looked at again


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

    The search is exact. Scores are computed in float32, or float64 for such vectors, a block of queries at a time, so
    that memory does not grow with their number. A score depends on its two vectors alone: the products are added in
    one fixed order, on any device and in blocks of any size. So equal vectors have equal scores, and of equal scores
    the lower index comes first.

    A matrix product, whose rounding depends on its blocks, only says which candidates may be among the best. The
    scores of these few are computed anew, and those of more where the rounding leaves a doubt.

    Args:
        queries: (queries, dim).
        gallery: (candidates, dim), on the same device.
        k: how many to find.
        block_bytes: scores held at a time; those of one query are held in any case.

    Returns:
        scores (queries, k), falling, and the indices of the candidates (queries, k), int64.

    Raises:
        ValueError: shapes that do not fit, fewer than k candidates, a number that is not finite, or products of
            float32 that torch was told to round more coarsely.

    Differs: the reference leaves ties to the library's selection, which promises no order.
    """
    _check_vectors(queries, gallery, k, block_bytes=block_bytes)
    dtype = torch.promote_types(torch.promote_types(queries.dtype, gallery.dtype), torch.float32)
    queries, gallery, size = queries.detach(), gallery.detach().to(dtype), len(gallery)
    scores = queries.new_empty(len(queries), k, dtype=dtype)
    indices = queries.new_empty(len(queries), k, dtype=torch.int64)
    height = max(1, min(len(queries), block_bytes // (dtype.itemsize * size)))
    # Whole chunks; what fills up the last one is never among the best.
    block = queries.new_full((height, -(-size // CHUNK) * CHUNK), -math.inf, dtype=dtype)
    doubt = _bound_rounding(gallery)
    for row in range(0, len(queries), height):
        rows = slice(row, row + height)
        some = queries[rows].to(dtype)
        rough = block[: len(some)]
        torch.mm(some, gallery.T, out=rough[:, :size])
        found = _settle(rough, some, gallery, doubts=doubt * some.norm(dim=1), k=k, width=min(k + NUM_SPARE, size))
        scores[rows], indices[rows] = found
    return scores, indices


def _bound_rounding(gallery: Tensor) -> Tensor:
    """Bound how far two sums of the same products can lie apart, for a query of length 1.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 3.1: either is off by dim roundings at most.
    """
    rounding = torch.finfo(gallery.dtype).eps / 2
    longest: Tensor = gallery.norm(dim=1).max()
    return longest * (2 * (gallery.shape[1] + 16) * rounding)  # 16: for the rounding of this bound


def _settle(
    rough: Tensor, queries: Tensor, gallery: Tensor, *, doubts: Tensor, k: int, width: int
) -> tuple[Tensor, Tensor]:
    """Order the `width` best of each row of rough scores exactly, and look wider where others may belong there.

    Args:
        rough: (queries, candidates or more), the scores up to rounding.
        queries: (queries, dim).
        gallery: (candidates, dim).
        doubts: (queries,) how far a rough score and an exact one can lie apart.
        k: how many to find.
        width: how many to look at, k to candidates.
    """
    values, places = _take_best(rough, width)
    places = places.sort(dim=1)[0]  # a stable sort then leaves the lower index first
    scores, order = _score(queries, gallery, places).sort(dim=1, descending=True, stable=True)
    scores, places = scores[:, :k], places.gather(1, order[:, :k])
    # What was not taken has at most the last value, and is out where rounding cannot lift it to the k-th one.
    is_open = values[:, -1] >= values[:, k - 1] - 2 * doubts
    if width < len(gallery) and is_open.any():
        wider = min(4 * width, len(gallery))
        again = _settle(rough[is_open], queries[is_open], gallery, doubts=doubts[is_open], k=k, width=wider)
        scores[is_open], places[is_open] = again
    return scores, places


def _take_best(scores: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Take the `width` best of each row, falling; of those that are equal to the last one, any.

    All of the best are in as many chunks, those with the largest maxima, so that few scores need to be sorted.
    """
    num_chunks = scores.shape[1] // CHUNK
    if num_chunks <= 2 * width:
        return scores.topk(width, dim=1)
    grid = scores.unflatten(1, (CHUNK, num_chunks))  # a chunk is a column, so that maxima are taken of whole rows
    chunks = grid.amax(dim=1).topk(width, dim=1, sorted=False)[1]
    values, order = grid.gather(2, chunks[:, None].expand(-1, CHUNK, -1)).flatten(1).topk(width, dim=1)
    return values, order.div(width, rounding_mode="floor") * num_chunks + chunks.gather(1, order % width)


def _score(queries: Tensor, gallery: Tensor, places: Tensor) -> Tensor:
    """Give the dot products of each query with its candidates at `places`, (queries, candidates)."""
    owners = torch.arange(len(queries), device=queries.device).repeat_interleave(places.shape[1])
    step = max(1, PRODUCT_BYTES // (queries.element_size() * queries.shape[1]))
    pairs = zip(owners.split(step), places.flatten().split(step), strict=True)
    return torch.cat([_multiply(queries[rows], gallery[columns]) for rows, columns in pairs]).view_as(places)


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """Give the dot products of pairs of rows, (pairs,), adding the second half of the products to the first, and so on.

    A library's sum may change its order with the shape.
    """
    products, width = left * right, left.shape[1]
    while width > 1:
        half = (width + 1) // 2
        products[:, : width - half] += products[:, half:width]
        width = half
    return products[:, 0].clone()


def _check_vectors(queries: Tensor, gallery: Tensor, k: int, *, block_bytes: int) -> None:
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        shapes = f"queries {tuple(queries.shape)} and gallery {tuple(gallery.shape)}"
        raise ValueError(f"{shapes}: expected (queries, dim) and (candidates, dim) of one dim")
    if not queries.shape[1]:
        raise ValueError("vectors of dim 0, expected vectors that can be compared")
    if (precision := torch.get_float32_matmul_precision()) != "highest":
        raise ValueError(f"torch's float32 matmul precision is {precision!r}, expected 'highest': the search is exact")
    if not 1 <= k <= len(gallery):
        raise ValueError(f"k is {k} with {len(gallery)} candidates, expected 1 or more and no more than there are")
    if block_bytes < 1:
        raise ValueError(f"block_bytes is {block_bytes}, expected 1 or more")
    for name, vectors in (("queries", queries), ("gallery", gallery)):
        # In parts: the check makes a copy of what it looks at.
        finite = torch.cat([part.isfinite().all(dim=1) for part in vectors.split(CHECKED_ROWS)])
        if not finite.all():
            row = int((~finite).nonzero()[0])
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
