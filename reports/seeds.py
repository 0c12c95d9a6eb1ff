"""Several trainings of one recipe that differ in their seed, as one result: means, intervals, and a test over seeds."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from reports.record import Comparison, MetricValue, Record
from reports.table import identity_of
from reports.target import Target
from reports.verdict import compare, measured_of


def join_seeds(records: Iterable[Record], targets: Iterable[Target]) -> tuple[Record, ...]:
    """Put one record in the place of those that were trained alike with several seeds; the others stay as they are.

    Trained alike are records of the paper profile with the same result, protocol, samples and config, each with weights
    of its own: the same weights judged again with another seed are one training. Of several records of a seed the
    newest counts.

    Args:
        records: any.
        targets: published numbers, by whose ids the records' comparisons are made anew.
    """
    by_id = {target.id: target for target in targets}
    groups: dict[tuple[str, ...], dict[int, Record]] = defaultdict(dict)
    alone: list[Record] = []
    for record in sorted(records, key=lambda each: (each.start, each.run_id)):
        if record.profile == "paper" and record.checkpoint.sha256 is not None:
            groups[_recipe_of(record)][record.seed] = record
        else:
            alone.append(record)
    for group in groups.values():
        runs = sorted(group.values(), key=lambda each: (each.start, each.run_id))
        has_own_weights = len({run.checkpoint.sha256 for run in runs}) == len(runs)
        alone += [_join(runs, by_id)] if len(runs) > 1 and has_own_weights else runs[-1:]
    return tuple(alone)


def _recipe_of(record: Record) -> tuple[str, ...]:
    config = {key: value for key, value in record.config.items() if key != "seed"}
    return (
        *identity_of(record),
        record.protocol_sha256,
        record.data.ids_sha256,
        json.dumps(config, sort_keys=True),
    )


def _join(runs: Sequence[Record], targets: dict[str, Target]) -> Record:
    """Give the newest record with means over seeds in the place of its numbers."""
    newest = runs[-1]
    values = {metric.name: _values(runs, metric.name) for metric in newest.metrics}
    metrics = tuple(_average(metric, values[metric.name]) for metric in newest.metrics)
    joined = newest.model_copy(update={"metrics": metrics})
    comparisons = tuple(
        _compare(joined, comparison, target=targets.get(comparison.target_id), values=values, runs=runs)
        for comparison in newest.comparisons
    )
    return joined.model_copy(update={"comparisons": comparisons})


def _values(runs: Sequence[Record], name: str) -> list[float]:
    """Give a metric's numbers, one a seed; none where a run lacks it or all of them are equal, which says nothing."""
    found = [metric.value for run in runs if (metric := run.find_metric(name)) is not None]
    return found if len(found) == len(runs) and len(set(found)) > 1 else []


def _average(metric: MetricValue, values: Sequence[float]) -> MetricValue:
    if not values:
        return metric
    mean, low, high = statistics.fmean(values), math.nan, math.nan
    if math.isfinite(mean):
        from scipy.special import stdtrit

        half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / math.sqrt(len(values))
        low, high = mean - half, mean + half
    method = f"Student's t over {len(values)} seeds"
    return metric.model_copy(update={"value": mean, "hits": None, "ci_low": low, "ci_high": high, "ci_method": method})


def _compare(
    joined: Record,
    comparison: Comparison,
    *,
    target: Target | None,
    values: dict[str, list[float]],
    runs: Sequence[Record],
) -> Comparison:
    metric = joined.find_metric(comparison.metric)
    if target is None or metric is None or not values[metric.name]:
        return comparison
    return compare(
        measured_of(joined, metric),
        target,
        same_weights=False,
        full_data=all(run.data.is_complete for run in runs),
        by_seed=values[metric.name],
    )
