"""A check of recorded results: exit code, JUnit, annotations and table say the same, and only a regression fails."""

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from reports.acceptance import make_accepted
from reports.accepted import Accepted, baseline_name
from reports.actions import annotate, append_summary, is_in_actions
from reports.check import Outcome, Report, check_accepted, check_paper
from reports.junit import to_junit, write_junit
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict

ACCURACY = MetricValue(name="accuracy", value=81.0, n=200, hits=162)
MAP = MetricValue(name="map", value=70.0, n=200)
LOSS = MetricValue(name="loss", value=0.5, unit="nats", n=200, direction="lower")


def _record(task: str = "esc50", *metrics: MetricValue, **changes: Any) -> Record:
    data = DataInfo(name=task, version="mini", root_name="x", digest="d", n=200, n_expected=200, ids_sha256="e5")
    checkpoint = CheckpointInfo(name="mini.safetensors", sha256="c0ffee", loaded=10)
    fields: dict[str, Any] = {"run_id": task, "task": task, "dataset": task, "split": "all", "profile": "mini"}
    fields |= {"model_size": "mini", "setting": "zero-shot", "protocol": "audio-3s/zero-shot", "protocol_sha256": "ab"}
    fields |= {"metrics": metrics or (ACCURACY, MAP, LOSS), "checkpoint": checkpoint, "data": data, "config": {}}
    fields |= {"dtype": "float32", "device": "cpu", "seed": 0, "commit": "0123456789", "is_dirty": False}
    fields |= {"versions": {}, "started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": "run"}
    return Record(**{**fields, **changes})


def _baselines(*records: Record) -> dict[str, Accepted]:
    made = (make_accepted(r, reason="first", accepted_at="2024-02-01T12:00:00+00:00") for r in records)
    return {baseline_name(accepted): accepted for accepted in made}


def _perturbed(metric: MetricValue, points: float) -> Record:
    moved = metric.model_copy(update={"value": metric.value + points})
    return _record("esc50", *(moved if m.name == metric.name else m for m in (ACCURACY, MAP, LOSS)))


def _junit_counts(report: Report) -> tuple[int, int, int]:
    root = ET.fromstring(to_junit(report))
    cases, failures, skipped = (root.findall(f".//{tag}") for tag in ("testcase", "failure", "skipped"))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == (str(len(cases)), str(len(failures)), "0")
    assert root.get("skipped") == str(len(skipped))
    assert sum(int(suite.get("tests", 0)) for suite in root) == len(cases)
    return len(cases), len(failures), len(skipped)


ACCEPTED = _baselines(_record(), _record("fsd50k"))
FEWER = _record().data.model_copy(update={"n": 150, "ids_sha256": "ff"})


@pytest.mark.parametrize(
    ("record", "code", "failures", "skipped", "annotations"),
    [
        (_record(), 0, 0, 0, []),
        (_perturbed(ACCURACY, -0.5), 1, 1, 0, ["error"]),  # one sample of 200
        (_perturbed(ACCURACY, -0.24), 0, 0, 0, []),  # less than half of one
        (_perturbed(ACCURACY, +0.5), 0, 0, 0, ["notice"]),
        (_perturbed(MAP, -0.06), 1, 1, 0, ["error"]),
        (_perturbed(MAP, -0.04), 0, 0, 0, []),
        (_perturbed(MAP, math.nan), 1, 1, 0, ["error"]),
        (_perturbed(MAP, math.inf), 1, 1, 0, ["error"]),
        (_perturbed(LOSS, +0.06), 1, 1, 0, ["error"]),  # lower is better
        (_perturbed(LOSS, -0.06), 0, 0, 0, ["notice"]),
        (_record(data=FEWER), 3, 0, 3, ["warning"] * 3),
        (_record(protocol_sha256="cd"), 3, 0, 3, ["warning"] * 3),
        (_record("esc50", ACCURACY, MAP), 3, 0, 1, ["warning"]),  # a metric is gone
        (_record("esc50", ACCURACY, MAP, LOSS, MetricValue(name="new", value=1.0)), 0, 0, 1, []),
    ],
)
def test_only_a_number_that_got_worse_fails(
    record: Record, code: int, failures: int, skipped: int, annotations: list[str]
) -> None:
    report = check_accepted([record, _record("fsd50k")], ACCEPTED)
    assert report.code == code
    assert _junit_counts(report) == (len(report.cases), failures, skipped)
    assert [line.split()[0] for line in annotate(report).splitlines()] == [f"::{level}" for level in annotations]
    assert [str(case.outcome) for case in report.cases if case.task == "fsd50k"] == ["match"] * 3


