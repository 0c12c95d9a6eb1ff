"""The workflows: they parse, may only read, and call commands that exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

import downstream.cli
import reports.cli
from downstream.config import list_tasks

FOLDER = Path(__file__).resolve().parents[2] / ".github" / "workflows"
PARSERS = {"reports/run.py": reports.cli.build_parser, "downstream/run.py": downstream.cli.build_parser}


def _read(path: Path) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _commands(path: Path) -> list[str]:
    """Give every command of ours, with an example in the place of each expression."""
    steps = [step for job in _read(path)["jobs"].values() for step in job["steps"]]
    lines = [line for step in steps if "run" in step for line in step["run"].splitlines()]
    filled = [re.sub(r"\$\{\{ *(.*?) *\}\}", _fill, line) for line in lines]
    return [found.group(1) for line in filled if (found := re.search(r"\.venv/bin/python (\S+/run\.py [^>|&]*)", line))]


def _fill(expression: re.Match[str]) -> str:
    examples = {"matrix.option": "--pretrained", "matrix.task": "esc50", "matrix.weights": "one-peace.pt"}
    return examples.get(expression.group(1), "--setting zero-shot")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_calls_what_there_is(path: Path) -> None:
    assert _read(path)["permissions"] == {"contents": "read"}
    for command in _commands(path):
        script, *arguments = shlex.split(command)
        PARSERS[script]().parse_args(arguments)


def test_the_regression_is_checked_even_when_a_task_failed() -> None:
    steps = _read(FOLDER / "regression.yml")["jobs"]["mini"]["steps"]
    (check,) = [step for step in steps if "run.py check" in step.get("run", "")]
    assert check["if"] == "${{ !cancelled() }}"
    assert "--junit runs/junit.xml" in check["run"]


def test_the_template_for_a_gpu_sleeps_until_somebody_names_a_runner_and_names_tasks_that_exist() -> None:
    (job,) = _read(FOLDER / "paper.yml")["jobs"].values()
    assert job["if"] == "${{ vars.ONEPEACE_RUNNER != '' }}"
    assert job["strategy"]["fail-fast"] is False
    assert {entry["task"] for entry in job["strategy"]["matrix"]["include"]} <= set(list_tasks())
    assert [command for command in _commands(FOLDER / "paper.yml") if "--against paper" in command]
