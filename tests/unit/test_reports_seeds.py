"""Several seeds of one recipe become one result, and nothing else does."""

import math
from typing import Any

import pytest

from reports.check import check_paper
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, Verdict
from reports.seeds import join_seeds
from reports.target import Target
from reports.verdict import compare_record

TARGET = Target(
    id="A6",
    task="fsd50k",
    dataset="FSD50K",
    dataset_version="1.0",
    split="eval",
    metric="map",
    unit="%",
    direction="higher",
    value=69.7,
    printed="69.7",
    num_samples=10231,
    setting="fine-tuned",
    protocol="audio-15s/fine-tuned",
    resolution_px=None,
    scales=(1.0,),
    flip=False,
    duration_s=15,
    precision=None,
    train_data="FSD50K",
    source="paper, table 7",
    confidence="high",
)


def _run(seed: int, value: float, **changes: Any) -> Record:
    data = DataInfo(name="FSD50K", version="1.0", root_name="x", digest="d", n=10231, n_expected=10231, ids_sha256="e5")
    metric = MetricValue(name="map", value=value, n=10231, ci_low=value - 0.5, ci_high=value + 0.5)
    fields: dict[str, Any] = {"run_id": f"run{seed}", "task": "fsd50k", "dataset": "FSD50K", "split": "eval"}
    fields |= {"profile": "paper", "model_size": "4b", "setting": "fine-tuned", "protocol": "audio-15s/fine-tuned"}
    fields |= {"protocol_sha256": "ab", "metrics": (metric,), "data": data, "dtype": "bfloat16", "device": "cuda"}
    fields |= {"checkpoint": CheckpointInfo(name="weights.safetensors", sha256=f"c{seed}", loaded=10)}
    fields |= {"config": {"seed": seed, "profile": {"lr": 1e-4}}, "seed": seed, "commit": "0123456", "is_dirty": False}
    fields |= {"versions": {}, "started_at": f"2024-01-3{seed % 2}T12:00:00+00:00", "duration_s": 3.5, "command": "run"}
    return compare_record(Record(**{**fields, **changes}), (TARGET,), same_weights=False)


def test_three_seeds_are_one_result_with_their_mean_and_a_test_over_them() -> None:
    runs = [_run(1, 69.4), _run(2, 69.9), _run(3, 69.2)]
    (joined,) = join_seeds(runs, (TARGET,))
    metric = joined.metrics[0]
    assert metric.value == pytest.approx(69.5)
    assert metric.ci_method == "Student's t over 3 seeds"
    assert metric.ci_low is not None
    assert metric.ci_low == pytest.approx(69.5 - 4.302653 * 0.36055513 / math.sqrt(3))
    assert [(c.target_id, c.verdict) for c in joined.comparisons] == [("A6", Verdict.WITHIN_SAMPLING_ERROR)]
    assert joined.comparisons[0].reason.startswith("mean of 3 seeds 0.2 points worse than published")
    report = check_paper(runs, (TARGET,))
    assert [(case.value, str(case.outcome)) for case in report.cases] == [(metric.value, "within sampling error")]


def test_a_mean_that_is_surely_worse_is_off_and_one_surely_better_is_said() -> None:
    worse = check_paper([_run(1, 69.20), _run(2, 69.25), _run(3, 69.22)], (TARGET,))
    assert [(str(case.outcome), worse.code) for case in worse.cases] == [("off", 0)]
    better = check_paper([_run(1, 71.20), _run(2, 71.25), _run(3, 71.22)], (TARGET,))
    assert [(str(case.outcome), better.code) for case in better.cases] == [("better", 0)]
    assert "better: fsd50k eval map" in better.to_text()
    single = check_paper([_run(1, 71.2)], (TARGET,))
    assert [str(case.outcome) for case in single.cases] == ["better"]


@pytest.mark.parametrize(
    ("changes", "num_results"),
    [
        ({}, 1),
        ({"checkpoint": CheckpointInfo(name="one-peace.pt", sha256="c1", loaded=10)}, 1),  # judged twice, newest counts
        ({"config": {"seed": 2, "profile": {"lr": 2e-4}}}, 2),
        ({"protocol_sha256": "cd"}, 2),
        ({"profile": "mini"}, 2),
        ({"checkpoint": CheckpointInfo(name="random", sha256=None, loaded=0)}, 2),
    ],
    ids=["another seed", "the same weights", "another recipe", "another protocol", "mini", "no weights"],
)
def test_only_the_seed_and_the_weights_may_differ(changes: dict[str, Any], num_results: int) -> None:
    joined = join_seeds([_run(1, 69.4), _run(2, 69.9, **changes)], (TARGET,))
    assert len(joined) == num_results
    has_mean = any("seeds" in (record.metrics[0].ci_method or "") for record in joined)
    assert has_mean == (changes == {})


def test_of_a_seed_run_twice_the_newest_counts() -> None:
    old = _run(2, 10.0, run_id="old", started_at="2023-01-30T12:00:00+00:00")
    (joined,) = join_seeds([_run(1, 69.4), old, _run(2, 69.6)], (TARGET,))
    assert joined.metrics[0].value == pytest.approx(69.5)


def test_equal_numbers_of_all_seeds_tell_nothing_of_their_spread() -> None:
    (joined,) = join_seeds([_run(1, 69.4), _run(2, 69.4)], (TARGET,))
    assert joined.metrics[0].ci_method is None
    assert "seeds" not in joined.comparisons[0].reason


def test_a_seed_that_gave_no_number_makes_the_mean_none() -> None:
    (joined,) = join_seeds([_run(1, 69.4), _run(2, math.nan)], (TARGET,))
    assert joined.comparisons[0].verdict is Verdict.OFF
    assert check_paper([_run(1, 69.4), _run(2, math.nan)], (TARGET,)).code == 3
