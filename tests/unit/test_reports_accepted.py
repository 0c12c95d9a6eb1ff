"""Accepted results: what may be accepted, what is kept of what was, and that nothing moves without a reason."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from reports.acceptance import accept_records, make_accepted
from reports.accepted import (
    Accepted,
    baseline_name,
    default_tolerance,
    newest_records,
    read_accepted,
    read_all_accepted,
    write_accepted,
)
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record

NAME = "esc50-mini-mini-zero-shot-all"
WHEN, LATER = "2024-02-01T12:00:00+00:00", "2024-03-01T12:00:00+00:00"


def _share(hits: int, n: int = 170, **changes: Any) -> MetricValue:
    fields = {"name": "accuracy", "value": 100 * hits / n, "n": n, "hits": hits, "ci_low": 70.0, "ci_high": 90.0}
    return MetricValue(**{**fields, **changes})


def _record(hits: int = 138, **changes: Any) -> Record:
    checkpoint = CheckpointInfo(name="mini.safetensors", sha256="c0ffee", loaded=10)
    data = DataInfo(
        name="ESC-50", version="mini", root_name="esc", digest="d", n=170, n_expected=170, ids_sha256="e5" * 32
    )
    fields: dict[str, Any] = {"run_id": "r1", "task": "esc50", "dataset": "ESC-50", "split": "all", "profile": "mini"}
    fields |= {"model_size": "mini", "setting": "zero-shot", "protocol": "audio-3s/zero-shot", "protocol_sha256": "ab"}
    fields |= {"metrics": (_share(hits),), "checkpoint": checkpoint, "data": data, "config": {}, "dtype": "float32"}
    fields |= {"device": "cpu", "seed": 0, "commit": "0123456789", "is_dirty": False, "versions": {}}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": "run"}
    return Record(**{**fields, **changes})


def _accept(*records: Record, to: Path, reason: str = "first numbers", at: str = WHEN, **options: Any) -> str:
    return accept_records(records, to, reason=reason, accepted_at=at, **options)


def test_what_is_written_is_read_back_and_no_litter_stays(tmp_path: Path) -> None:
    accepted = make_accepted(_record(), reason="first", accepted_at=WHEN)
    path = write_accepted(accepted, tmp_path / "accepted")
    assert path == tmp_path / "accepted" / f"{NAME}.json"
    assert read_accepted(path) == accepted
    assert read_all_accepted(tmp_path / "accepted") == {NAME: accepted}
    assert list(path.parent.iterdir()) == [path]


def test_no_folder_holds_no_accepted_result(tmp_path: Path) -> None:
    assert read_all_accepted(tmp_path / "none") == {}
    with pytest.raises(FileNotFoundError, match=r"run\.py accept"):
        read_accepted(tmp_path / "none.json")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _accept(_record(), to=tmp_path)
    before = (tmp_path / f"{NAME}.json").read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        _accept(_record(140), to=tmp_path, reason="more")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reasn": "x"}, "unknown key 'reasn'. Did you mean 'reason'?"),
        ({"schema_version": 2}, "schema version 2, expected 1"),
        ({"metrics": []}, "'metrics'"),
        ({"reason": " "}, "'reason'"),
        ({"split": "test"}, "holds 'esc50-mini-mini-zero-shot-test'"),
    ],
)
def test_a_file_that_is_no_accepted_result_is_refused_in_one_line(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = write_accepted(make_accepted(_record(), reason="first", accepted_at=WHEN), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"^esc50-mini") as caught:
        read_accepted(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [("metrics", 0), ("data",)])
def test_an_unknown_key_further_in_is_refused_too(place: tuple[Any, ...], tmp_path: Path) -> None:
    path = write_accepted(make_accepted(_record(), reason="first", accepted_at=WHEN), tmp_path)
    raw = json.loads(path.read_text())
    inner = raw
    for key in place:
        inner = inner[key]
    inner["extra"] = 1
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(ValueError, match="extra"):
        read_accepted(path)


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON"):
        Accepted.from_json("{")


@pytest.mark.parametrize(
    ("metric", "tolerance"),
    [
        (_share(138), 50 / 170),
        (_share(1836, 2000), 0.025),
        (_share(138, value=81.0), 0.05),  # hits of something else than the value
        (_share(138, unit="points"), 0.05),
        (MetricValue(name="loss", value=0.653, unit="nats", n=50_000), 0.000653),  # points say nothing of nats
        (_share(138).model_copy(update={"hits": None}), 0.05),
        (MetricValue(name="map", value=69.7, n=10231), 0.05),
        (MetricValue(name="empty", value=0.0, n=0, hits=0), 0.05),
    ],
)
def test_a_share_may_move_by_half_a_sample_and_another_number_by_what_its_unit_allows(
    metric: MetricValue, tolerance: float
) -> None:
    assert default_tolerance(metric) == pytest.approx(tolerance)


def test_single_and_multi_scale_of_one_split_are_two_results() -> None:
    names = [baseline_name(_record(protocol=f"slide-96-64/{variant}")) for variant in ("ss", "ms")]
    assert names == [f"{NAME}-ss", f"{NAME}-ms"]
    assert baseline_name(_record(protocol="plain")) == NAME


def test_a_name_is_a_file_name_whatever_a_record_says() -> None:
    assert baseline_name(_record(task="../../esc 50", split="a/b")) == "esc-50-mini-mini-zero-shot-a-b"


def test_the_newest_record_counts_whatever_its_protocol() -> None:
    new = _record(run_id="new", protocol="audio-5s/zero-shot", started_at="2024-02-02T12:00:00+00:00")
    assert newest_records([new, _record()]) == {NAME: new}


def test_first_acceptance_says_so(tmp_path: Path) -> None:
    assert _accept(_record(), to=tmp_path) == (f"{NAME}: first accepted\n  esc50 all accuracy 81.18, tolerance 0.294\n")
    accepted = read_all_accepted(tmp_path)[NAME]
    assert (accepted.reason, accepted.accepted_at, accepted.history) == ("first numbers", WHEN, ())
    assert (accepted.commit, accepted.checkpoint_sha256, accepted.data.n) == ("0123456789", "c0ffee", 170)


def test_a_moved_number_is_told_and_the_old_one_kept_with_its_reason(tmp_path: Path) -> None:
    _accept(_record(), to=tmp_path)
    told = _accept(_record(140, commit="fedcba"), to=tmp_path, reason="  other\n mean ", at=LATER)
    assert told == f"{NAME}: accepted\n  esc50 all accuracy 81.18 -> 82.35, +1.18, tolerance 0.294\n"
    accepted = read_all_accepted(tmp_path)[NAME]
    assert (accepted.reason, accepted.commit) == ("other mean", "fedcba")
    assert [entry.model_dump() for entry in accepted.history] == [
        {"values": {"accuracy": 13800 / 170}, "commit": "0123456789", "reason": "first numbers", "accepted_at": WHEN}
    ]
    _accept(_record(139), to=tmp_path, reason="third", at=LATER)
    history = read_all_accepted(tmp_path)[NAME].history
    assert [entry.reason for entry in history] == ["first numbers", "other mean"]


@pytest.mark.parametrize("changes", [{}, {"metrics": (_share(138, ci_low=math.nan, ci_high=math.nan),)}])
def test_what_did_not_move_is_left_alone(changes: dict[str, Any], tmp_path: Path) -> None:
    _accept(_record(**changes), to=tmp_path)
    before = (tmp_path / f"{NAME}.json").read_bytes()
    told = _accept(_record(run_id="r2", commit="fedcba", **changes), to=tmp_path, reason="again", at=LATER)
    assert told.splitlines()[0] == f"{NAME}: as before, left alone"
    assert (tmp_path / f"{NAME}.json").read_bytes() == before


def test_moved_conditions_and_metrics_are_told(tmp_path: Path) -> None:
    _accept(_record(), to=tmp_path)
    data = _record().data.model_copy(update={"n": 34, "n_expected": 34, "ids_sha256": "f0" * 32})
    metrics = (MetricValue(name="map", value=50.001, n=34),)
    told = _accept(_record(data=data, metrics=metrics, seed=1), to=tmp_path, reason="smaller").splitlines()
    assert told[1:] == [
        "  seed 0 -> 1",
        "  data n 170 -> 34",
        "  data ids_sha256 e5e5e5e5 -> f0f0f0f0",
        "  esc50 all map 50.00, tolerance 0.05",
        "  esc50 all accuracy 81.18 -> no longer measured",
    ]
    told = _accept(
        _record(data=data, metrics=(MetricValue(name="map", value=50.002, n=34),), seed=1), to=tmp_path
    ).splitlines()
    assert told[1] == "  esc50 all map 50.00 -> 50.00, +0.001, tolerance 0.05"


def test_a_tolerance_stays_until_it_is_named_or_the_count_differs(tmp_path: Path) -> None:
    def tolerance() -> float:
        return read_all_accepted(tmp_path)[NAME].metrics[0].tolerance

    _accept(_record(), to=tmp_path, tolerance=2.0)
    _accept(_record(140), to=tmp_path)
    assert tolerance() == 2.0
    _accept(_record(140), to=tmp_path, tolerance=0.0)
    assert tolerance() == 0.0
    data = _record().data.model_copy(update={"n": 34, "n_expected": 34})
    _accept(_record(data=data, metrics=(_share(30, 34),)), to=tmp_path)
    assert tolerance() == pytest.approx(50 / 34)


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({}, {"reason": " \n"}, "no reason"),
        ({}, {"tolerance": -1.0}, "a tolerance of -1.0 points, expected 0 or more"),
        ({}, {"tolerance": math.nan}, "a tolerance of nan points"),
        ({"metrics": ()}, {}, "has no metric"),
        ({"metrics": (_share(138, value=math.nan),)}, {}, "accuracy is nan, expected a number"),
        ({"metrics": (_share(138, value=math.inf),)}, {}, "accuracy is inf"),
        ({"data": _record().data.model_copy(update={"n": 20})}, {}, "over 20 samples, expected the split's 170"),
        ({"is_dirty": True}, {}, "differed from commit 0123456. Commit and run again, or add --allow-dirty"),
        ({"commit": "unknown"}, {}, "code of no known commit"),
    ],
)
def test_what_cannot_stand_for_a_task_is_refused_and_nothing_is_written(
    changes: dict[str, Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"expected|Commit and run") as caught:
        _accept(_record(task="other"), _record(**changes), to=tmp_path, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_of_one_result_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="runs r1 and r2 are both esc50-mini"):
        _accept(_record(), _record(run_id="r2"), to=tmp_path)


def test_uncommitted_code_is_accepted_on_request_and_marked(tmp_path: Path) -> None:
    _accept(_record(is_dirty=True), to=tmp_path, allow_dirty=True)
    assert read_all_accepted(tmp_path)[NAME].commit == "0123456789-dirty"


def test_a_split_of_unknown_size_can_be_accepted(tmp_path: Path) -> None:
    data = _record().data.model_copy(update={"n_expected": None})
    assert "first accepted" in _accept(_record(data=data), to=tmp_path)


def test_every_accepted_result_of_the_project_is_whole(root: Path) -> None:
    read_all_accepted(root / "reports" / "accepted")
