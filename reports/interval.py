"""How far a number could move had other samples been drawn: 95 % intervals."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reports.record import MetricValue

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

Z_95 = 1.959963984540054  # 97.5 % point of the standard normal distribution
NUM_RESAMPLES = 1000
CHUNK_CELLS = 4_000_000  # weights held at a time: 32 MB


def wilson_interval(hits: float, n: int) -> tuple[float, float]:
    """Give the 95 % Wilson score interval of a share, in per cent.

    Args:
        hits: how many count; a fraction where answers score in part.
        n: out of how many.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n} samples: expected 0 <= hits <= n and n > 0.")
    share, z2 = hits / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == n else min(1.0, centre + half)
    return 100 * low, 100 * high


def bootstrap_interval(
    statistic: Callable[[Floats], Floats], num_items: int, *, seed: int, num_resamples: int = 1000
) -> tuple[float, float]:
    """Give the 95 % percentile interval of a statistic over items drawn again with replacement.

    Args:
        statistic: takes (resamples, items) weights, how often each item was drawn, and gives (resamples,) values.
        num_items: how many items there are.
        seed: of the draw; the same seed gives the same interval.
        num_resamples: how often all items are drawn again.

    Returns:
        low and high, in the statistic's own unit; NaN twice where every resample was NaN.
    """
    if num_items < 1 or num_resamples < 1:
        raise ValueError(f"{num_resamples} resamples of {num_items} items: expected at least one of each.")
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // num_items)
    sizes = [min(step, num_resamples - start) for start in range(0, num_resamples, step)]
    even = np.full(num_items, 1 / num_items)
    values = np.concatenate([statistic(rng.multinomial(num_items, even, size=k).astype(np.float64)) for k in sizes])
    values = values[~np.isnan(values)]
    if not values.size:
        return math.nan, math.nan
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def bootstrap_ratio_of_sums(
    numerators: Array,
    denominators: Array,
    *,
    reduce: Literal["nanmean", "pooled"] = "nanmean",
    num_resamples: int = 1000,
    seed: int,
) -> tuple[float, float]:
    """Give the 95 % interval of a ratio of sums over items, by drawing whole items again; in per cent.

    Mean IoU is intersections over unions; mean accuracy is intersections over label areas; both with "nanmean".
    Overall accuracy is intersections over label areas with "pooled".

    Args:
        numerators: (items, classes); an item is an image.
        denominators: (items, classes).
        reduce: "nanmean" averages the ratios of the classes that occur in a resample, "pooled" sums over classes first.
        num_resamples: how often all items are drawn again.
        seed: of the draw.
    """
    if numerators.ndim != 2 or numerators.shape != denominators.shape:
        shapes = f"numerators {numerators.shape} and denominators {denominators.shape}"
        raise ValueError(f"{shapes}: expected two equal shapes (items, classes).")
    top, bottom = (np.asarray(part, dtype=np.float64) for part in (numerators, denominators))
    if reduce == "pooled":
        top, bottom = (part.sum(axis=1, keepdims=True) for part in (top, bottom))

    def statistic(weights: Floats) -> Floats:
        return mean_of_ratios(weights @ top, weights @ bottom)

    low, high = bootstrap_interval(statistic, len(top), seed=seed, num_resamples=num_resamples)
    return 100 * low, 100 * high


def mean_of_ratios(numerators: Floats, denominators: Floats) -> Floats:
    """Average numerators / denominators over the last axis where the denominator is not zero; NaN if all are zero."""
    present = denominators > 0
    ratios = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=present)
    count = present.sum(axis=-1)
    means: Floats = np.divide(ratios.sum(axis=-1), count, out=np.full(count.shape, math.nan), where=count > 0)
    return means


def sum_clusters(values: Array, clusters: Array) -> Floats:
    """Sum the values of each cluster, (clusters, 1), in the order of the clusters' sorted names.

    Args:
        values: (samples,).
        clusters: (samples,) the name of the cluster that each sample belongs to.
    """
    if values.ndim != 1 or values.shape != clusters.shape:
        raise ValueError(f"values {values.shape} and clusters {clusters.shape}: expected (samples,) twice.")
    _, places = np.unique(clusters, return_inverse=True)
    return np.bincount(places, weights=values).astype(np.float64)[:, None]


def name_bootstrap(over: str, *, seed: int) -> str:
    """Say how a bootstrap's interval was made, as records put it; `over` is the plural of what was drawn again."""
    return f"bootstrap over {over}, {NUM_RESAMPLES} resamples, seed {seed}"


def measure_share(name: str, hits: Array, *, clusters: Array | None = None, over: str, seed: int) -> MetricValue:
    """Make a metric of how many samples count, in per cent, with its 95 % interval.

    The interval is Wilson's where every sample stands for itself. Where several belong to one cluster, such as the
    sentences of one picture, their answers hang together, and whole clusters are drawn again.

    Args:
        name: of the metric.
        hits: (samples,) of 0 and 1, or between where answers count in part.
        clusters: (samples,) the name of the cluster that each sample belongs to; None where each stands for itself.
        over: plural of what a cluster is, for the record.
        seed: of the draw.

    Raises:
        ValueError: no sample, or shapes that do not fit.
    """
    if hits.ndim != 1 or not hits.size:
        raise ValueError(f"{name} of samples {hits.shape}: expected (samples,), one or more.")
    if clusters is None or len(np.unique(clusters)) == len(hits):
        (low, high), method = wilson_interval(float(hits.sum()), len(hits)), "wilson"
    else:
        sums = [sum_clusters(values, clusters) for values in (hits, np.ones(len(hits)))]
        low, high = bootstrap_ratio_of_sums(*sums, reduce="pooled", num_resamples=NUM_RESAMPLES, seed=seed)
        method = name_bootstrap(over, seed=seed)
    return MetricValue(
        name=name,
        value=100 * float(hits.mean()),
        n=len(hits),
        hits=float(hits.sum()),
        ci_low=low,
        ci_high=high,
        ci_method=method,
    )
