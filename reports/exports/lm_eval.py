"""Results JSON of lm-evaluation-harness: one file a model, shares on the scale 0 to 1.

A metric stands as `<name>,<filter>`; no filter was applied, which that tool calls `none`. Beside it stands its standard
error, where samples were drawn one by one, else "N/A": an interval over clusters is none. Our intervals go into the
task's entry under `configs`, which may hold anything.

Source: lm-evaluation-harness, loggers/evaluation_tracker.py, utils.make_table.
"""

import math
from collections.abc import Sequence

from pydantic import JsonValue

from reports.exports.document import (
    SUITE,
    Export,
    by_model,
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
from reports.record import MetricValue, Record

NAME = "lm-eval"
FILTER = "none"
NO_ERROR = "N/A"
METRIC_NAMES = {"accuracy": "acc", "accuracy_top_1": "acc", "accuracy_top_5": "acc_top5"}
MISSING = ("samples, prompts and their hashes", "group scores")


def export(records: Sequence[Record]) -> Export:
    """Write one results file a model, with every task that it was judged on."""
    files: dict[str, str] = {}
    lost: list[str] = []
    for name, group in by_model(in_order(records)).items():
        lost += [said for record in group for said in finite_metrics(record)[1]]
        stamp = max(record.start for record in group).strftime("%Y-%m-%dT%H-%M-%S")
        files[f"{name}/results_{stamp}.json"] = to_json(_results(group))
    return Export(files, (*lost, f"lm-eval: no {' and no '.join(MISSING)}: they are not part of a record"))


def _results(records: Sequence[Record]) -> dict[str, JsonValue]:
    labels = named_once((_label(record), record) for record in records)
    newest = max(records, key=lambda record: record.start)
    return {
        "results": {label: _scores(label, record) for label, record in labels.items()},
        "group_subtasks": {},
        "configs": {label: _config(label, record) for label, record in labels.items()},
        "versions": {label: record.protocol for label, record in labels.items()},
        "n-shot": dict.fromkeys(labels, 0),
        "higher_is_better": {
            label: {_name(metric): metric.direction == "higher" for metric in record.metrics}
            for label, record in labels.items()
        },
        "n-samples": {label: _counts(record) for label, record in labels.items() if record.data.n},
        "config": {
            "model": SUITE,
            "model_args": f"size={newest.model_size},profile={newest.profile}",
            "batch_size": None,
            "device": newest.device,
            "limit": None,
            "random_seed": newest.seed,
        },
        "git_hash": newest.commit,
        "date": newest.start.timestamp(),
        "task_hashes": {},
        "model_source": SUITE,
        "model_name": model_name(newest),
        "model_name_sanitized": model_name(newest),
        "total_evaluation_time_seconds": str(seconds_of(records) or 0.0),
    }


def _label(record: Record) -> str:
    return f"{task_label(record)}_{slug(record.split)}"


def _name(metric: MetricValue) -> str:
    return METRIC_NAMES.get(metric.name, slug(metric.name))


def _scores(label: str, record: Record) -> dict[str, JsonValue]:
    scores: dict[str, JsonValue] = {"alias": label}
    for metric in finite_metrics(record)[0]:
        scores[f"{_name(metric)},{FILTER}"] = fraction(metric, metric.value)
        scores[f"{_name(metric)}_stderr,{FILTER}"] = _standard_error(metric)
    return scores


def _standard_error(metric: MetricValue) -> float | str:
    """Give the standard error of a mean of zeros and ones, as that tool counts it: with n - 1."""
    if metric.ci_method != "wilson" or metric.hits is None or not metric.hits.is_integer() or (metric.n or 0) < 2:
        return NO_ERROR
    share = metric.hits / (metric.n or 0)
    return math.sqrt(share * (1 - share) / ((metric.n or 0) - 1))


def _counts(record: Record) -> dict[str, JsonValue]:
    expected = record.data.n if record.data.n_expected is None else record.data.n_expected
    return {"original": expected, "effective": record.data.n}


def _config(label: str, record: Record) -> dict[str, JsonValue]:
    metrics = finite_metrics(record)[0]
    intervals: dict[str, JsonValue] = {}
    for metric in metrics:
        interval = interval_of(metric)
        if interval is not None:
            low, high = (fraction(metric, end) for end in interval)
            intervals[_name(metric)] = {"low": low, "high": high, "method": metric.ci_method or "unknown"}
    return {
        "task": label,
        "dataset_path": dataset_title(record),
        "test_split": record.split,
        "num_fewshot": 0,
        "description": " ".join(remarks(record)),
        "metric_list": [
            {"metric": _name(metric), "aggregation": "mean", "higher_is_better": metric.direction == "higher"}
            for metric in metrics
        ],
        "metadata": {
            "version": record.protocol,
            "setting": record.setting,
            "run_id": record.run_id,
            "checkpoint": record.checkpoint.name,
            "checkpoint_sha256": record.checkpoint.sha256,
            "intervals_95": intervals,
        },
    }
