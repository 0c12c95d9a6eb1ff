"""The detection task from the command line, end to end, on the mini profile."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reports.record import Record, read_record

pytestmark = pytest.mark.slow

SHORT = [
    *("--set", "training.iterations=9"),
    *("--set", "training.warmup_iterations=2"),
    *("--set", "training.milestones=[6]"),
    *("--set", "training.state_interval=3"),
    *("--limit", "4"),
]


@pytest.fixture
def start(root: Path, tmp_path: Path) -> Any:
    """Start the command in a folder of its own."""

    def run(*arguments: str, output: str = "runs") -> subprocess.Popen[str]:
        command = [sys.executable, str(root / "downstream" / "run.py"), "coco_det", *arguments]
        places = ["-o", str(tmp_path / output), "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        pipe = subprocess.PIPE
        return subprocess.Popen([*command, *places], cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)

    return run


@pytest.fixture
def finish(start: Any, tmp_path: Path) -> Any:
    """Run the command to its end: its record, and what it wrote to either stream."""

    def run(*arguments: str, output: str = "runs") -> tuple[Record, str, str]:
        process = start(*arguments, output=output)
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
        return read_record(folder_of(tmp_path, output)), stdout, stderr

    return run


def folder_of(tmp_path: Path, output: str = "runs") -> Path:
    return sorted((tmp_path / output).iterdir())[-1]


def values(record: Record) -> str:
    return json.dumps({metric.name: metric.value for metric in record.metrics})  # NaN equals NaN as text


def test_the_mini_recipe_finds_things(finish: Any, tmp_path: Path) -> None:
    record, stdout, stderr = finish()
    found = {metric.name: metric.value for metric in record.metrics}
    assert found["box_ap"] >= 35
    assert found["mask_ap"] >= 30
    assert record.data.n == record.data.n_expected == 64
    assert (record.checkpoint.loaded, record.checkpoint.missing, record.checkpoint.unexpected) == (96, 0, 0)
    assert {comparison.verdict for comparison in record.comparisons} == {"not comparable"}
    for name in ("config.yaml", "record.json", "predictions.jsonl", "log.jsonl", "detector.safetensors"):
        assert (folder_of(tmp_path) / name).is_file()
    assert stdout.strip().endswith("python reports/run.py table")
    spoken = re.compile(r"COCO|  MINI|drawing|\d+ pictures|loaded mini|fine-tuning \d|predicting \d|recording")
    assert [line for line in stderr.splitlines() if not spoken.match(line)] == []


def test_one_seed_gives_one_number_and_a_kill_does_not_change_it(start: Any, finish: Any, tmp_path: Path) -> None:
    first, _, _ = finish(*SHORT, output="first")
    process = start(*SHORT, output="killed")
    deadline = time.monotonic() + 240
    while not list((tmp_path / "killed").glob("*/training_state.safetensors")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder_of(tmp_path, "killed") / "record.json").exists()

    resumed, _, _ = finish(*SHORT, "--resume", output="killed")
    assert values(resumed) == values(first)
    assert resumed.checkpoint.sha256 == first.checkpoint.sha256
    log = (folder_of(tmp_path, "killed") / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["iteration"] == 9
    again, _, stderr = finish(*SHORT, "--resume", output="killed")
    assert values(again) == values(first)
    assert "is finished; its result" in stderr


def test_a_checkpoint_of_a_run_gives_the_number_of_the_run(finish: Any, tmp_path: Path) -> None:
    trained, _, _ = finish(*SHORT, output="trained")
    checkpoint = str(folder_of(tmp_path, "trained") / "detector.safetensors")
    loaded, _, stderr = finish("--limit", "4", "--checkpoint", checkpoint, output="loaded")
    assert loaded.profile == "mini"
    assert values(loaded) == values(trained)
    assert loaded.checkpoint.sha256 == trained.checkpoint.sha256
    assert "0 missing, 0 unexpected" in stderr