def test_a_regression_is_named_everywhere_with_its_numbers() -> None:
    report = check_accepted([_perturbed(MAP, -1.25), _record("fsd50k")], ACCEPTED)
    failure = ET.fromstring(to_junit(report)).find(".//testcase[@name='map']/failure")
    assert failure is not None
    said = "1.25 points worse than accepted, beyond the tolerance of 0.05 points"
    assert failure.get("message") == f"esc50 all map: {said}"
    assert failure.text == "ours 68.75, accepted 70.00, tolerance 0.05 points"
    assert annotate(report) == f"::error title=regression%3A esc50 all map::{said}\n"
    lines = report.to_text().splitlines()
    assert lines[3].split() == ["esc50", "all", "map", "68.75", "70.00", "-1.25", "0.05", "mini", "regression"]
    assert lines[-3:-1] == [
        f"regression: esc50 all map: {said}",
        "6 metrics against the accepted numbers: 5 match, 1 regression",
    ]
    assert "run.py accept --reason TEXT" in lines[-1]
    assert max(map(len, lines[:8])) <= 120
    assert f"- **regression**: esc50 all map: {said}" in report.to_markdown()


def test_a_number_that_is_no_per_cent_is_told_in_its_own_unit() -> None:
    report = check_accepted([_perturbed(LOSS, +0.06), _record("fsd50k")], ACCEPTED)
    said = "0.06 nats worse than accepted, beyond the tolerance of 0.0005 nats"
    assert f"regression: esc50 all loss: {said}" in report.to_text()
    failure = ET.fromstring(to_junit(report)).find(".//failure")
    assert failure is not None
    assert failure.text == "ours 0.56, accepted 0.5, tolerance 0.0005 nats"
    row = next(line.split() for line in report.to_text().splitlines() if "loss" in line)
    assert row == ["esc50", "all", "loss", "0.56", "0.5", "+0.06", "0.0005", "mini", "regression"]


def test_a_regression_outweighs_what_could_not_be_compared() -> None:
    report = check_accepted([_perturbed(MAP, -1), _record("fsd50k", data=FEWER)], ACCEPTED)
    assert (report.code, _junit_counts(report)) == (1, (6, 1, 3))


def test_nothing_accepted_is_skipped_and_no_failure() -> None:
    report = check_accepted([_record()], {})
    assert {case.outcome for case in report.cases} == {Outcome.NO_REFERENCE}
    assert (report.code, _junit_counts(report), annotate(report)) == (0, (3, 0, 3), "")


def test_an_accepted_number_without_a_run_is_skipped_and_said() -> None:
    report = check_accepted([_record()], ACCEPTED)
    assert [str(case.outcome) for case in report.cases] == ["match"] * 3 + ["not run"] * 3
    assert (report.code, _junit_counts(report)) == (0, (6, 0, 3))
    assert "not run: fsd50k all map: accepted, and no record of a run" in report.to_text()


def test_the_newest_record_is_the_one_that_counts() -> None:
    old = _perturbed(MAP, -5).model_copy(update={"run_id": "old", "started_at": "2024-01-01T12:00:00+00:00"})
    assert check_accepted([_record(), old], _baselines(_record())).code == 0


