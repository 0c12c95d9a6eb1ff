"""Result JSON of CLIP_benchmark: one file a result, shares on the scale 0 to 1.

That tool judges zero-shot classification and zero-shot retrieval; whatever else a record holds has no task there and is
left out. Its table is made by lifting `metrics` into columns, so the interval's ends stand among them, flat.

Source: LAION CLIP_benchmark, cli.py (what is dumped, and what `build` asks of it), metrics/zeroshot_*.py.
"""

import re
from collections.abc import Sequence

from pydantic import JsonValue

from reports.exports.document import (
    Export,
    Kind,
    dataset_id,
    finite_metrics,
    fraction,
    in_order,
    interval_of,
    kind_of,
    model_name,
    named_once,
    remarks,
    slug,
    to_json,
)
from reports.record import MetricValue, Record

NAME = "clip-benchmark"
LANGUAGE = "en"
TASKS = {Kind.CLASSIFICATION: "zeroshot_classification", Kind.RETRIEVAL: "zeroshot_retrieval"}
METRIC_NAMES = {"accuracy": "acc1", "accuracy_top_1": "acc1", "accuracy_top_5": "acc5"}
RECALL = re.compile(r"recall_at_(\d+)_[a-z]+_to_([a-z]+)")


def export(records: Sequence[Record]) -> Export:
    """Write one file a result."""
    kept: list[Record] = []
    lost: list[str] = []
    for record in in_order(records):
        if record.setting == "zero-shot" and kind_of(record) in TASKS:
            kept.append(record)
            lost += finite_metrics(record)[1]
        else:
            lost.append(f"{record.run_id}: {record.setting} {kind_of(record)} is no task of CLIP_benchmark")
    named = named_once((_file_name(record), record) for record in kept)
    return Export({name: to_json(_result(record)) for name, record in named.items()}, tuple(lost))


def _result(record: Record) -> dict[str, JsonValue]:
    return {
        "dataset": dataset_id(record),
        "model": model_name(record),
        "pretrained": _pretrained(record),
        "task": TASKS[kind_of(record)],
        "metrics": _metrics(record),
        "language": LANGUAGE,
        "split": record.split,
        "protocol": record.protocol,
        "run_id": record.run_id,
        "note": " ".join(remarks(record)),
    }


def _metrics(record: Record) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for metric in finite_metrics(record)[0]:
        name = _name(metric)
        found[name] = fraction(metric, metric.value)
        interval = interval_of(metric)
        if interval is not None:
            found[f"{name}_ci_low"], found[f"{name}_ci_high"] = (fraction(metric, end) for end in interval)
        if metric.n is not None:
            found[f"{name}_n"] = metric.n
    return found


def _name(metric: MetricValue) -> str:
    """Name recall by what is found: text to image is `image_retrieval_recall@k`."""
    recall = RECALL.fullmatch(metric.name)
    if recall:
        return f"{recall[2]}_retrieval_recall@{recall[1]}"
    return METRIC_NAMES.get(metric.name, metric.name)


def _pretrained(record: Record) -> str:
    return slug(record.checkpoint.name)


def _file_name(record: Record) -> str:
    """Follow the tool's own pattern, with split and protocol: two protocols are two results."""
    protocol = slug(record.protocol.rpartition("/")[0] or record.protocol, joint="-")
    data = (dataset_id(record), slug(record.split), protocol)
    return f"{'_'.join((*data, _pretrained(record), model_name(record), LANGUAGE, TASKS[kind_of(record)]))}.json"
