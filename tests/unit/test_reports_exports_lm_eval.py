"""lm-evaluation-harness: the rules of its results files, written down as checks."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from reports.exports.lm_eval import export
from reports.interval import measure_share
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record

PER_TASK = ("configs", "versions", "n-shot", "higher_is_better")  # what its table and its readers look up by task


def _record(*metrics: MetricValue, n: int = 170, version: str = "miniworld", **changes: Any) -> Record:
    data = DataInfo(name="d", version=version, root_name="r", digest="d", n=n, n_expected=n or None, ids_sha256="e")
    fields: dict[str, Any] = {"run_id": "r1", "task": "esc50", "dataset": "ESC-50 layout of the miniworld"}
    fields |= {"split": "all", "profile": "mini", "model_size": "mini", "setting": "zero-shot", "protocol_sha256": "ab"}
    fields |= {"protocol": "audio-15s-prompt/zero-shot", "metrics": metrics or (_accuracy(),), "data": data}
    fields |= {"checkpoint": CheckpointInfo(name="w.pt", sha256="c0", loaded=1), "config": {}, "dtype": "float32"}
    fields |= {"device": "cpu", "seed": 7, "commit": "0123", "is_dirty": False, "versions": {}, "command": "run"}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5}
    return Record(**{**fields, **changes})


def _accuracy() -> MetricValue:
    return measure_share("accuracy", np.array([1] * 159 + [0] * 11), over="clips", seed=0)


def _one(*records: Record) -> dict[str, Any]:
    (text,) = export(records).files.values()
    content: dict[str, Any] = json.loads(text)
    return content


def _check(content: Mapping[str, Any]) -> None:
    """Source: evaluation_tracker.py writes, utils.make_table and get_results_filenames read."""
    tasks = set(content["results"])
    assert tasks
    for part in PER_TASK:
        assert set(content[part]) == tasks, part
    assert set(content["n-samples"]) <= tasks
    for counts in content["n-samples"].values():
        assert set(counts) == {"original", "effective"}
        assert all(isinstance(count, int) for count in counts.values())
    for task, scores in content["results"].items():
        assert scores.pop("alias") == task
        for key, value in scores.items():
            name, comma, kind = key.partition(",")
            assert (comma, kind) == (",", "none"), key
            assert isinstance(value, float) or (name.endswith("_stderr") and value == "N/A"), key
            if not name.endswith("_stderr"):
                assert f"{name}_stderr,none" in scores
                assert name in content["higher_is_better"][task]
        assert content["configs"][task]["task"] == task
        assert isinstance(content["configs"][task]["num_fewshot"], int)
    assert isinstance(content["config"]["model_args"], str)
    assert isinstance(content["date"], float)
    assert float(content["total_evaluation_time_seconds"]) >= 0
    assert set(content["model_name_sanitized"]) & set('"<>:/|\\?*[]') == set()


def test_a_mini_result_keeps_the_rules_and_says_what_it_is() -> None:
    content = _one(_record())
    task = "miniworld_esc50_zero_shot_audio-15s-prompt_all"
    assert content["results"][task]["acc,none"] == 159 / 170
    assert content["n-samples"][task] == {"original": 170, "effective": 170}
    assert content["model_name"] == "one-peace-mini-miniworld"
    assert "Not a result of ONE-PEACE" in content["configs"][task]["description"]
    _check(content)


def test_the_standard_error_is_the_one_that_tool_would_count() -> None:
    hits = np.array([1] * 159 + [0] * 11, dtype=np.float64)
    (scores,) = _one(_record())["results"].values()
    assert scores["acc_stderr,none"] == pytest.approx(hits.std(ddof=1) / math.sqrt(len(hits)), rel=1e-12)


@pytest.mark.parametrize(
    "metric",
    [
        MetricValue(name="accuracy", value=50.0, n=10, hits=5.0, ci_low=20.0, ci_high=80.0, ci_method="bootstrap"),
        MetricValue(name="accuracy", value=51.0, n=10, hits=5.1, ci_low=20.0, ci_high=80.0, ci_method="wilson"),
        MetricValue(name="accuracy", value=100.0, n=1, hits=1.0, ci_low=20.0, ci_high=100.0, ci_method="wilson"),
        MetricValue(name="accuracy", value=50.0),
    ],
)
def test_where_samples_hang_together_or_are_not_counted_there_is_no_standard_error(metric: MetricValue) -> None:
    content = _one(_record(metric))
    (scores,) = content["results"].values()
    assert scores["acc_stderr,none"] == "N/A"
    _check(content)


def test_the_interval_stands_where_anything_may_stand() -> None:
    (config,) = _one(_record())["configs"].values()
    interval = config["metadata"]["intervals_95"]["acc"]
    assert 0 < interval["low"] < 159 / 170 < interval["high"] < 1
    assert interval["method"] == "wilson"


def test_other_units_stay_and_the_direction_is_told() -> None:
    loss = MetricValue(name="loss", value=0.653, unit="nats", n=8, direction="lower")
    content = _one(_record(MetricValue(name="accuracy_top_1", value=89.558, n=8), loss))
    (scores,), (better,) = content["results"].values(), content["higher_is_better"].values()
    assert (scores["loss,none"], scores["acc,none"]) == (0.653, pytest.approx(0.89558))
    assert better == {"acc": True, "loss": False}
    _check(content)


def test_all_results_of_a_model_stand_in_one_file_under_the_name_its_readers_look_for() -> None:
    paper = _record(run_id="r3", profile="paper", model_size="4b", version="2016", dataset="ESC-50")
    made = export([_record(), _record(run_id="r2", split="test", started_at="2024-02-01T00:00:00+00:00"), paper])
    assert list(made.files) == [
        "one-peace-4b/results_2024-01-31T12-00-00.json",
        "one-peace-mini-miniworld/results_2024-02-01T00-00-00.json",
    ]
    contents = [json.loads(text) for text in made.files.values()]
    assert [len(content["results"]) for content in contents] == [1, 2]
    for content in contents:
        _check(content)


def test_what_cannot_be_held_is_said() -> None:
    made = export([_record(_accuracy(), MetricValue(name="recall_mean", value=math.nan))])
    assert made.left_out[0] == "r1: recall_mean is nan, no number"
    (text,) = made.files.values()
    assert "recall_mean,none" not in text
    _check(json.loads(text))
    assert _one(_record(n=0))["n-samples"] == {}  # nobody knows how many


def test_the_same_records_give_the_same_bytes_in_any_order() -> None:
    records = [_record(), _record(run_id="r2", split="test")]
    assert export(records) == export(records[::-1])