def test_the_tolerance_is_the_accepted_ones() -> None:
    lenient = make_accepted(_record(), reason="x", accepted_at="2024-02-01T12:00:00+00:00", tolerance=1.0)
    strict = make_accepted(_record(), reason="x", accepted_at="2024-02-01T12:00:00+00:00", tolerance=0.0)
    for accepted, points, code in ((lenient, -1.0, 0), (lenient, -1.1, 1), (strict, -1e-12, 1), (strict, 0.0, 0)):
        assert check_accepted([_perturbed(MAP, points)], {baseline_name(accepted): accepted}).code == code


def _beside_paper(verdict: Verdict, gap: float | None, profile: Any = "paper", **changes: Any) -> Record:
    fields: dict[str, Any] = {"target_id": "A6", "metric": "map", "published": 69.7, "printed": "69.7", "source": "T7"}
    fields |= {"gap": gap, "verdict": verdict, "reason": "because", "profile": profile}
    comparisons = (Comparison(**fields), Comparison(**{**fields, "target_id": "A6b"}))
    return _record("fsd50k", MAP, ACCURACY, profile=profile, comparisons=comparisons, **changes)


@pytest.mark.parametrize(
    ("record", "outcome", "code", "skipped", "annotations"),
    [
        (_beside_paper(Verdict.MATCH, 0.03), "match", 0, 1, 0),
        (_beside_paper(Verdict.WITHIN_SAMPLING_ERROR, 0.3), "within sampling error", 0, 1, 0),
        (_beside_paper(Verdict.OFF, -8.6), "off", 0, 1, 2),  # a finding, no failure
        (_beside_paper(Verdict.OFF, None), "not comparable", 3, 3, 2),
        (_beside_paper(Verdict.NOT_COMPARABLE, None), "not comparable", 3, 3, 2),
        (_beside_paper(Verdict.NOT_COMPARABLE, None, "mini"), "not comparable", 0, 3, 0),
    ],
)
def test_the_stored_comparisons_with_the_paper_are_laid_out(
    record: Record, outcome: str, code: int, skipped: int, annotations: int
) -> None:
    report = check_paper([record])
    assert [str(case.outcome) for case in report.cases] == [outcome, outcome, "no reference"]
    assert (report.code, _junit_counts(report)) == (code, (3, 0, skipped))
    assert annotate(report).count("::warning") == annotations
    names = [case.get("name") for case in ET.fromstring(to_junit(report)).iter("testcase")]
    assert names == ["map (A6)", "map (A6b)", "accuracy"]
    assert report.to_line().startswith("3 metrics against the paper: ")


def test_the_xml_holds_whatever_a_record_says(tmp_path: Path) -> None:
    record = _record(protocol="a<b>&\x00\"'\x1b", task="esc\x07 50")
    report = check_accepted([record], _baselines(record.model_copy(update={"protocol": "é"})))
    write_junit(report, tmp_path / "new" / "junit.xml")
    root = ET.parse(tmp_path / "new" / "junit.xml").getroot()
    assert root.find(".//testcase[@name='map']") is not None


def test_an_annotation_stays_on_its_line() -> None:
    report = check_accepted([_record(setting="zero,shot\n50 %")], ACCEPTED)
    assert annotate(report) == ""
    moved = _record(protocol="x\ny/zero-shot")
    lines = annotate(check_accepted([moved], ACCEPTED)).splitlines()
    assert len(lines) == 3
    assert "\\n" in lines[0] or "%0A" in lines[0]


def test_the_page_of_a_job_is_added_to(tmp_path: Path) -> None:
    report = check_accepted([_record()], ACCEPTED)
    page = tmp_path / "summary.md"
    page.write_text("before\n", encoding="utf-8")
    append_summary(report, {"GITHUB_STEP_SUMMARY": str(page)})
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n### 6 metrics against the accepted numbers: 3 match, 3 not run\n\n| task | split |")
    append_summary(report, {})
    assert [is_in_actions(env) for env in ({}, {"GITHUB_ACTIONS": "true"}, {"GITHUB_ACTIONS": "false"})] == [
        False,
        True,
        False,
    ]
