"""Whole jobs of the plain engine from the command line: layouts, processes, kills, genuine samples."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from miniworld.benchmarks import WRITERS
from reports.log_file import read_log
from reports.record import Record, read_record

pytestmark = pytest.mark.slow

TABLES = {
    "esc50": "ESC-50-master/esc50.tsv",
    "fsd50k": "FSD50K/fsd50K_eval.tsv",
    "vggsound": "vggsound/vggsound_test_new.tsv",
    "audiocaps": "audiocaps/audiocaps_test_new.tsv",
    "clotho": "clotho/clotho_evaluation_new.tsv",
    "avqa": "AVQA/avqa_val.tsv",
    "coco": "mscoco/test_new.tsv",
    "flickr30k": "flickr30k/test_new.tsv",
}
WITH_HEAD = ("fsd50k", "vggsound", "avqa")
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


def tiny(*, steps: int, batch: int = 8, micro: int = 8, interval: int = 100) -> list[str]:
    """Fine-tune the smallest model for so many steps."""
    values = {
        "size": "tiny",
        f"{TRAINING}.steps": steps,
        f"{TRAINING}.batch_size": batch,
        f"{TRAINING}.micro_batch_size": micro,
        f"{TRAINING}.state_interval": interval,
    }
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


@dataclass
class Bench:
    """A place to start the command from; outputs are folders below it."""

    root: Path
    folder: Path

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
        return sorted((self.folder / output).glob(f"*_{task}_*"), key=lambda path: path.stat().st_mtime)

    def record(self, task: str, output: str = "runs", *, setting: str | None = None) -> Record:
        """Read the newest record of a task."""
        found = [
            read_record(path) for run in self.runs(task, output) for path in run.glob(f"{setting or '*'}/record.json")
        ]
        return max(found, key=lambda record: record.started_at)

    def rows(self, task: str, output: str = "runs") -> list[dict[str, Any]]:
        """Read the predictions of the only run of a task."""
        (path,) = (self.folder / output).glob(f"*_{task}_*/*/predictions.jsonl")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def trainings(self, output: str = "runs") -> list[Path]:
        """List the trainings that were begun."""
        return sorted((self.folder / output / "trainings").glob("*"))


@pytest.fixture
def bench(root: Path, tmp_path: Path) -> Bench:
    return Bench(root, tmp_path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All eight data sets, small; nobody writes here."""
    folder = tmp_path_factory.mktemp("world")
    for name in TABLES:
        WRITERS[name](folder, scale=0.05)
    return folder


@pytest.fixture(scope="module")
def unbroken(root: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, str, str]:
    """ESC-50 with the shipped weights, from beginning to end; with what was said."""
    bench = Bench(root, tmp_path_factory.mktemp("unbroken"))
    return bench, *bench.run("esc50", "--data-root", world / "ESC-50-master", "--batch-size", 8)


def values(record: Record) -> dict[str, float]:
    return {metric.name: metric.value for metric in record.metrics}


def numbers(record: Record) -> list[Any]:
    return [metric.model_dump() for metric in record.metrics]


def test_esc50_from_raw_files_to_a_judged_number(unbroken: tuple[Bench, str, str]) -> None:
    bench, stdout, stderr = unbroken
    record = bench.record("esc50")
    assert (record.task, record.split, record.setting) == ("esc50", "all", "zero-shot")
    assert values(record)["accuracy"] >= 60, "the shipped weights know these sounds"
    assert record.metrics[0].n == record.data.n == record.data.n_expected == 85
    assert record.data.version == "miniworld"
    assert record.checkpoint.name == "mini.safetensors"
    assert record.protocol == "audio-15s-prompt/zero-shot"
    assert [comparison.verdict for comparison in record.comparisons] == ["not comparable"]
    assert record.timings["encoded_units"] == 85 + 17
    rows = bench.rows("esc50")
    assert sum(row["truth"] == row["prediction"] for row in rows) == record.metrics[0].hits
    assert len(rows) == 85
    assert all(word in stderr for word in ("not comparable with the paper's", "MINI", "weights: mini.safetensors"))
    assert stdout.strip().endswith("python reports/run.py table")


