"""Make a recorded result the one that later runs are held against, and say what moved."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from reports.accepted import (
    Accepted,
    AcceptedData,
    AcceptedMetric,
    Earlier,
    baseline_name,
    default_tolerance,
    read_all_accepted,
    write_accepted,
)
from reports.record import MetricValue, Record

UNKNOWN_COMMIT = "unknown"
OF_THE_ACT = {"run_id", "commit", "reason", "accepted_at", "history"}  # differ though no number does


class Acceptance(NamedTuple):
    """A result to be accepted beside the one that was; `is_new` when something differs between them."""

    accepted: Accepted
    earlier: Accepted | None

    @property
    def is_new(self) -> bool:
        """Whether anything but the act of accepting differs from what was accepted before."""
        if self.earlier is None:
            return True
        mine, theirs = (result.model_dump_json(exclude=OF_THE_ACT) for result in (self.accepted, self.earlier))
        return mine != theirs


def accept_records(
    records: Sequence[Record],
    folder: Path,
    *,
    reason: str,
    accepted_at: str,
    tolerance: float | None = None,
    allow_dirty: bool = False,
) -> str:
    """Accept records, all of them or none, and say in lines what moved. What did not move is left as it stands.

    Args:
        records: one for each place among the accepted results.
        folder: of the accepted results.
        reason: why the numbers stand, or why they moved.
        accepted_at: ISO 8601 in UTC.
        tolerance: points for every metric; by default what the metric had, else `default_tolerance`.
        allow_dirty: also accept what was made by code that no commit holds.

    Raises:
        ValueError: no reason, an impossible tolerance, two records for one place, or a record that cannot stand for
            its task.
    """
    line = " ".join(reason.split())
    if not line:
        raise ValueError("no reason, expected why these numbers stand. Give one with --reason TEXT.")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"a tolerance of {tolerance} points, expected 0 or more. Give it with --tolerance POINTS.")
    _refuse_rivals(records)
    for record in records:
        _refuse(record, allow_dirty=allow_dirty)
    before = read_all_accepted(folder)
    found: list[Acceptance] = []
    for record in records:
        earlier = before.get(baseline_name(record))
        accepted = make_accepted(record, reason=line, accepted_at=accepted_at, tolerance=tolerance, earlier=earlier)
        found.append(Acceptance(accepted, earlier))
    for acceptance in found:
        if acceptance.is_new:
            write_accepted(acceptance.accepted, folder)
    return "".join(f"{told}\n" for acceptance in found for told in _tell(acceptance))


def make_accepted(
    record: Record, *, reason: str, accepted_at: str, tolerance: float | None = None, earlier: Accepted | None = None
) -> Accepted:
    """Give the accepted result that a record makes; what was accepted earlier becomes its history."""
    data = record.data
    return Accepted(
        run_id=record.run_id,
        task=record.task,
        dataset=record.dataset,
        split=record.split,
        profile=record.profile,
        model_size=record.model_size,
        setting=record.setting,
        protocol=record.protocol,
        protocol_sha256=record.protocol_sha256,
        data=AcceptedData(version=data.version, n=data.n, n_expected=data.n_expected, ids_sha256=data.ids_sha256),
        seed=record.seed,
        commit=(record.commit or UNKNOWN_COMMIT) + ("-dirty" if record.is_dirty else ""),
        checkpoint_name=record.checkpoint.name,
        checkpoint_sha256=record.checkpoint.sha256,
        metrics=tuple(_accept_metric(metric, earlier, tolerance=tolerance) for metric in record.metrics),
        reason=reason,
        accepted_at=accepted_at,
        history=() if earlier is None else (*earlier.history, _as_history(earlier)),
    )


def _refuse_rivals(records: Sequence[Record]) -> None:
    seen: dict[str, str] = {}
    for record in records:
        name = baseline_name(record)
        if name in seen:
            raise ValueError(f"runs {seen[name]} and {record.run_id} are both {name}. Name one of them.")
        seen[name] = record.run_id


def _refuse(record: Record, *, allow_dirty: bool) -> None:
    where = f"run {record.run_id} ({record.task})"
    if not record.metrics:
        raise ValueError(f"{where} has no metric, expected at least one. Evaluate again.")
    if broken := [metric for metric in record.metrics if not math.isfinite(metric.value)]:
        raise ValueError(f"{where}: {broken[0].name} is {broken[0].value}, expected a number. Mend the run first.")
    if record.data.n_expected is not None and not record.data.is_complete:
        raise ValueError(
            f"{where} is over {record.data.n} samples, expected the split's {record.data.n_expected}. Evaluate without "
            "--limit and on the whole data."
        )
    if not allow_dirty and (record.is_dirty or record.commit in ("", UNKNOWN_COMMIT)):
        state = f"files that differed from commit {record.commit[:7]}" if record.is_dirty else "code of no known commit"
        raise ValueError(f"{where} was made by {state}. Commit and run again, or add --allow-dirty.")


def _accept_metric(metric: MetricValue, earlier: Accepted | None, *, tolerance: float | None) -> AcceptedMetric:
    last = None if earlier is None else earlier.find_metric(metric.name)
    if tolerance is None:
        tolerance = last.tolerance if last is not None and last.n == metric.n else default_tolerance(metric)
    return AcceptedMetric(
        name=metric.name,
        value=metric.value,
        unit=metric.unit,
        direction=metric.direction,
        n=metric.n,
        hits=metric.hits,
        ci_low=metric.ci_low,
        ci_high=metric.ci_high,
        tolerance=tolerance,
    )


def _as_history(accepted: Accepted) -> Earlier:
    values = {metric.name: metric.value for metric in accepted.metrics}
    return Earlier(values=values, commit=accepted.commit, reason=accepted.reason, accepted_at=accepted.accepted_at)


def _tell(acceptance: Acceptance) -> Iterator[str]:
    accepted, earlier = acceptance
    state = "first accepted" if earlier is None else "accepted" if acceptance.is_new else "as before, left alone"
    yield f"{baseline_name(accepted)}: {state}"
    if earlier is not None:
        yield from (f"  {change}" for change in _conditions(accepted, earlier))
    for metric in accepted.metrics:
        yield f"  {_metric_name(accepted, metric.name)} {_move(metric, earlier)}, tolerance {metric.tolerance:.3g}"
    gone = () if earlier is None else [m for m in earlier.metrics if accepted.find_metric(m.name) is None]
    for metric in gone:
        yield f"  {_metric_name(accepted, metric.name)} {metric.value:.2f} -> no longer measured"


def _conditions(accepted: Accepted, earlier: Accepted) -> Iterator[str]:
    """Say what else than a value differs: protocol, data, weights, seed."""
    names = ("dataset", "protocol", "protocol_sha256", "seed", "checkpoint_name", "checkpoint_sha256")
    pairs = [(name, getattr(earlier, name), getattr(accepted, name)) for name in names]
    pairs += [
        (f"data {name}", getattr(earlier.data, name), getattr(accepted.data, name))
        for name in ("version", "n", "ids_sha256")
    ]
    for name, old, new in pairs:
        if old != new:
            yield f"{name} {_short(name, old)} -> {_short(name, new)}"


def _short(name: str, value: object) -> str:
    return str(value)[:8] if name.endswith("sha256") else str(value)


def _metric_name(accepted: Accepted, metric: str) -> str:
    variant = "" if accepted.variant == accepted.setting else accepted.variant
    return f"{accepted.task} {accepted.split} {metric} {variant}".rstrip()


def _move(metric: AcceptedMetric, earlier: Accepted | None) -> str:
    last = None if earlier is None else earlier.find_metric(metric.name)
    if last is None:
        return f"{metric.value:.2f}"
    gap = metric.value - last.value
    if gap == 0:
        return f"{metric.value:.2f}, as before"
    shown = f"{gap:+.2f}" if abs(gap) >= 0.005 else f"{gap:+.2g}"
    return f"{last.value:.2f} -> {metric.value:.2f}, {shown}"
