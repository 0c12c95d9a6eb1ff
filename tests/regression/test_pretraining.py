"""Pretraining from the command line, end to end: both stages, several processes, stops, kills and faults."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from miniworld.pretraining import write_pairs
from pretrain.cli import EXIT_DONE, EXIT_MISSING, EXIT_USAGE, main
from pretrain.config import load_stage
from pretrain.saving import list_checkpoints
from pretrain.stages import build_objective, trained_names
from pretrain.step import Stepper
from pretrain.trainer import CHECKPOINTS
from pretrain.weights import WEIGHTS_FILE, Weights
from reports.log_file import LOG_FILE, read_log
from reports.record import read_record

pytestmark = pytest.mark.slow

WORLD = {"num_pictures": 640, "num_sounds": 96, "num_held_out": 60}
PICTURES, SOUNDS = "pictures-{000000..000000}.tar", "sounds-{000000..000000}.tar"
FACTS = "facts: {score: score, width: width, height: height}"
# So little of a term that the contrast learns in a few steps: what takes minutes is another test's.
TEXT_TERM = "{text: {modality: text, student: alone, teacher: alone, weight: 0.05, mask: {kind: words, ratio: 0.15}}}"
# A rising rate keeps Adam from making much of the rounding of small gradients.
COMPARED = {"batch.batch_size": 16, "batch.micro_batch_size": 8, "steps": 26, "saving.every_steps": 100}
COMPARED |= {"optim.lr": 1e-4, "optim.warmup_share": "null", "optim.warmup_steps": 25}
QUICK = {"batch.batch_size": 4, "batch.micro_batch_size": 4, "steps": 8, "saving.every_steps": 2}
QUICK |= {"objective.terms": "{}", "log_every_steps": 100}


def as_arguments(values: dict[str, object]) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a small miniworld, and room for runs and their store."""
    folder = tmp_path_factory.mktemp("pretraining")
    write_pairs(folder / "world", **WORLD)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Sums come in the same order here, in the runs that tests share, and in processes of their own."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)


def places(home: Path) -> list[str]:
    return ["-o", str(home / "runs"), "--tracking-uri", f"sqlite:///{home / 'mlflow.db'}", "--device", "cpu"]


def in_world(home: Path, source: str) -> list[str]:
    """Train on the miniworld, and be judged by it."""
    world = {"world.folder": home / "world", **{f"world.{key}": value for key, value in WORLD.items()}}
    return [*places(home), *as_arguments({**world, "data.sources": f"[{source}]"})]


def on_shards(home: Path, path: Path | None = None) -> list[str]:
    """Train on shards of one's own, which nothing is judged by."""
    return [*places(home), "--data", str(path or home / "world" / "miniworld-pairs" / PICTURES)]


def launch(root: Path, arguments: list[str], *, processes: int = 1) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *launcher, str(root / "pretrain" / "run.py"), *arguments], **pipes)


def finish(process: subprocess.Popen, expected: int = EXIT_DONE) -> SimpleNamespace:
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == expected, stderr
    return SimpleNamespace(stdout=stdout, stderr=stderr)


def steps_of(folder: Path) -> list[int]:
    return [int(row["step"]) for row in read_log(folder)]


def losses_of(folder: Path) -> list[float]:
    return [row["loss"] for row in read_log(folder)]


