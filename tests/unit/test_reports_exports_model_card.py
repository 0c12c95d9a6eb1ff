"""Hugging Face's model card: the rules of its front matter, written down as checks."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from reports.exports.document import IMPORT
from reports.exports.model_card import export
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record


def _record(*metrics: MetricValue, version: str = "SceneParse150", **changes: Any) -> Record:
    data = DataInfo(name="ADE20K", version=version, root_name="r", digest="d", n=8, n_expected=8, ids_sha256="e")
    metrics = metrics or (MetricValue(name="miou", value=61.97, n=2000, ci_low=61.01, ci_high=62.9),)
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "paper"}
    fields |= {"model_size": "4b", "setting": "fine-tuned", "protocol": "slide-896-512/ss", "protocol_sha256": "ab"}
    fields |= {"metrics": metrics, "checkpoint": CheckpointInfo(name="w.pt", sha256="c0", loaded=1), "data": data}
    fields |= {"config": {}, "dtype": "float32", "device": "cpu", "seed": 0, "commit": "0123", "is_dirty": False}
    fields |= {"versions": {}, "started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": "run"}
    return Record(**{**fields, **changes})


def _mini(**changes: Any) -> Record:
    mini = {"version": "miniworld", "dataset": "ADE20K layout of the miniworld", "profile": "mini"}
    return _record(**{**mini, "model_size": "mini", **changes})


def _parts(card: str) -> tuple[dict[str, Any], str]:
    found = re.fullmatch(r"---\n(.*?)\n---\n\n(.*)", card, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1]), found[2]


def _check(front: Mapping[str, Any]) -> None:
    """Source: hub-docs modelcard.md; huggingface_hub's EvalResult and model_index_to_eval_results."""
    assert all(isinstance(tag, str) for tag in front["tags"])
    (model,) = front["model-index"]  # of several, a reader would keep the last name for the results of all
    assert isinstance(model["name"], str)
    places = []
    for result in model["results"]:
        assert set(result) == {"task", "dataset", "metrics"}
        assert isinstance(result["task"]["type"], str)
        assert {"type", "name"} <= set(result["dataset"]) <= {"type", "name", "config", "split"}
        dataset = result["dataset"]
        places.append((result["task"]["type"], dataset["type"], dataset["config"], dataset["split"]))
        for metric in result["metrics"]:
            assert set(metric) == {"type", "value", "name", "verified"}
            assert isinstance(metric["type"], str)
            assert isinstance(metric["value"], float)
            assert math.isfinite(metric["value"])
            assert metric["verified"] is False, "kept for evaluations that Hugging Face ran"
    assert len(set(places)) == len(places), "results of one place are put into one"


def test_a_card_keeps_the_rules_and_shows_the_interval_in_its_table() -> None:
    made = export([_record(), _record(run_id="r2", protocol="slide-896-512/ms")])
    front, body = _parts(made.files["one-peace-4b/README.md"])
    _check(front)
    (model,) = front["model-index"]
    assert model["results"][1] == {
        "task": {"type": "image-segmentation", "name": "ade20k fine-tuned"},
        "dataset": {
            "type": "ade20k",
            "name": "ADE20K, slide-896-512/ss",
            "config": "slide-896-512/ss",
            "split": "val",
        },
        "metrics": [{"type": "mean_iou", "value": 61.97, "name": "miou (%)", "verified": False}],
    }
    assert "61.97 [61.01, 62.90]" in body
    assert "MINI" not in body
    assert made.left_out == ("model-card: intervals and counts stand in its table, not in its metadata",)


def test_a_mini_card_says_so_in_its_name_its_tags_its_metrics_and_its_text() -> None:
    (name,), made = export([_mini()]).files, export([_mini()])
    front, body = _parts(made.files[name])
    _check(front)
    assert name == "one-peace-mini-miniworld/README.md"
    assert front["tags"] == ["one-peace", "miniworld"]
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["type"] == "miniworld-ade20k"
    assert result["metrics"][0]["name"] == "miou (%), mini model on a miniature"
    assert "Not a result of ONE-PEACE" in body
    assert "not comparable (mini)" in body or "no published number (mini)" in body


def test_a_card_holds_one_model() -> None:
    made = export([_record(), _mini(run_id="r2")])
    assert list(made.files) == ["one-peace-4b/README.md", "one-peace-mini-miniworld/README.md"]
    for card in made.files.values():
        _check(_parts(card)[0])


@pytest.mark.parametrize(
    ("metric", "inputs", "setting", "task"),
    [
        ("recall_at_1_image_to_text", (), "zero-shot", "image-text-retrieval"),
        ("recall_at_1_audio_to_text", (), "fine-tuned", "audio-text-retrieval"),
        ("accuracy", ("audio", "text"), "zero-shot", "zero-shot-audio-classification"),
        ("accuracy", ("audio",), "fine-tuned", "audio-classification"),
        ("accuracy_top_1", ("image",), "fine-tuned", "image-classification"),
        ("accuracy", (), "fine-tuned", "classification"),
        ("accuracy_at_iou_50", ("image", "text"), "fine-tuned", "visual-grounding"),
    ],
)
def test_tasks_go_by_the_words_of_the_hub(metric: str, inputs: tuple[str, ...], setting: str, task: str) -> None:
    config: dict[str, Any] = {"settings": {"inputs": {name: {} for name in inputs}}}
    record = _record(MetricValue(name=metric, value=1.0), config=config, setting=setting)
    front, _ = _parts(next(iter(export([record]).files.values())))
    _check(front)
    assert front["model-index"][0]["results"][0]["task"]["type"] == task


def test_texts_of_a_record_become_neither_yaml_nor_html() -> None:
    evil = "x\n---\nlicense: mit\n<script>alert(1)</script>"
    front, body = _parts(next(iter(export([_record(dataset=evil, split="<b>v</b>")]).files.values())))
    _check(front)
    assert "license" not in front
    assert "<script>" not in body
    assert "<b>" not in body


def test_what_is_no_number_is_left_out_and_imports_are_told() -> None:
    made = export([_record(MetricValue(name="miou", value=math.nan))])
    assert made.files == {}
    front, body = _parts(export([_record(config={IMPORT: {}})]).files["imported-4b/README.md"])
    assert front["tags"] == ["imported"]
    assert "Read from a foreign file, not computed here." in body


def test_the_same_records_give_the_same_bytes_in_any_order() -> None:
    records = [_record(), _record(run_id="r2", split="test"), _mini(run_id="r3")]
    assert export(records) == export(records[::-1])
