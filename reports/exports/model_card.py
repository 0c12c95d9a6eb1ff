"""Hugging Face's model card: `model-index` in its front matter, a table with intervals below; one card a model.

A reader of the front matter keeps one name for all results, so a card holds one model. Values are in per cent, which
each metric's name says. `verified` is false: it is kept for evaluations that Hugging Face ran.

Source: huggingface/hub-docs modelcard.md; huggingface_hub, repocard_data.py.
"""

import html
from collections.abc import Sequence

import yaml
from pydantic import JsonValue

from reports.exports.document import (
    IMPORT,
    Export,
    Kind,
    by_model,
    dataset_id,
    dataset_title,
    finite_metrics,
    in_order,
    kind_of,
    modalities_of,
    remarks,
)
from reports.record import MetricValue, Record
from reports.table import name_metric, render_table

NAME = "model-card"
METRIC_TYPES = {"accuracy_top_1": "accuracy", "miou": "mean_iou"}
TASK_TYPES = {
    Kind.SEGMENTATION: "image-segmentation",
    Kind.DETECTION: "object-detection",
    Kind.GROUNDING: "visual-grounding",
}


def export(records: Sequence[Record]) -> Export:
    """Write one card a model: front matter for programs, a table for people."""
    files: dict[str, str] = {}
    lost: list[str] = []
    for name, group in by_model(in_order(records)).items():
        lost += [said for record in group for said in finite_metrics(record)[1]]
        told = [record for record in group if finite_metrics(record)[0]]
        if told:
            files[f"{name}/README.md"] = f"---\n{_front_matter(name, told)}---\n\n{_body(name, told)}"
    return Export(files, (*lost, "model-card: intervals and counts stand in its table, not in its metadata"))


def _front_matter(name: str, records: Sequence[Record]) -> str:
    first = records[0]
    tags: list[JsonValue] = ["imported"] if IMPORT in first.config else ["one-peace"]
    if first.profile != "paper":
        tags.append("miniworld")
    results: list[JsonValue] = [_result(record) for record in records]
    content: dict[str, JsonValue] = {"tags": tags, "model-index": [{"name": name, "results": results}]}
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return text


def _result(record: Record) -> dict[str, JsonValue]:
    return {
        "task": {"type": _task_type(record), "name": f"{record.task} {record.setting}"},
        "dataset": {
            "type": dataset_id(record),
            "name": f"{dataset_title(record)}, {record.protocol}",
            "config": record.protocol,
            "split": record.split,
        },
        "metrics": [_metric(metric, record) for metric in finite_metrics(record)[0]],
    }


def _metric(metric: MetricValue, record: Record) -> dict[str, JsonValue]:
    scope = "" if record.profile == "paper" else ", mini model on a miniature"
    return {
        "type": METRIC_TYPES.get(metric.name, metric.name),
        "value": metric.value,
        "name": f"{name_metric(metric.name)} ({metric.unit}){scope}",
        "verified": False,
    }


def _task_type(record: Record) -> str:
    kind, modalities = kind_of(record), "-".join(reversed(modalities_of(record)))
    if kind in TASK_TYPES:
        return TASK_TYPES[kind]
    word = "retrieval" if kind is Kind.RETRIEVAL else "classification"
    start = "zero-shot-" if record.setting == "zero-shot" and word == "classification" else ""
    if start and "audio" in modalities:
        return "zero-shot-audio-classification"
    return f"{start}{modalities}-{word}" if modalities else f"{start}{word}"


def _body(name: str, records: Sequence[Record]) -> str:
    said = sorted({remark for record in records for remark in remarks(record)})
    table = render_table(records, style="markdown")
    parts = [f"# {name}", *said, table.rstrip("\n"), "Values are in per cent, with their 95 % intervals."]
    return html.escape("\n\n".join(parts), quote=False) + "\n"
