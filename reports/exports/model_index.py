"""OpenMMLab's `model-index.yml`: a model for each result, in per cent.

MIM shows a model's metrics by data set and name, so two results of one model on one data set would hide each other:
each record is a model of its own, under the collection of its profile. Nothing may be null or empty there, lists hold
texts alone, and metrics are bare numbers; intervals and counts are custom fields under `Metadata`, which are allowed.

Source: paperswithcode/model-index (Model, Result, Collection checks), MIM's commands/search.py, and the rules written
in OpenMMLab's own script that makes such files.
"""

from collections.abc import Sequence

import yaml
from pydantic import JsonValue

from reports.exports.document import (
    IMPORT,
    MINI_NOTE,
    Export,
    Kind,
    dataset_title,
    finite_metrics,
    in_order,
    interval_of,
    kind_of,
    modalities_of,
    model_name,
    named_once,
    remarks,
    slug,
    task_label,
)
from reports.record import MetricValue, Record
from reports.table import name_metric

NAME = "model-index"
FILE = "model-index.yml"
PAPER = {
    "Title": "ONE-PEACE: Exploring One General Representation Model Toward Unlimited Modalities",
    "URL": "https://arxiv.org/abs/2305.11172",
}
METRIC_NAMES = {
    "miou": "mIoU",
    "macc": "mAcc",
    "aacc": "aAcc",
    "map": "mAP",
    "box_ap": "box AP",
    "mask_ap": "mask AP",
    "accuracy": "Accuracy",
    "accuracy_top_1": "Top 1 Accuracy",
    "accuracy_top_5": "Top 5 Accuracy",
}
TASK_NAMES = {
    Kind.SEGMENTATION: "Semantic Segmentation",
    Kind.DETECTION: "Object Detection",
    Kind.GROUNDING: "Visual Grounding",
    Kind.TAGGING: "Multi-Label Classification",
}


def export(records: Sequence[Record]) -> Export:
    """Write all results as one index."""
    kept: list[Record] = []
    lost: list[str] = []
    for record in in_order(records):
        finite, missing = finite_metrics(record)
        lost += missing
        if finite:
            kept.append(record)
        else:
            lost.append(f"{record.run_id}: no number, and an index has no place for a result without one")
    if not kept:
        return Export({}, tuple(lost))
    models = named_once((_name(record), record) for record in kept)
    collections = {_collection(record): record for record in kept}
    content: dict[str, JsonValue] = {
        "Collections": [_describe(name, record) for name, record in sorted(collections.items())],
        "Models": [_model(name, record) for name, record in models.items()],
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return Export({FILE: text}, tuple(lost))


def _collection(record: Record) -> str:
    if IMPORT in record.config:
        return "Imported"
    return "ONE-PEACE" if record.profile == "paper" else "ONE-PEACE miniworld"


def _describe(name: str, record: Record) -> dict[str, JsonValue]:
    """Describe a collection; only one of the paper's own model goes with the paper."""
    if IMPORT in record.config:
        return {"Name": name, "Metadata": {"Note": "Numbers read from foreign files"}}
    if record.profile != "paper":
        return {"Name": name, "Metadata": {"Architecture": ["ONE-PEACE"], "Note": MINI_NOTE}}
    return {"Name": name, "Metadata": {"Architecture": ["ONE-PEACE"]}, "Paper": dict(PAPER)}


def _model(name: str, record: Record) -> dict[str, JsonValue]:
    return {
        "Name": name,
        "In Collection": _collection(record),
        "Metadata": _metadata(record),
        "Results": [
            {
                "Task": _task(record),
                "Dataset": f"{dataset_title(record)} {record.split}",
                "Metrics": {_metric_name(metric): metric.value for metric in finite_metrics(record)[0]},
            }
        ],
        "Config": "unknown" if IMPORT in record.config else f"downstream/configs/{record.task}.yaml",
    }


def _name(record: Record) -> str:
    return "_".join((model_name(record), task_label(record), slug(record.split))).lower()


def _metadata(record: Record) -> dict[str, JsonValue]:
    intervals: dict[str, JsonValue] = {}
    for metric in finite_metrics(record)[0]:
        interval = interval_of(metric)
        if interval is not None:
            intervals[_metric_name(metric)] = f"{interval[0]:.2f} to {interval[1]:.2f}"
    wanted: dict[str, JsonValue] = {
        "Setting": record.setting,
        "Protocol": record.protocol,
        "Samples": record.data.n,
        "Intervals (95 %)": intervals,
        "Checkpoint": record.checkpoint.name,
        "Checkpoint SHA256": record.checkpoint.sha256,
        "Run": record.run_id,
        "Commit": record.commit,
        "Note": " ".join(remarks(record)),
    }
    return {key: value for key, value in wanted.items() if value}


def _metric_name(metric: MetricValue) -> str:
    return METRIC_NAMES.get(metric.name, name_metric(metric.name))


def _task(record: Record) -> str:
    kind, modalities = kind_of(record), [name.capitalize() for name in modalities_of(record)]
    if kind in TASK_NAMES:
        return TASK_NAMES[kind]
    return " ".join(("-".join(reversed(modalities)), kind.capitalize())).strip()
