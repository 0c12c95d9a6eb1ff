"""What the README shows runs as printed."""

import re
import shlex
import subprocess
import sys

import pytest

from downstream.cli import build_parser as build_downstream_parser
from pretrain.cli import build_parser as build_pretrain_parser


def blocks(root, language: str) -> list[str]:
    text = (root / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_every_python_example_runs_as_printed(root):
    examples = blocks(root, "python")
    assert examples
    for example in examples:
        done = subprocess.run([sys.executable, "-c", example], cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


@pytest.mark.parametrize(
    ("program", "build_parser"),
    [("downstream/run.py", build_downstream_parser), ("pretrain/run.py", build_pretrain_parser)],
)
def test_every_command_is_one_that_the_command_line_takes(root, program, build_parser):
    lines = [shlex.split(line, comments=True) for block in blocks(root, "") for line in block.splitlines()]
    commands = [words[2:] for words in lines if words[:2] == ["python", program]]
    assert len(commands) >= 4
    for words in commands:
        build_parser().parse_args(words)


@pytest.mark.parametrize(
    "path", ["models", "pretrain", "downstream", "reports", "miniworld", "tests", "CONTRIBUTING.md"]
)
def test_what_the_readme_points_to_exists(root, path):
    assert path in (root / "README.md").read_text(encoding="utf-8")
    assert (root / path).exists()


def test_every_make_target_that_is_named_exists(root):
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"`make ([a-z-]+)", (root / name).read_text(encoding="utf-8")):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
