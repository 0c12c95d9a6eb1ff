"""A check in the words of GitHub Actions: annotations, and the page that a job shows."""

from collections.abc import Mapping
from pathlib import Path

from reports.check import Case, Outcome, Report

LEVELS = {
    Outcome.REGRESSION: "error",
    Outcome.NOT_COMPARABLE: "warning",
    Outcome.OFF: "warning",
    Outcome.BETTER: "notice",
}


def is_in_actions(environment: Mapping[str, str]) -> bool:
    """Whether this process runs in a job of GitHub Actions."""
    return environment.get("GITHUB_ACTIONS") == "true"


def annotate(report: Report) -> str:
    """Write one annotation for each case that somebody should look at."""
    return "".join(_annotation(case) for case in report.cases if case.outcome in LEVELS and not case.is_expected)


def append_summary(report: Report, environment: Mapping[str, str]) -> None:
    """Add the check to the job's page; nothing where the job has none."""
    path = environment.get("GITHUB_STEP_SUMMARY")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(report.to_markdown())


def _annotation(case: Case) -> str:
    title = _escape(f"{case.outcome}: {case.title}").replace(":", "%3A").replace(",", "%2C")
    return f"::{LEVELS[case.outcome]} title={title}::{_escape(case.reason)}\n"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
