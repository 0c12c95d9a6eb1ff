"""One result of the page: its numbers with what stands beside them, its history, curves, classes and samples."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import yaml

from reports.accepted import Accepted, baseline_name
from reports.check import check_accepted
from reports.page.curves import read_curves
from reports.page.data import AcceptedBeside, ClassValue, Curve, History, Metric, Past, Published, Run, Timing
from reports.page.run_files import RunFiles
from reports.page.showing import show_samples
from reports.page.sources import Sources
from reports.record import MetricValue, Record
from reports.table import name_metric

LOG: Final = "log.jsonl"
MAX_HISTORY: Final = 20
CREDENTIALS: Final = re.compile(r"(?<=://)[^\s/@]*@")  # name and password in an address


def build_run(record: Record, sources: Sources, *, key: str, same: Sequence[Record], environment: int) -> Run:
    """Lay out all that the page shows of a result.

    Args:
        record: the newest.
        sources: what else there is.
        key: names the result on the page.
        same: the records of the same thing, oldest first.
        environment: its place among the page's.
    """
    facts = sources.facts(record.task)
    curves, curves_note = _read_curves(record, sources.files)
    return Run(
        key=key,
        run_id=record.run_id,
        task=record.task,
        title=facts.title,
        remarks=facts.remarks,
        profile=record.profile,
        model_size=record.model_size,
        setting=record.setting,
        split=record.split,
        protocol=record.protocol,
        protocol_sha256=record.protocol_sha256,
        metrics=_list_metrics(record, sources.accepted),
        data=record.data,
        checkpoint=record.checkpoint,
        config=yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True),
        dtype=record.dtype,
        device=record.device,
        seed=record.seed,
        commit=record.commit,
        is_dirty=record.is_dirty,
        command=CREDENTIALS.sub("", record.command),
        started_at=record.started_at,
        duration_s=record.duration_s,
        timings=tuple(Timing(name=name, value=value) for name, value in record.timings.items()),
        peak_memory_gib=record.peak_memory_gib,
        environment=environment,
        history=_trace(same),
        curves=curves,
        curves_note=curves_note,
        per_class=_rank_classes(record),
        samples=show_samples(record, sources.files, sources.media),
    )


def _read_curves(record: Record, files: RunFiles) -> tuple[tuple[Curve, ...], str | None]:
    path = files.find(record, LOG)
    if path is None:
        trained = "nothing was trained" if record.setting == "zero-shot" else f"no {LOG} was found"
        return (), f"No curve: {trained} for this run."
    curves = read_curves(path)
    return curves, None if curves else f"No curve: {LOG} holds fewer than two steps."


def _list_metrics(record: Record, accepted: Mapping[str, Accepted]) -> tuple[Metric, ...]:
    baseline = accepted.get(baseline_name(record))
    beside: dict[str, AcceptedBeside] = {}
    for case in () if baseline is None else check_accepted([record], {baseline_name(record): baseline}).cases:
        found = None if baseline is None else baseline.find_metric(case.metric)
        beside[case.metric] = AcceptedBeside(
            value=None if found is None else found.value,
            gap=case.gap,
            tolerance=case.tolerance,
            state=str(case.outcome),
            reason=case.reason,
        )
    return tuple(_describe(record, metric, beside.get(metric.name)) for metric in record.metrics)


def _describe(record: Record, metric: MetricValue, accepted: AcceptedBeside | None) -> Metric:
    published = tuple(
        Published(
            id=c.target_id,
            value=c.published,
            printed=c.printed,
            source=c.source,
            gap=c.gap,
            state=str(c.verdict),
            reason=c.reason,
        )
        for c in record.comparisons
        if c.metric == metric.name and c.against == "paper"
    )
    return Metric(**metric.model_dump(), label=name_metric(metric.name), published=published, accepted=accepted)


def _rank_classes(record: Record) -> tuple[ClassValue, ...]:
    """Give the classes from the highest number to the lowest; those that do not occur come last."""
    ranked = sorted(record.per_class.items(), key=lambda item: (item[1] is None, -(item[1] or 0.0)))
    return tuple(ClassValue(name=name.strip(), value=value) for name, value in ranked)


def _trace(same: Sequence[Record]) -> History:
    """Follow the first metric of a result over its records."""
    newest = same[-1]
    name = newest.metrics[0].name if newest.metrics else ""
    measured = [(record, found) for record in same if (found := record.find_metric(name)) is not None]
    points = tuple(
        Past(
            run_id=record.run_id,
            started_at=record.started_at,
            commit=record.commit,
            is_dirty=record.is_dirty,
            checkpoint_sha256=record.checkpoint.sha256,
            value=metric.value,
            ci_low=metric.ci_low,
            ci_high=metric.ci_high,
            changed=_list_changes(before, record),
        )
        for before, (record, metric) in zip([None, *(record for record, _ in measured)], measured, strict=False)
    )
    return History(
        metric=name_metric(name),
        unit=newest.metrics[0].unit if newest.metrics else "",
        points=points[-MAX_HISTORY:],
        num_left_out=max(0, len(points) - MAX_HISTORY),
    )


def _list_changes(before: Record | None, after: Record) -> tuple[str, ...]:
    """Name what differs from the record before and may move a number besides the code."""
    if before is None:
        return ()
    pairs = {
        "protocol": (before.protocol_sha256, after.protocol_sha256),
        "data": (before.data.digest, after.data.digest),
        "weights": (before.checkpoint.sha256, after.checkpoint.sha256),
        "seed": (before.seed, after.seed),
        "device": (before.device, after.device),
    }
    return tuple(name for name, (old, new) in pairs.items() if old != new)
