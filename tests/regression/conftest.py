"""A place to start the command of the tasks from, and to look at what it leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reports.record import Record, read_record

TRAINING = "settings.fine-tuned.training"
WAIT_S = 120

SEVERAL = """
import json, sys
codes = []
for arguments in json.loads(sys.argv.pop()):
    codes.append(main(arguments))
    print("code", codes[-1], flush=True)
sys.exit(max(codes))
"""
SLOW_ENCODING = """
import time
from downstream.engines.plain import encode
encode.WRITE_INTERVAL_S = 0.0
forward = encode._Run._forward
def slow(self, passes):
    time.sleep(0.3)
    return forward(self, passes)
encode._Run._forward = slow
"""
SLOW_TRAINING = """
import time
from downstream.engines.plain import fit
run_step = fit._Trainer.run_step
def slow(self, step, *arguments, **options):
    time.sleep(0.4)
    return run_step(self, step, *arguments, **options)
fit._Trainer.run_step = slow
"""


def tiny(*, steps: int, batch: int = 8, micro: int = 8, interval: int = 100, **others: object) -> list[str]:
    """Fine-tune the smallest model for so many steps; `others` are keys of the recipe."""
    values = {
        "size": "tiny",
        f"{TRAINING}.steps": steps,
        f"{TRAINING}.batch_size": batch,
        f"{TRAINING}.micro_batch_size": micro,
        f"{TRAINING}.state_interval": interval,
        **{f"{TRAINING}.{key}": value for key, value in others.items()},
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


@dataclass
class Bench:
    """A place to start the command from; outputs are folders below it."""

    root: Path
    folder: Path
    slow_encoding: ClassVar[str] = SLOW_ENCODING
    slow_training: ClassVar[str] = SLOW_TRAINING

    tiny = staticmethod(tiny)

    def start(
        self, *arguments: object, output: str = "runs", before: str = "", ranks: int = 1, loop: Any = None
    ) -> subprocess.Popen[str]:
        """Start the command; `before` runs first, `loop` are commands for one process, one after the other."""
        places = ["-o", str(self.folder / output), "--tracking-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        end = "sys.exit(main())" if loop is None else SEVERAL
        given = [*map(str, arguments), *places] if loop is None else [json.dumps([[*each, *places] for each in loop])]
        script = self.folder / f"{output}.py"
        head = f"import sys\nsys.path.insert(0, {str(self.root)!r})\n"
        script.write_text(f"{head}{before}\nfrom downstream.cli import main\n{end}\n", encoding="utf-8")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
        return subprocess.Popen(
            [sys.executable, *launcher, str(script), *given],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: object, expected: int = 0, **options: Any) -> tuple[str, str]:
        """Run the command to its end; gives what it said."""
        process = self.start(*arguments, **options)
        try:
            stdout, stderr = process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill_when(process, lambda: True)
            raise
        assert process.returncode == expected, stderr
        return stdout, stderr

    def kill_when(self, process: subprocess.Popen[str], is_due: Callable[[], bool]) -> None:
        """Kill a command and all that it started, at once and without a word."""
        deadline = time.monotonic() + WAIT_S
        while not is_due():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def runs(self, task: str, output: str = "runs") -> list[Path]:
        """List the runs of a task, oldest first."""
        runs = (self.folder / output).glob(f"*_{task}_??????")  # and none of a task with a longer name
        return sorted(runs, key=lambda path: path.stat().st_mtime)

    def records(self, task: str, output: str = "runs", *, part: str = "*") -> list[Record]:
        """Read the records of a task, oldest first."""
        paths = [path for run in self.runs(task, output) for path in run.glob(f"{part}/record.json")]
        return sorted(map(read_record, paths), key=lambda record: record.started_at)

    def record(self, task: str, output: str = "runs", *, part: str = "*") -> Record:
        """Read the newest record of a task."""
        return self.records(task, output, part=part)[-1]

    def rows(self, task: str, output: str = "runs") -> list[dict[str, Any]]:
        """Read the predictions of the only part of the only run of a task."""
        (path,) = (self.folder / output).glob(f"*_{task}_??????/*/predictions.jsonl")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def trainings(self, output: str = "runs") -> list[Path]:
        """List the trainings that were begun."""
        return sorted((self.folder / output / "trainings").glob("*"))


@pytest.fixture(scope="session")
def make_bench(root: Path) -> Callable[[Path], Bench]:
    return lambda folder: Bench(root, folder)


@pytest.fixture
def bench(make_bench: Callable[[Path], Bench], tmp_path: Path) -> Bench:
    return make_bench(tmp_path)
