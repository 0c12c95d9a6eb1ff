"""Hold a measured number against a published or an accepted one, and say in one of four words how they stand.

Only numbers over the same samples, protocol, profile and model size are compared. With the same weights and the same
data the gap must stay within the larger of half the printed digit and 0.1 points: `match`, or `off` on either side. The
0.1 points are of per cent; any other unit has half the printed digit alone. Retrained weights are judged on one side:
the number is `within sampling error` when its 95 % interval reaches the published one or lies on the better side of it.
Where they were trained with several seeds, the mean over them is held against it, by a one-sided test at 5 %. A number
that is not finite is `off`, whatever it would have been compared by; nothing matches it.

An accepted number is ours of an earlier commit: over the same samples and with the same seed it must be met within its
own tolerance, on the better side too, or be accepted anew.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reports.accepted import Accepted, AcceptedMetric
from reports.record import Comparison, MetricValue, Profile, Record, Verdict
from reports.target import Target

__all__ = [
    "Measured",
    "Verdict",
    "compare",
    "compare_record",
    "compare_with_accepted",
    "exit_code",
    "measured_of",
    "select_targets",
    "unit_words",
    "worst",
]

TOLERANCE = 0.1  # points; the authors' own second run of one checkpoint moved 0.03
SLACK = 1e-9  # binary rounding of decimal digits
LEVEL = 0.05  # of the test over seeds
SEVERITY = (Verdict.MATCH, Verdict.WITHIN_SAMPLING_ERROR, Verdict.NOT_COMPARABLE, Verdict.OFF)

EXIT_DONE, EXIT_REGRESSION, EXIT_NOT_COMPARABLE = 0, 1, 3


@dataclass(frozen=True)
class Measured:
    """One measured number with what decides whether it may be compared."""

    task: str
    dataset: str
    dataset_version: str
    split: str
    profile: Profile
    model_size: str
    setting: str
    protocol: str
    metric: MetricValue
    differences: tuple[str, ...] = ()
    """In the data, from what is published."""


def measured_of(record: Record, metric: MetricValue) -> Measured:
    """Take out of a record what decides whether one of its metrics may be compared."""
    return Measured(
        task=record.task,
        dataset=record.dataset,
        dataset_version=record.data.version,
        split=record.split,
        profile=record.profile,
        model_size=record.model_size,
        setting=record.setting,
        protocol=record.protocol,
        metric=metric,
        differences=record.data.differences,
    )


def compare(
    measured: Measured, target: Target, *, same_weights: bool, full_data: bool, by_seed: Sequence[float] = ()
) -> Comparison:
    """Hold one measured number against one published number.

    Args:
        measured: ours; the mean where there are several seeds.
        target: theirs.
        same_weights: whether ours came from the published weights; False for weights trained again.
        full_data: whether ours is over every sample of the split.
        by_seed: the numbers of weights trained with several seeds, not all equal; none where there is one training.
    """
    difference = next(_differences(measured, target, full_data=full_data), None)
    gap: float | None = None
    if difference is not None:
        verdict, reason = Verdict.NOT_COMPARABLE, difference
    elif not math.isfinite(measured.metric.value):
        verdict, reason = Verdict.OFF, f"ours is {measured.metric.value}, which is no number and matches none"
    else:
        gap = measured.metric.value - target.value
        verdict, reason = _judge(measured.metric, target, same_weights=same_weights, by_seed=by_seed)
        gap = None if verdict is Verdict.NOT_COMPARABLE else gap
    return Comparison(
        target_id=target.id,
        metric=measured.metric.name,
        published=target.value,
        printed=target.printed,
        source=target.source,
        gap=gap,
        verdict=verdict,
        reason=reason,
        profile=measured.profile,
        direction=target.direction,
    )


def compare_record(
    record: Record, targets: Iterable[Target], *, same_weights: bool, full_data: bool | None = None
) -> Record:
    """Give the record with every metric held against the published numbers that stand nearest to it.

    Args:
        record: with any comparisons; they are replaced.
        targets: of the task.
        same_weights: whether the published weights were used.
        full_data: whether every sample of the split was seen; taken from `record.data` if not given.
    """
    full = record.data.is_complete if full_data is None else full_data
    comparisons = tuple(
        compare(measured_of(record, metric), target, same_weights=same_weights, full_data=full)
        for metric, target in select_targets(record, targets)
    )
    return record.model_copy(update={"comparisons": comparisons})


def select_targets(record: Record, targets: Iterable[Target]) -> tuple[tuple[MetricValue, Target], ...]:
    """Pair each metric with the published numbers of that task, setting and metric that differ least in protocol.

    Several of them only if none differs at all, as when a number was published twice; of equally distant ones
    the first that shares the protocol's variant.
    """
    pool = [target for target in targets if (target.task, target.setting) == (record.task, record.setting)]
    pairs: list[tuple[MetricValue, Target]] = []
    for metric in record.metrics:
        ranked = sorted(
            (
                (_distance(measured_of(record, metric), target), target)
                for target in pool
                if target.metric == metric.name
            ),
            key=lambda item: item[0],
        )
        exact = [target for distance, target in ranked if distance == (0, False)]
        pairs += [(metric, target) for target in exact or [target for _, target in ranked[:1]]]
    return tuple(pairs)


def compare_with_accepted(record: Record, baseline: Accepted) -> tuple[Comparison, ...]:
    """Hold every accepted number against the same metric of this record, each within its own tolerance.

    Args:
        record: ours, now.
        baseline: what was accepted. Other weights do not stand in the way of a comparison: they are what may have
            moved a number, and the reason says so.
    """
    difference = _baseline_difference(record, baseline)
    return tuple(
        _compare_accepted(record, accepted, difference=difference, baseline=baseline) for accepted in baseline.metrics
    )


def exit_code(comparisons: Iterable[Comparison]) -> int:
    """Say what a command that made these comparisons exits with.

    Worse than the last accepted number is a regression, 1. Off the paper is a finding, which the table says: 0. An
    improvement is 0. What could not be compared, NaN among it, is 3, except a mini record beside the paper, which was
    never meant to be.
    """
    listed = list(comparisons)
    if any(c.against == "accepted" and c.verdict is Verdict.OFF and not c.is_better for c in listed):
        return EXIT_REGRESSION
    if any(c.gap is None and (c.against, c.profile) != ("paper", "mini") for c in listed):
        return EXIT_NOT_COMPARABLE
    return EXIT_DONE


def worst(comparisons: Sequence[Comparison]) -> Verdict | None:
    """Find the worst verdict; None where nothing was compared."""
    return max((c.verdict for c in comparisons), key=SEVERITY.index, default=None)


def _differences(measured: Measured, target: Target, *, full_data: bool) -> Iterator[str]:
    if measured.profile != "paper":
        yield f"profile {measured.profile!r} is not the paper's"
    yield from _protocol_differences(measured, target)
    yield from measured.differences
    n, expected = measured.metric.n, target.num_samples
    if n is None:
        yield "nobody says over how many samples ours is"
    elif expected is not None and n != expected:
        yield f"{n} samples against {expected}"
    if not full_data:
        yield "ours does not cover every sample of the split"


def _protocol_differences(measured: Measured, target: Target) -> Iterator[str]:
    pairs = (
        ("model size", measured.model_size, target.model_size),
        ("task", measured.task, target.task),
        ("data set", measured.dataset, target.dataset),
        ("data set version", measured.dataset_version, target.dataset_version),
        ("split", measured.split, target.split),
        ("metric", measured.metric.name, target.metric),
        ("unit", measured.metric.unit, target.unit),
        ("direction", measured.metric.direction, target.direction),
        ("setting", measured.setting, target.setting),
        ("protocol", measured.protocol, target.protocol),
    )
    yield from (f"{what} {ours!r} against {theirs!r}" for what, ours, theirs in pairs if ours != theirs)


def _distance(measured: Measured, target: Target) -> tuple[int, bool]:
    variants = (measured.protocol.rpartition("/")[2], target.protocol.rpartition("/")[2])
    return sum(1 for _ in _protocol_differences(measured, target)), variants[0] != variants[1]


def _judge(metric: MetricValue, target: Target, *, same_weights: bool, by_seed: Sequence[float]) -> tuple[Verdict, str]:
    if same_weights:
        return _judge_same_weights(metric, target)
    return _judge_seeds(by_seed, target) if by_seed else _judge_retrained(metric, target)


def _judge_same_weights(metric: MetricValue, target: Target) -> tuple[Verdict, str]:
    tolerance = max(target.half_digit, TOLERANCE) if target.unit == "%" else target.half_digit
    gap = metric.value - target.value
    side, said = _side(gap, target, than="published"), f"the tolerance of {tolerance:g} {unit_words(target.unit)}"
    if abs(gap) <= tolerance + SLACK:
        return Verdict.MATCH, f"{side}, within {said}"
    return Verdict.OFF, f"{side}, beyond {said} for the same weights on the same data"


def _judge_retrained(metric: MetricValue, target: Target) -> tuple[Verdict, str]:
    low, high = metric.ci_low, metric.ci_high
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Verdict.NOT_COMPARABLE, "weights trained again, and ours has no sampling interval"
    side = _side(metric.value - target.value, target, than="published")
    interval = (
        f"the interval {low:.2f} to {high:.2f}" if target.unit == "%" else f"the interval {low:.4g} to {high:.4g}"
    )
    reaches = high >= target.value - SLACK if target.direction == "higher" else low <= target.value + SLACK
    if not reaches:
        return Verdict.OFF, f"{side}, and {interval} does not reach the published {target.printed}"
    if low - SLACK <= target.value <= high + SLACK:
        return Verdict.WITHIN_SAMPLING_ERROR, f"{side}, and {interval} holds the published {target.printed}"
    return Verdict.WITHIN_SAMPLING_ERROR, f"{side}, and {interval} lies wholly on the better side"


def _judge_seeds(values: Sequence[float], target: Target) -> tuple[Verdict, str]:
    """Test whether the mean over seeds is worse than the published number.

    Source: Student 1908, The probable error of a mean.
    """
    from scipy.special import stdtrit

    mean = statistics.fmean(values)
    half = float(stdtrit(len(values) - 1, 1 - LEVEL)) * statistics.stdev(values) / math.sqrt(len(values))
    is_higher = target.direction == "higher"
    bound = mean + half if is_higher else mean - half
    reaches = bound >= target.value - SLACK if is_higher else bound <= target.value + SLACK
    side = f"mean of {len(values)} seeds {_side(mean - target.value, target, than='published')}"
    told = f"its one-sided 95 % bound {bound:.4g}"
    if reaches:
        return Verdict.WITHIN_SAMPLING_ERROR, f"{side}, and {told} reaches the published {target.printed}"
    return Verdict.OFF, f"{side}, and {told} does not reach the published {target.printed}"


def unit_words(unit: str) -> str:
    """Say in what a gap between two numbers of a unit is told: per cent differ by points."""
    return "points" if unit == "%" else unit


def _side(gap: float, other: Target | AcceptedMetric, *, than: str) -> str:
    if gap == 0:
        return f"equal to the {than} number"
    better = gap > 0 if other.direction == "higher" else gap < 0
    return f"{abs(gap):.3g} {unit_words(other.unit)} {'better' if better else 'worse'} than {than}"


def _baseline_difference(record: Record, baseline: Accepted) -> str | None:
    fields = ("task", "dataset", "split", "profile", "model_size", "setting", "protocol", "protocol_sha256", "seed")
    pairs = [(name, getattr(record, name), getattr(baseline, name)) for name in fields]
    pairs += [
        (f"data {name}", getattr(record.data, name), getattr(baseline.data, name))
        for name in ("version", "n", "ids_sha256")
    ]
    return next((f"{name} {ours!r} against {theirs!r}" for name, ours, theirs in pairs if ours != theirs), None)


def _metric_difference(ours: MetricValue | None, accepted: AcceptedMetric) -> str | None:
    if ours is None:
        return f"this record has no metric {accepted.name!r}"
    pairs = [(name, getattr(ours, name), getattr(accepted, name)) for name in ("unit", "direction", "n")]
    return next((f"{name} {new!r} against {old!r}" for name, new, old in pairs if new != old), None)


def _compare_accepted(
    record: Record, accepted: AcceptedMetric, *, difference: str | None, baseline: Accepted
) -> Comparison:
    ours = record.find_metric(accepted.name)
    difference = difference or _metric_difference(ours, accepted)
    gap: float | None = None
    if difference is not None or ours is None:
        verdict, reason = Verdict.NOT_COMPARABLE, difference or ""
    elif not math.isfinite(ours.value):
        verdict, reason = Verdict.OFF, f"ours is {ours.value}, which is no number and matches none"
    else:
        gap = ours.value - accepted.value
        verdict, reason = _judge_accepted(gap, accepted)
        if verdict is Verdict.OFF and record.checkpoint.sha256 != baseline.checkpoint_sha256:
            reason += f", with other weights ({record.checkpoint.name} against {baseline.checkpoint_name})"
    return Comparison(
        target_id=baseline.run_id,
        metric=accepted.name,
        published=accepted.value,
        printed=f"{accepted.value:.2f}" if accepted.unit == "%" else f"{accepted.value:.4g}",
        source=f"accepted {baseline.accepted_at[:10]} at commit {baseline.commit[:7]}: {baseline.reason}",
        gap=gap,
        verdict=verdict,
        reason=reason,
        against="accepted",
        profile=record.profile,
        direction=accepted.direction,
    )


def _judge_accepted(gap: float, accepted: AcceptedMetric) -> tuple[Verdict, str]:
    side = _side(gap, accepted, than="accepted")
    tolerance = f"the tolerance of {accepted.tolerance:.3g} {unit_words(accepted.unit)}"
    if abs(gap) <= accepted.tolerance:
        return Verdict.MATCH, f"{side}, within {tolerance}"
    return Verdict.OFF, f"{side}, beyond {tolerance}"