def test_both_layouts_give_the_same_samples_and_numbers(bench: Bench, world: Path) -> None:
    short = tiny(steps=2)
    trained = [[name, "--data-root", str(world / TABLES[name].split("/")[0]), *short] for name in WITH_HEAD]
    bench.run(loop=trained, output="trained")
    weights = {path.name.split("-")[0]: path / "weights.safetensors" for path in bench.trainings("trained")}
    original, tables = [], []
    for name in TABLES:
        chosen = ["--checkpoint", str(weights[name])] if name in WITH_HEAD else ["--setting", "zero-shot"]
        original.append([name, "--data-root", str(world / TABLES[name].split("/")[0]), *chosen])
        tables.append([name, "--data-root", str(world / TABLES[name]), *chosen])
    stdout, _ = bench.run(loop=[*original, *tables])
    assert stdout.count("code 0") == 16
    for name in TABLES:
        one, other = (
            read_record(run / "fine-tuned" if name in WITH_HEAD else run / "zero-shot") for run in bench.runs(name)
        )
        assert one.data.ids_sha256 == other.data.ids_sha256, name
        assert numbers(one) == numbers(other), name
        assert one.data.version == other.data.version == "miniworld"
        assert one.timings["encoded_units"] > 0
        assert other.timings["encoded_units"] == 0, f"{name}: the same content is there already"
        if name in WITH_HEAD:
            assert numbers(one) == numbers(bench.record(name, "trained")), "a checkpoint gives the number of its run"
            assert one.checkpoint.sha256 == bench.record(name, "trained").checkpoint.sha256


def test_any_number_of_processes_gives_the_same_numbers_and_predictions(bench: Bench, world: Path) -> None:
    data = ["--data-root", str(world)]
    first = [["esc50", "coco", "--setting", "zero-shot", *data], ["fsd50k", *data, *tiny(steps=3, batch=12, micro=2)]]
    bench.run(loop=first, output="ranks1")
    second = ["fsd50k", *data, "--checkpoint", str(bench.trainings("ranks1")[0] / "weights.safetensors")]
    bench.run(*second, output="ranks1-same")
    for ranks in (2, 3):
        for arguments, output in ((first[0], ""), (first[1], ""), (second, "-same")):
            bench.run(*arguments, output=f"ranks{ranks}{output}", ranks=ranks)
    alone = read_log(bench.trainings("ranks1")[0])
    for ranks in (2, 3):
        output = f"ranks{ranks}"
        for task in ("esc50", "coco"):
            assert numbers(bench.record(task, output)) == numbers(bench.record(task, "ranks1"))
            assert bench.rows(task, output) == bench.rows(task, "ranks1")
        assert numbers(bench.record("fsd50k", f"{output}-same")) == numbers(bench.record("fsd50k", "ranks1-same"))
        assert bench.rows("fsd50k", f"{output}-same") == bench.rows("fsd50k", "ranks1-same")
        together = read_log(bench.trainings(output)[0])
        assert [row["loss"] for row in together] == pytest.approx([row["loss"] for row in alone], rel=1e-4)
        assert [row["grad_norm"] for row in together] == pytest.approx([row["grad_norm"] for row in alone], rel=1e-3)
        assert values(bench.record("fsd50k", output)) == pytest.approx(values(bench.record("fsd50k", "ranks1")), abs=1)


