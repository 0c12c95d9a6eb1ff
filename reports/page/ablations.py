"""Ablations out of their records: by metric, each variant's number and effect beside the paper's."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from reports.page.data import Ablation, AblationPart, AblationRow, AblationValue
from reports.record import Comparison, MetricValue, Record
from reports.table import name_metric

PREFIX: Final = "pretrain_ablation_"
"""How the tasks of such records begin; the table's name follows."""
METRIC: Final = re.compile(r"(?P<variant>.+?)_(?P<metric>recall_at_1_\w+|times_chance_\w+|training_contrast)")
DIFFERENCE: Final = "_difference"
DIRECTED: Final = re.compile(r"(recall_at_1|times_chance)_(\w+)")
LABELS: Final = {
    "recall_at_1": "R@1",
    "times_chance": "R@1 over chance",
    "training_contrast": "contrast at the end of the training",
}


def is_ablation(record: Record) -> bool:
    """Tell whether a record is a table of an ablation."""
    return record.task.startswith(PREFIX)


def read_ablation(record: Record) -> Ablation:
    """Lay a record out by metric and variant, in the record's own order."""
    parts: dict[str, list[AblationRow]] = {}
    units: dict[str, str] = {}
    for metric, variant, name in _list_values(record.metrics):
        beside = next((c for c in record.comparisons if c.metric == metric.name), None)
        found = DIRECTED.fullmatch(name) if variant == record.task.removeprefix(PREFIX) else None
        # One variant alone: the direction is what tells its rows apart, and makes no table of its own.
        group, label = (name, _label(record, variant)) if found is None else (found[1], found[2].replace("_", " "))
        parts.setdefault(group, []).append(_row(record, metric, label=label, beside=beside))
        units[group] = metric.unit
    name = record.task.removeprefix(PREFIX)
    seeds, steps = record.config.get("seeds"), record.config.get("steps")
    return Ablation(
        key=re.sub(r"[^A-Za-z0-9._-]+", "-", f"ablation-{record.model_size}-{name}"),
        name=name.replace("_", " "),
        source=next((c.source for c in record.comparisons), None),
        model_size=record.model_size,
        method=next((metric.ci_method for metric in record.metrics), None),
        steps=steps if isinstance(steps, int) else None,
        seeds=tuple(seed for seed in seeds if isinstance(seed, int)) if isinstance(seeds, list) else (),
        commit=record.commit,
        is_dirty=record.is_dirty,
        started_at=record.started_at,
        parts=tuple(
            AblationPart(metric=name, label=LABELS.get(name, name_metric(name)), unit=units[name], rows=tuple(rows))
            for name, rows in parts.items()
        ),
    )


def _list_values(metrics: Iterable[MetricValue]) -> Iterator[tuple[MetricValue, str, str]]:
    """Give every number of a variant with the variant and the metric that its name is made of."""
    for metric in metrics:
        found = METRIC.fullmatch(metric.name)
        if found is not None and not metric.name.endswith(DIFFERENCE):
            yield metric, found["variant"], found["metric"]


def _row(record: Record, metric: MetricValue, *, label: str, beside: Comparison | None) -> AblationRow:
    effect = record.find_metric(f"{metric.name}{DIFFERENCE}")
    says = None if beside is None else beside.reason.partition(": ")[2]
    return AblationRow(
        label=label,
        ours=_value(metric),
        difference=None if effect is None else _value(effect),
        paper=None if beside is None else beside.published,
        printed=None if beside is None else beside.printed,
        says=says or None,
    )


def _value(metric: MetricValue) -> AblationValue:
    return AblationValue(value=metric.value, ci_low=metric.ci_low, ci_high=metric.ci_high, n=metric.n, unit=metric.unit)


def _label(record: Record, variant: str) -> str:
    """Say the variant as its table does: a comparison of the same variant holds the words."""
    named: Sequence[Comparison] = [c for c in record.comparisons if c.metric.startswith(f"{variant}_recall")]
    return named[0].target_id.partition("/")[2] if named else variant.replace("_", " ")
