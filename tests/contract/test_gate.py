"""The gate over every accepted result of the project: one moved number fails alone, missing samples fail nothing."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from reports.accepted import ACCEPTED_DIR, Accepted, AcceptedMetric, read_all_accepted
from reports.cli import main
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, write_record

ACCEPTED = read_all_accepted(ACCEPTED_DIR)
NUM_CASES = sum(len(accepted.metrics) for accepted in ACCEPTED.values())


def _as_run(accepted: Accepted) -> Record:
    """Give the run that was accepted."""
    data, fields = accepted.data, ("name", "value", "unit", "direction", "n", "hits", "ci_low", "ci_high")
    same = ("run_id", "task", "dataset", "split", "profile", "model_size", "setting", "protocol", "protocol_sha256")
    return Record(
        **{name: getattr(accepted, name) for name in same},
        metrics=tuple(MetricValue(**{name: getattr(m, name) for name in fields}) for m in accepted.metrics),
        checkpoint=CheckpointInfo(name=accepted.checkpoint_name, sha256=accepted.checkpoint_sha256, loaded=1),
        data=DataInfo(
            name=accepted.dataset,
            version=data.version,
            root_name="x",
            digest="d",
            n=data.n,
            n_expected=data.n_expected,
            ids_sha256=data.ids_sha256,
        ),
        config={},
        dtype="float32",
        device="cpu",
        seed=accepted.seed,
        commit="0123456789",
        is_dirty=False,
        versions={},
        started_at="2024-01-31T12:00:00+00:00",
        duration_s=1.0,
        command="run",
    )


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run of every accepted result, with the accepted numbers."""
    for name, accepted in ACCEPTED.items():
        write_record(_as_run(accepted), tmp_path / "runs" / name)
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a job of GitHub Actions; gives the page that it shows."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))
    return tmp_path / "page.md"


def _check(runs: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, ET.Element, list[str], str]:
    """Give exit code, JUnit, annotations and all that was said."""
    junit = runs.parent / "junit.xml"
    code = main(["check", "--records", str(runs), "--junit", str(junit)])
    out = capsys.readouterr().out
    return code, ET.parse(junit).getroot(), re.findall("^::.*$", out, flags=re.MULTILINE), out


def _change(runs: Path, name: str, **changes: object) -> None:
    """Change fields of a stored record; `value` is its first metric's."""
    path = runs / name / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    if "value" in changes:
        record["metrics"][0]["value"] = changes.pop("value")
    record["data"] |= changes
    path.write_text(json.dumps(record), encoding="utf-8")


def _moved(metric: AcceptedMetric, points: float) -> float:
    """Move a number to its better side, or to its worse one by fewer than none."""
    return metric.value + points if metric.direction == "higher" else metric.value - points


def test_runs_with_the_accepted_numbers_pass_whole(runs: Path, capsys: pytest.CaptureFixture[str], page: Path) -> None:
    code, junit, annotations, _ = _check(runs, capsys)
    assert (code, annotations) == (0, [])
    counts = [len(junit.findall(f".//{tag}")) for tag in ("testcase", "failure", "skipped")]
    assert counts == [NUM_CASES, 0, 0]
    assert f"### {NUM_CASES} metrics against the accepted numbers: {NUM_CASES} match" in page.read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("name", ACCEPTED)
def test_one_moved_number_is_one_failure_among_all_cases_and_one_annotation(
    name: str, runs: Path, capsys: pytest.CaptureFixture[str], page: Path
) -> None:
    metric = ACCEPTED[name].metrics[0]
    _change(runs, name, value=_moved(metric, -metric.tolerance * (1 + 1e-6) - 1e-9))
    code, junit, annotations, out = _check(runs, capsys)
    assert code == 1
    assert [len(junit.findall(f".//{tag}")) for tag in ("testcase", "failure", "skipped")] == [NUM_CASES, 1, 0]
    assert junit.find(f"testsuite[@name='{name}']/testcase[@name='{metric.name}']/failure") is not None
    assert [line.split()[0] for line in annotations] == ["::error"]
    assert f"{NUM_CASES - 1} match, 1 regression" in out  # the others are reported all the same
    assert page.read_text(encoding="utf-8").count("- **regression**") == 1


def test_a_better_number_is_said_and_no_failure(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, accepted = next(iter(ACCEPTED.items()))
    _change(runs, name, value=_moved(accepted.metrics[0], 5))
    code, junit, annotations, out = _check(runs, capsys)
    assert (code, len(junit.findall(".//failure"))) == (0, 0)
    assert [line.split()[0] for line in annotations] == ["::notice"]
    assert "5 points better than accepted" in out


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_twentieth_of_the_samples_dropped_exits_3_and_is_skipped(
    name: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = ACCEPTED[name]
    _change(runs, name, n=int(accepted.data.n * 0.95), ids_sha256="other")
    code, junit, annotations, out = _check(runs, capsys)
    assert code == 3
    counts = [len(junit.findall(f".//{tag}")) for tag in ("testcase", "failure", "skipped")]
    assert counts == [NUM_CASES, 0, len(accepted.metrics)]
    assert {line.split()[0] for line in annotations} == {"::warning"}
    assert f"data n {int(accepted.data.n * 0.95)} against {accepted.data.n}" in out


def test_the_first_being_off_keeps_nothing_from_being_reported(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, accepted in ACCEPTED.items():
        _change(runs, name, value=_moved(accepted.metrics[0], -50))
    code, junit, annotations, _ = _check(runs, capsys)
    assert code == 1
    assert len(junit.findall(".//failure")) == len(annotations) == len(ACCEPTED)
    assert len(junit.findall(".//testcase")) == NUM_CASES
