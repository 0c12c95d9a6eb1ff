"""mteb: the rules of its TaskResult files, written down as checks."""

import json
import math
import re
from typing import Any

import pytest

from reports.exports.mteb import export
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record


def _record(*metrics: MetricValue, **changes: Any) -> Record:
    data = DataInfo(name="d", version="miniworld", root_name="r", digest="d", n=8, n_expected=8, ids_sha256="e")
    fields: dict[str, Any] = {"run_id": "r1", "task": "refcoco", "dataset": "RefCOCO layout of the miniworld"}
    fields |= {"split": "val", "profile": "mini", "model_size": "mini", "setting": "fine-tuned"}
    fields |= {"protocol": "image-grounding-96/fine-tuned", "metrics": metrics or (_metric(),), "data": data}
    fields |= {"checkpoint": CheckpointInfo(name="w.pt", sha256="c0" * 32, loaded=1), "config": {}, "dtype": "float32"}
    fields |= {"device": "cpu", "seed": 7, "commit": "0123", "is_dirty": False, "versions": {}, "command": "run"}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "protocol_sha256": "ab"}
    return Record(**{**fields, **changes})


def _metric(value: float = 75.0) -> MetricValue:
    return MetricValue(name="accuracy_at_iou_50", value=value, n=8, hits=6.0, ci_low=40.0, ci_high=93.0)


def _check(content: dict[str, Any]) -> None:
    """Source: results/task_result.py, the fields of TaskResult and `_validate_scores_dict`."""
    known = {"dataset_revision", "task_name", "mteb_version", "scores", "evaluation_time", "kg_co2_emissions"}
    assert set(content) == known
    assert isinstance(content["dataset_revision"], str)
    assert isinstance(content["task_name"], str)
    assert content["mteb_version"] is None, "a version would say that mteb was run"
    assert isinstance(content["evaluation_time"], float | None)
    for split, entries in content["scores"].items():
        assert isinstance(split, str)
        (entry,) = entries
        assert isinstance(entry["hf_subset"], str)
        assert entry["languages"]
        assert all(re.fullmatch(r"[a-z]{3}-[A-Z][a-z]{3}", language) for language in entry["languages"])
        assert 0 <= entry["main_score"] <= 1
        for key, value in entry.items():
            if isinstance(value, float):
                assert 0 <= value <= 1, key
        json.dumps(entry, allow_nan=False)


def test_the_splits_of_a_task_stand_in_one_file_and_say_what_they_are() -> None:
    records = [_record(), _record(run_id="r2", split="testA"), _record(run_id="r3", split="testB", duration_s=1.5)]
    made = export(records)
    assert list(made.files) == [
        "one-peace-mini-miniworld/c0c0c0c0c0c0/OnePeace_miniworld_refcoco_fine_tuned_image-grounding-96.json"
    ]
    (content,) = (json.loads(text) for text in made.files.values())
    _check(content)
    assert list(content["scores"]) == ["testA", "testB", "val"]
    assert content["evaluation_time"] == 8.5
    (entry,) = content["scores"]["val"]
    assert (entry["main_score"], entry["accuracy_at_iou_50"], entry["accuracy_at_iou_50_n"]) == (0.75, 0.75, 8)
    assert (entry["accuracy_at_iou_50_ci_low"], entry["accuracy_at_iou_50_ci_high"]) == (0.4, 0.93)
    assert "Not a result of ONE-PEACE" in entry["note"]
    assert export(records[::-1]) == made


def test_other_weights_are_another_file() -> None:
    other = CheckpointInfo(name="v.pt", sha256="d1" * 32, loaded=1)
    assert len(export([_record(), _record(run_id="r2", split="testA", checkpoint=other)]).files) == 2
    nothing = CheckpointInfo(name="random initialisation, seed 0", sha256=None, loaded=0)
    (name,) = export([_record(checkpoint=nothing)]).files
    assert name.split("/")[1] == "unknown"


def test_a_result_without_a_main_score_is_left_out_and_said() -> None:
    made = export([_record(_metric(math.nan))])
    assert made.files == {}
    assert made.left_out == ("r1: accuracy_at_iou_50 is nan, no number", "r1: no main score, as mteb asks for one")


def test_a_time_that_nobody_knows_is_none() -> None:
    (content,) = (json.loads(text) for text in export([_record(duration_s=math.nan)]).files.values())
    assert content["evaluation_time"] is None
    _check(content)


def test_a_split_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="results of the same"):
        export([_record(), _record(run_id="r2")])