def wait_for(folder: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not (folder / LOG_FILE).is_file() or f'{{"step": {step}, ' not in (folder / LOG_FILE).read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children_of(process: subprocess.Popen) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def check_same_weights(first: Path, second: Path) -> None:
    ours, theirs = Weights(first), Weights(second)
    assert set(ours) == set(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.fixture(scope="module")
def stage1(home, root) -> Path:
    """The finished run of a stage 1 that learns to retrieve."""
    source = f'{{kind: shards, path: "{PICTURES}", fields: {{text: txt, image: jpg}}, {FACTS}}}'
    values = {"steps": 260, "optim.lr": 5e-3, "objective.terms": TEXT_TERM}
    process = launch(
        root, ["stage1", "--size", "tiny", "--run", "first", *in_world(home, source), *as_arguments(values)]
    )
    told = finish(process)
    assert "weights:" in told.stdout
    return home / "runs" / "first"


def test_stage_one_lowers_the_loss_and_beats_chance_on_pictures_it_never_saw(stage1):
    losses = losses_of(stage1)
    assert steps_of(stage1) == list(range(1, 261))
    assert sum(losses[-20:]) / 20 < sum(losses[:20]) / 20 - 0.5
    record = read_record(stage1)
    metrics = {metric.name: metric for metric in record.metrics}
    for name, chance in (("recall_at_10_text_to_image", 100 * 10 / 60), ("recall_at_10_image_to_text", 16.04)):
        assert metrics[name].value > 1.5 * chance
        assert metrics[name].ci_low > chance


def open_store(home: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own deprecations
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")


def test_a_run_stands_in_its_folder_and_in_mlflow(stage1, home):
    record = read_record(stage1)
    assert (record.task, record.model_size, record.run_id) == ("pretrain_stage1", "tiny", "first")
    assert record.config["optim"]["lr"] == 5e-3
    assert {"config.yaml", "evaluation.json", LOG_FILE, WEIGHTS_FILE} <= {path.name for path in stage1.iterdir()}
    client = open_store(home)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    training = next(run for run in runs if run.data.params.get("stage") == "stage1" and "loss" in run.data.metrics)
    assert training.info.status == "FINISHED"
    assert training.data.metrics["loss"] == pytest.approx(losses_of(stage1)[-1])
    assert len(client.get_metric_history(training.info.run_id, "loss")) == 260


def test_stage_two_starts_from_stage_one_and_leaves_what_is_frozen_to_the_last_bit(stage1, home, capsys):
    source = f'{{kind: shards, path: "{SOUNDS}", fields: {{text: txt, audio: flac}}}}'
    values = {"steps": 12, "batch.batch_size": 8, "batch.micro_batch_size": 8}
    run = ["stage2", "--size", "tiny", "--run", "second", "--start", str(stage1), *in_world(home, source)]
    assert main([*run, *as_arguments(values)]) == EXIT_DONE
    assert "recall_at_1_audio_to_image" in capsys.readouterr().out
    before, after = Weights(stage1), Weights(home / "runs" / "second")
    config = load_stage("stage2", "tiny")
    trained = trained_names(build_objective(config), config.trained)
    assert set(before) <= set(after)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert moved <= trained
    metrics = [{m.name: m.value for m in read_record(folder).metrics} for folder in (stage1, home / "runs" / "second")]
    for name in ("recall_at_10_text_to_image", "recall_at_10_image_to_text"):
        assert metrics[1][name] == metrics[0][name]
    header = json.loads(read_header(home / "runs" / "second"))
    assert (header["stage"], header["start"]["stage"]) == ("stage2", "stage1")


def read_header(folder: Path) -> str:
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        return file.metadata()["onepeace"]


@pytest.mark.parametrize("size", ["tiny", "mini"])
def test_weights_of_another_size_are_refused_before_anything_is_drawn(stage1, home, capsys, size):
    change = ["--set", "decoder.embed_dim=48"] if size == "tiny" else ["--set", f"world.folder={home / 'elsewhere'}"]
    run = ["stage2", "--size", size, "--run", f"misfit-{size}", "--start", str(stage1), *places(home), *change]
    assert main(run) == EXIT_USAGE
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert f"expected those of stage1, size {size}" in told
    assert not (home / "elsewhere").exists()


@pytest.fixture(scope="module")
def unbroken(home) -> Path:
    """Some steps of the whole objective in one process."""
    assert main(["stage1", "--size", "tiny", "--run", "one", *on_shards(home), *as_arguments(COMPARED)]) == EXIT_DONE
    return home / "runs" / "one"


def test_two_processes_are_one_and_a_stopped_run_goes_on_at_another_number_of_them(unbroken, home, root):
    folder = home / "runs" / "two"
    run = ["stage1", "--size", "tiny", "--run-name", "two", *on_shards(home), *as_arguments(COMPARED)]
    process = launch(root, run, processes=2)
    wait_for(folder, 20, process)
    os.kill(children_of(process)[1], signal.SIGTERM)  # the rank that writes no log: all stop when one is told to
    told = finish(process)
    (stopped,) = (int(path.name.removeprefix("step-")) for path in list_checkpoints(folder / CHECKPOINTS))
    assert 20 <= stopped < 26
    assert f"stopped after step {stopped} of 26, and saved; go on with --run two" in told.stdout
    assert told.stderr.count("stage1, vision-language pretraining") == 1
    whole = losses_of(unbroken)
    assert losses_of(folder) == pytest.approx(whole[:stopped], abs=1e-5)
    assert main([*run]) == EXIT_DONE
    assert steps_of(folder) == list(range(1, 27))
    gaps = [abs(ours - theirs) / theirs for ours, theirs in zip(losses_of(folder), whole, strict=True)]
    assert max(gaps) < 1e-6  # relative


def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_same_weights(unbroken, home, root):
    folder = home / "runs" / "killed"
    values = {**COMPARED, "saving.every_steps": 8}
    run = ["stage1", "--size", "tiny", "--run", "killed", *on_shards(home), *as_arguments(values)]
    process = launch(root, run)
    wait_for(folder, 19, process)
    process.kill()
    process.communicate()
    assert not (folder / WEIGHTS_FILE).exists()
    newest = list_checkpoints(folder / CHECKPOINTS)[-1].name
    assert newest in {"step-00000008", "step-00000016", "step-00000024"}
    assert main([*run]) == EXIT_DONE
    assert steps_of(folder) == list(range(1, 27))
    assert losses_of(folder) == losses_of(unbroken)
    check_same_weights(folder, unbroken)
    assert main([*run]) == EXIT_DONE  # there is nothing left to do
    check_same_weights(folder, unbroken)


def quick_run(home: Path, name: str, *, path: Path | None = None, **changes: object) -> list[str]:
    values = {**QUICK, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["stage1", "--size", "tiny", "--run", name, *on_shards(home, path), *as_arguments(values)]


@pytest.fixture
def at_step(monkeypatch) -> Callable[[int, Callable[[], None]], None]:
    """Do something in the middle of a step, counted from 1."""

    def plan(wanted: int, action: Callable[[], None]) -> None:
        run = Stepper.run

        def act(stepper: Stepper, batches, *, step: int, is_stopped: bool = False):
            if step + 1 == wanted:
                action()
            return run(stepper, batches, step=step, is_stopped=is_stopped)

        monkeypatch.setattr(Stepper, "run", act)

    return plan


def last_line(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert not any(line.startswith("Traceback") for line in lines)
    return lines[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_stops_in_order_though_processes_read_data(home, at_step, capsys, number):
    def tell_all() -> None:
        for process in active_children():
            os.kill(process.pid, number)
        os.kill(os.getpid(), number)
        time.sleep(0.3)

    at_step(3, tell_all)
    name = f"told-{number}"
    assert main(quick_run(home, name, num_workers=1)) == EXIT_DONE
    assert f"stopped after step 4 of 8, and saved; go on with --run {name}" in capsys.readouterr().out
    assert steps_of(home / "runs" / name) == [1, 2, 3, 4]


def test_a_killed_data_process_ends_the_run_in_one_line_and_it_goes_on(home, at_step, monkeypatch, capsys):
    at_step(5, lambda: [process.kill() for process in active_children()])
    assert main(quick_run(home, "orphan", num_workers=1, steps=40)) == EXIT_MISSING
    told = last_line(capsys)
    assert told.startswith("error: ")
    assert "go on with --resume" in told
    monkeypatch.undo()
    assert list_checkpoints(home / "runs" / "orphan" / CHECKPOINTS)
    assert main(quick_run(home, "orphan", num_workers=0, steps=40)) == EXIT_DONE
    assert steps_of(home / "runs" / "orphan") == list(range(1, 41))


@pytest.fixture
def truncated(home, tmp_path) -> Path:
    """The shard of pictures, cut off in its middle; `sizes.json` tells what it held."""
    shard = home / "world" / "miniworld-pairs" / "pictures-000000.tar"
    (tmp_path / shard.name).write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    shutil.copy(shard.with_name("sizes.json"), tmp_path)
    return tmp_path / PICTURES


def test_what_a_truncated_shard_has_lost_is_counted_and_named_and_passed_over(home, truncated, capsys):
    run = quick_run(home, "cut", path=truncated, data__max_corrupt_share=0.9)
    assert main(run) == EXIT_DONE
    told = capsys.readouterr().err
    assert "corrupt sample 1, passed over: pictures-000000.tar/#" in told
    assert "truncated" in told
    assert "32 kept" in told
    assert losses_of(home / "runs" / "cut")[-1] > 0


def test_more_corrupt_samples_than_allowed_end_the_run(home, truncated, capsys):
    run = quick_run(home, "rotten", path=truncated, data__min_corrupt_allowed=3)
    assert main(run) == EXIT_USAGE
    assert "samples are corrupt" in last_line(capsys)


def test_a_missing_shard_is_told_before_the_training(home, tmp_path, capsys):
    assert main(quick_run(home, "empty", path=tmp_path / PICTURES)) == EXIT_MISSING
    told = last_line(capsys)
    assert told.startswith("error: ")
    assert "pictures-000000.tar" in told


def spoil(monkeypatch, wanted: range) -> None:
    """Make the loss of some steps no number."""
    compute = Stepper._compute

    def act(stepper, batch, *, step, number, gather):
        losses = compute(stepper, batch, step=step, number=number, gather=gather)
        factor = float("nan") if step + 1 in wanted else 1.0
        return type(losses)(losses.total * factor, losses.terms, losses.hits, losses.scale)

    monkeypatch.setattr(Stepper, "_compute", act)


def test_a_loss_that_is_no_number_is_skipped_and_the_training_goes_on(home, monkeypatch):
    spoil(monkeypatch, range(3, 4))
    assert main(quick_run(home, "spoilt")) == EXIT_DONE
    folder = home / "runs" / "spoilt"
    assert steps_of(folder) == list(range(1, 9))
    finite = [loss == loss for loss in losses_of(folder)]
    assert finite == [step != 3 for step in range(1, 9)]
    assert "step 3 skipped: loss is nan" in (folder / LOG_FILE).read_text()
    assert all(value.isfinite().all() for value in Weights(folder).values())


def test_losses_that_stay_no_number_end_the_run_in_one_line(home, monkeypatch, capsys):
    spoil(monkeypatch, range(4, 99))
    assert main(quick_run(home, "diverged", guard__max_consecutive_skips=3)) == EXIT_USAGE
    told = last_line(capsys)
    assert "training diverged: step 6 is bad step 3 in a row (loss is nan); " in told
    assert [path.name for path in list_checkpoints(home / "runs" / "diverged" / CHECKPOINTS)][-1] == "step-00000004"


def test_a_full_disk_is_told_in_one_line_and_the_older_checkpoint_stays(home, at_step, monkeypatch, capsys):
    def fill_up() -> None:
        while not (home / "runs" / "full" / CHECKPOINTS / "step-00000002").exists():
            time.sleep(0.01)  # it is written beside the training

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)

    at_step(4, fill_up)
    assert main(quick_run(home, "full")) == EXIT_MISSING
    told = last_line(capsys)
    assert "the disk is full; the last complete one is step-00000002; free some space" in told
    assert [path.name for path in (home / "runs" / "full" / CHECKPOINTS).iterdir()] == ["step-00000002"]
    monkeypatch.undo()
    assert main(quick_run(home, "full")) == EXIT_DONE
    assert steps_of(home / "runs" / "full") == list(range(1, 9))


def test_other_settings_do_not_go_on_with_a_run(home, capsys):
    assert main(quick_run(home, "settled", steps=2)) == EXIT_DONE
    assert main(quick_run(home, "settled", steps=2, seed=5)) == EXIT_USAGE
    assert "settled was begun with another 'seed'" in last_line(capsys)
