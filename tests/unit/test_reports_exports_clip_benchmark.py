"""CLIP_benchmark: the rules of its result files, written down as checks."""

import json
from typing import Any

import pytest

from reports.exports.clip_benchmark import export
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record

TASKS = {"zeroshot_classification", "zeroshot_retrieval", "linear_probe", "captioning", "image_caption_selection"}
METRICS = {"acc1", "acc5", "mean_per_class_recall"}
ENDINGS = ("_ci_low", "_ci_high", "_n")


def _record(*metrics: MetricValue, **changes: Any) -> Record:
    data = DataInfo(name="d", version="miniworld", root_name="r", digest="d", n=8, n_expected=8, ids_sha256="e")
    fields: dict[str, Any] = {"run_id": "r1", "task": "esc50", "dataset": "ESC-50 layout of the miniworld"}
    fields |= {"split": "all", "profile": "mini", "model_size": "mini", "setting": "zero-shot", "protocol_sha256": "ab"}
    fields |= {"protocol": "audio-15s-prompt/zero-shot", "metrics": metrics or (_accuracy(),), "data": data}
    fields |= {"checkpoint": CheckpointInfo(name="w.pt", sha256="c0", loaded=1), "config": {}, "dtype": "float32"}
    fields |= {"device": "cpu", "seed": 7, "commit": "0123", "is_dirty": False, "versions": {}, "command": "run"}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5}
    return Record(**{**fields, **changes})


def _accuracy(name: str = "accuracy") -> MetricValue:
    return MetricValue(name=name, value=75.0, n=8, hits=6.0, ci_low=40.0, ci_high=93.0, ci_method="wilson")


def _recalls() -> tuple[MetricValue, ...]:
    ways = ("image_to_text", "text_to_image")
    return tuple(
        MetricValue(name=f"recall_at_{k}_{way}", value=10.0 * k, n=8 * (i + 1))
        for i, way in enumerate(ways)
        for k in (1, 5, 10)
    )


def _check(content: dict[str, Any]) -> None:
    """Source: cli.py dumps six keys; its `build` lifts the metrics, joins model and pretrained, writes columns."""
    assert {"dataset", "model", "pretrained", "task", "metrics", "language"} <= set(content)
    assert content["task"] in TASKS
    row = {**content["metrics"], **{key: value for key, value in content.items() if key != "metrics"}}
    assert len(row) == len(content["metrics"]) + len(content) - 1, "a metric hides a key of the file"
    assert isinstance(content["model"] + " " + content["pretrained"], str)
    assert all(isinstance(value, int | float | str) for value in row.values()), "a column holds one value"
    assert all(0 <= value <= 1 for key, value in content["metrics"].items() if not key.endswith("_n"))
    named = {key for key in content["metrics"] if not key.endswith(ENDINGS)}
    for name in named - METRICS:
        what, _, rank = name.partition("_retrieval_recall@")
        assert what in {"image", "text", "audio"}, name
        assert rank.isdigit(), name


def test_a_mini_result_keeps_the_rules_and_says_what_it_is() -> None:
    (content,) = (json.loads(text) for text in export([_record()]).files.values())
    _check(content)
    assert content["task"] == "zeroshot_classification"
    assert content["metrics"] == {"acc1": 0.75, "acc1_ci_low": 0.4, "acc1_ci_high": 0.93, "acc1_n": 8}
    assert (content["model"], content["dataset"]) == ("one-peace-mini-miniworld", "miniworld-esc50")
    assert "Not a result of ONE-PEACE" in content["note"]


def test_recall_is_named_by_what_is_found() -> None:
    record = _record(*_recalls(), task="coco", profile="paper", model_size="4b", protocol="image-square-256/zero-shot")
    (content,) = (json.loads(text) for text in export([record]).files.values())
    _check(content)
    assert content["task"] == "zeroshot_retrieval"
    assert content["metrics"]["text_retrieval_recall@1"] == 0.1
    assert content["metrics"]["text_retrieval_recall@1_n"] == 8  # pictures ask for texts
    assert content["metrics"]["image_retrieval_recall@5_n"] == 16
    assert content["dataset"] == "coco"


@pytest.mark.parametrize(
    ("metric", "setting"), [("miou", "fine-tuned"), ("accuracy", "fine-tuned"), ("map", "zero-shot")]
)
def test_what_is_no_task_there_is_left_out_and_said(metric: str, setting: str) -> None:
    made = export([_record(_accuracy(metric), setting=setting), _record(run_id="r2", split="test")])
    assert len(made.files) == 1
    (said,) = made.left_out
    assert said.startswith(f"r1: {setting}")
    assert "no task of CLIP_benchmark" in said


def test_two_protocols_are_two_files_and_the_order_is_none() -> None:
    records = [_record(), _record(run_id="r2", protocol="audio-20s-prompt/zero-shot")]
    assert len(export(records).files) == 2
    assert export(records) == export(records[::-1])
    (name, _) = export(records).files
    assert name == (
        "miniworld-esc50_all_audio-15s-prompt_w.pt_one-peace-mini-miniworld_en_zeroshot_classification.json"
    )
