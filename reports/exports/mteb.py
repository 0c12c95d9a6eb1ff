"""TaskResult JSON of mteb: one file a task and model, every split in it, shares on the scale 0 to 1.

The tool was not run, so `mteb_version` is null, and the tasks go by names of ours: none of its own tasks has these
protocols. An entry of `scores` may hold more than it needs; intervals and counts stand there.

Source: mteb, results/task_result.py.
"""

from collections.abc import Sequence

from pydantic import JsonValue

from reports.exports.document import (
    Export,
    dataset_title,
    finite_metrics,
    fraction,
    in_order,
    interval_of,
    model_name,
    named_once,
    remarks,
    seconds_of,
    slug,
    task_label,
    to_json,
)
from reports.record import Record

NAME = "mteb"
SUBSET = "default"
LANGUAGES = ("eng-Latn",)  # class names, captions and questions of every task are English
REVISION_DIGITS = 12


def export(records: Sequence[Record]) -> Export:
    """Write one file a task and model, laid out as that tool keeps its results: model, revision, task.

    A result whose first metric is no number has no main score and is left out.
    """
    groups: dict[str, list[Record]] = {}
    lost: list[str] = []
    for record in in_order(records):
        finite, missing = finite_metrics(record)
        lost += missing
        if not finite or finite[0].name != record.metrics[0].name:
            lost.append(f"{record.run_id}: no main score, as mteb asks for one")
            continue
        groups.setdefault(_file_name(record), []).append(record)
    return Export({name: to_json(_task_result(group)) for name, group in groups.items()}, tuple(lost))


def _file_name(record: Record) -> str:
    revision = (record.checkpoint.sha256 or "unknown")[:REVISION_DIGITS]
    return f"{model_name(record)}/{slug(revision)}/{_task_name(record)}.json"


def _task_name(record: Record) -> str:
    return f"OnePeace_{task_label(record)}"


def _task_result(records: Sequence[Record]) -> dict[str, JsonValue]:
    first, splits = records[0], named_once((record.split, record) for record in records)
    return {
        "task_name": _task_name(first),
        "dataset_revision": first.data.version,
        "mteb_version": None,
        "scores": {split: [_scores(record)] for split, record in splits.items()},
        "evaluation_time": seconds_of(records),
        "kg_co2_emissions": None,
    }


def _scores(record: Record) -> dict[str, JsonValue]:
    metrics = finite_metrics(record)[0]
    scores: dict[str, JsonValue] = {
        "hf_subset": SUBSET,
        "languages": list(LANGUAGES),
        "main_score": fraction(metrics[0], metrics[0].value),
        "dataset": dataset_title(record),
        "protocol": record.protocol,
        "run_id": record.run_id,
        "note": " ".join(remarks(record)),
    }
    for metric in metrics:
        scores[metric.name] = fraction(metric, metric.value)
        interval = interval_of(metric)
        if interval is not None:
            ends = [fraction(metric, end) for end in interval]
            scores[f"{metric.name}_ci_low"], scores[f"{metric.name}_ci_high"] = ends
        if metric.n is not None:
            scores[f"{metric.name}_n"] = metric.n
    return scores