def test_a_kill_while_encoding_changes_no_number_and_costs_nothing_twice(
    bench: Bench, world: Path, unbroken: tuple[Bench, str, str]
) -> None:
    arguments = ["esc50", "--data-root", world / "ESC-50-master", "--batch-size", 8]

    def count_vectors() -> int:
        for path in (bench.folder / "runs" / "vectors").glob("*.sqlite"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                try:
                    (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
                except sqlite3.OperationalError:  # not made yet
                    return 0
                return int(count)
        return 0

    bench.kill_when(bench.start(*arguments, before=SLOW_ENCODING), lambda: count_vectors() >= 16)
    kept = count_vectors()
    assert 16 <= kept < 102
    (folder,) = bench.runs("esc50")
    assert not (folder / "zero-shot" / "record.json").exists()

    bench.run(*arguments, "--resume")
    assert bench.runs("esc50") == [folder]
    resumed, whole = bench.record("esc50"), unbroken[0].record("esc50")
    assert numbers(resumed) == numbers(whole)
    assert bench.rows("esc50") == unbroken[0].rows("esc50")
    assert resumed.timings["encoded_units"] == 102 - kept

    _, stderr = bench.run(*arguments, "--resume")
    assert "is finished; its result" in stderr
    _, stderr = bench.run(*arguments[:3], "--batch-size", 8, "--limit", 5, "--resume", expected=2)
    assert "made with another 'limit'" in stderr


def test_a_kill_while_fine_tuning_changes_no_number_and_going_on_repeats_nothing(bench: Bench, world: Path) -> None:
    arguments = ["fsd50k", "--data-root", world / "FSD50K", *tiny(steps=7, interval=2)]
    bench.run(*arguments, output="whole")

    process = bench.start(*arguments, output="killed", before=SLOW_TRAINING)
    bench.kill_when(process, lambda: bool(list((bench.folder / "killed").glob("trainings/*/state.safetensors"))))
    killed_at = time.time()
    (folder,) = bench.trainings("killed")
    assert not (folder / "weights.safetensors").exists()

    bench.run(*arguments, output="killed")
    assert bench.trainings("killed") == [folder]
    whole, resumed = (bench.record("fsd50k", output) for output in ("whole", "killed"))
    assert numbers(resumed) == numbers(whole)
    assert resumed.checkpoint.sha256 == whole.checkpoint.sha256, "the same weights to the last bit"
    rows = read_log(folder)
    assert [row["step"] for row in rows] == list(range(1, 8))
    assert [row["loss"] for row in rows] == [row["loss"] for row in read_log(bench.trainings("whole")[0])]
    assert sum(row["time"] < killed_at for row in rows) >= 2, "what was done stays done"
    assert sorted(path.name for path in folder.iterdir()) == ["log.jsonl", "weights.safetensors"]


def test_another_number_of_processes_goes_on_where_a_training_was_killed(bench: Bench, world: Path) -> None:
    arguments = ["fsd50k", "--data-root", world / "FSD50K", *tiny(steps=6, batch=8, micro=2, interval=2)]
    bench.run(*arguments, output="whole")
    process = bench.start(*arguments, output="killed", before=SLOW_TRAINING, ranks=2)
    bench.kill_when(process, lambda: bool(list((bench.folder / "killed").glob("trainings/*/state.safetensors"))))
    bench.run(*arguments, output="killed", ranks=1)
    rows, whole = (read_log(bench.trainings(output)[0]) for output in ("killed", "whole"))
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in whole], rel=1e-4)


def test_a_fault_that_one_process_finds_ends_all(bench: Bench, world: Path) -> None:
    folder = bench.folder / "ESC-50-master"
    shutil.copytree(world / "ESC-50-master", folder)
    sorted((folder / "audio").iterdir())[4].write_bytes(b"")
    stdout, stderr = bench.run("esc50", "--data-root", folder, ranks=2, expected=1)  # the launcher's own code
    assert len([line for line in stderr.splitlines() if line.startswith("error:") and "esc50.csv, line 6" in line]) == 1
    assert stdout == ""
    assert bench.runs("esc50") == []


def test_audiocaps_and_clotho_are_judged_by_one_training(bench: Bench, world: Path) -> None:
    arguments = ["--setting", "fine-tuned", "--data-root", world, *tiny(steps=2)]
    _, stderr = bench.run("audiocaps", "clotho", *arguments)
    assert stderr.count("fine-tuned weights of the same recipe, data and code are there") == 1
    first, second = bench.record("audiocaps"), bench.record("clotho")
    assert first.checkpoint.sha256 == second.checkpoint.sha256
    assert first.timings["train_s"] > 0 == second.timings["train_s"]
    assert first.setting == second.setting == "fine-tuned"
    (trained,) = bench.trainings()
    for task in ("audiocaps", "clotho"):
        (part,) = bench.runs(task)[0].iterdir()
        assert json.loads((part / "training.json").read_text())["training"] == trained.name
        assert len(read_log(part)) == 2


