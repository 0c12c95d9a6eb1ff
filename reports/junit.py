"""A check as JUnit XML: one case a metric; a regression fails, what could not be compared is skipped."""

import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree as ET

from reports.check import SKIPPED, Case, Outcome, Report
from reports.verdict import unit_words

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> str:
    """Write a check as JUnit XML, a suite for each result."""
    root = ET.Element("testsuites", {"name": f"against {report.against}", **_counts(report.cases)})
    for suite, group in groupby(report.cases, key=lambda case: case.suite):
        cases = list(group)
        node = ET.SubElement(root, "testsuite", {"name": _clean(suite), **_counts(cases)})
        for case in cases:
            _add_case(node, case)
    ET.indent(root)
    return f"{ET.tostring(root, encoding='unicode')}\n"


def write_junit(report: Report, path: Path) -> None:
    """Write a check's XML to a file; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{to_junit(report)}', encoding="utf-8")


def _add_case(suite: ET.Element, case: Case) -> None:
    name = f"{case.metric} ({case.target_id})" if case.target_id else case.metric
    node = ET.SubElement(suite, "testcase", classname=_clean(case.suite), name=_clean(name))
    message = _clean(f"{case.title}: {case.reason}")
    if case.outcome is Outcome.REGRESSION:
        failure = ET.SubElement(node, "failure", type=str(case.outcome), message=message)
        failure.text = _clean(
            f"ours {case.value}, accepted {case.other}, tolerance {case.tolerance} {unit_words(case.unit)}"
        )
    elif case.outcome in SKIPPED:
        ET.SubElement(node, "skipped", message=_clean(f"{case.outcome}: {message}"))
    else:
        ET.SubElement(node, "system-out").text = _clean(f"{case.outcome}: {message}")


def _counts(cases: Iterable[Case]) -> dict[str, str]:
    outcomes = [case.outcome for case in cases]
    return {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count(Outcome.REGRESSION)),
        "errors": "0",
        "skipped": str(sum(outcome in SKIPPED for outcome in outcomes)),
    }


def _clean(text: str) -> str:
    """Leave out the characters that XML cannot hold."""
    return NOT_XML.sub("", text)