GENUINE = {
    "esc50": ("esc50", [], "zero-shot", "40 samples are listed, 2000 are published"),
    "audiocaps": ("audiocaps", ["--setting", "zero-shot"], "zero-shot", "7 samples are listed, 975 are published"),
    "coco": ("mscoco_karpathy", [], "zero-shot", "26 samples are listed, 5000 are published"),
    "flickr30k": ("flickr30k", [], "zero-shot", "8 samples are listed, 1000 are published"),
    "avqa": ("avqa", [], "untrained", None),  # how many there are is not published
    "vggsound": ("vggsound", tiny(steps=2), "fine-tuned", "12 samples are listed, 15446 are published"),
    "fsd50k": ("fsd50k", [], "untrained", "1 samples are listed, 10231 are published"),
}


def test_genuine_samples_are_judged_as_what_they_are(bench: Bench, samples_dir: Path) -> None:
    commands = [
        [task, "--data-root", str(samples_dir / folder), *options] for task, (folder, options, _, _) in GENUINE.items()
    ]
    stdout, stderr = bench.run(loop=commands)
    assert stdout.count("code 0") == len(GENUINE)
    for task, (_, _, setting, difference) in GENUINE.items():
        record = bench.record(task)
        assert (record.profile, record.setting) == ("mini", setting)
        assert record.data.version != "miniworld"
        assert {comparison.verdict for comparison in record.comparisons} <= {"not comparable"}
        is_published = task != "audiocaps" and setting != "untrained"
        assert bool(record.comparisons) is is_published, "an untrained head is nobody's number"
        assert record.metrics
        if difference is not None:
            assert difference in record.data.differences
            assert f"differs from what is published: {difference}" in stderr
            assert not record.data.is_complete


def test_what_one_task_refuses_costs_the_others_nothing(bench: Bench, world: Path) -> None:
    folder = bench.folder / "data"
    shutil.copytree(world / "ESC-50-master", folder / "ESC-50-master")
    shutil.copytree(world / "mscoco", folder / "mscoco")
    shutil.copytree(world / "flickr30k", folder / "flickr30k")
    for path in (folder / "mscoco" / "val2014").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    arguments = ["--setting", "zero-shot", "--data-root", folder, "--limit", 6, "--set", "size=tiny"]
    stdout, stderr = bench.run("esc50", "coco", "flickr30k", *arguments, expected=2)
    errors = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: coco: ")
    assert "dataset_coco.json, image" in errors[0]
    assert "Traceback" not in stderr
    assert [len(bench.runs(task)) for task in ("esc50", "coco", "flickr30k")] == [1, 0, 1]
    assert [bench.record(task).metrics[0].n for task in ("esc50", "flickr30k")] == [6, 6]
    assert all(task in stdout for task in ("esc50", "flickr30k"))


def test_a_finished_run_is_given_for_what_it_is_only(bench: Bench, world: Path) -> None:
    base = ["clotho", "--setting", "zero-shot", "--data-root", str(world), "--limit", "4", "--set", "size=tiny"]
    others = [
        [*base, "--resume", "--split", "validation"],
        [*base, "--resume", "--pretrained", str(bench.root / "models" / "weights" / "mini.safetensors")],
        [*base, "--resume", "--seed", "1"],
        [*base, "--resume"],
    ]
    stdout, stderr = bench.run(loop=[base, *others], expected=2)
    assert [line for line in stdout.splitlines() if line.startswith("code")] == [f"code {n}" for n in (0, 2, 2, 2, 0)]
    for word in ("split", "pretrained", "seed"):
        assert f"made with another '{word}'" in stderr
    assert len(bench.runs("clotho")) == 1
