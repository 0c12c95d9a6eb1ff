"""The doctor from the command line: one task, a line a check, an exit code; a finished run against the config."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from downstream.cli import main
from downstream.config import list_tasks
from downstream.doctor.case import open_case
from downstream.doctor.checks import list_checks
from downstream.tasks.base import RunOptions
from downstream.tasks.plain import PlainTask, find_task, resolve_profile
from miniworld.benchmarks import WRITERS
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, write_record

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main(["doctor", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS["vggsound"](tmp_path_factory.mktemp("world"), scale=0.05)


def write_run(folder: Path, clips: Path, *, dropped: int = 0, foreign: int = 0, **changes: Any) -> Path:
    """Write what a run of VGGSound leaves."""
    task, config = find_task("vggsound")
    profile, _ = resolve_profile(config, "mini", RunOptions())
    ids = [sample.id for sample in task.read(clips, "test").samples]
    written = ids[dropped:] + [f"other {number}" for number in range(foreign)]
    data: dict[str, Any] = {"name": "VGGSound", "version": "miniworld", "root_name": clips.name, "digest": "d"}
    values: dict[str, Any] = {
        "run_id": "run",
        "task": "vggsound",
        "dataset": "VGGSound",
        "split": "test",
        "profile": "mini",
        "model_size": "mini",
        "setting": "fine-tuned",
        "protocol": "audio-15s/fine-tuned",
        "protocol_sha256": "p",
        "metrics": (MetricValue(name="accuracy", value=50.0),),
        "checkpoint": CheckpointInfo(name="weights.safetensors", sha256="ab" * 32, loaded=10),
        "data": DataInfo(**data, n=len(ids), n_expected=len(ids), ids_sha256="i", **changes.pop("data", {})),
        "config": {"profile": profile.model_dump(mode="json"), "limit": changes.pop("limit", None)},
        "dtype": "float32",
        "device": "cpu",
        "seed": 0,
        "commit": "c",
        "is_dirty": False,
        "versions": {},
        "started_at": "2024-01-31T12:00:00+00:00",
        "duration_s": 1.0,
        "command": "python downstream/run.py vggsound",
        "artifacts": {"predictions": "predictions.jsonl"},
        **changes,
    }
    inner = folder / "fine-tuned"
    write_record(Record(**values), inner)
    lines = "".join(json.dumps({"id": each}) + "\n" for each in written)
    (inner / "predictions.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.mark.parametrize("task", list_tasks())
def test_a_dry_run_names_every_check_and_makes_none(task: str, ask: Ask) -> None:
    code, out, err = ask(task, "--dry-run", "--profile", "mini")
    checks = list_checks(open_case(task, RunOptions(profile="mini"), run=None))
    assert (code, err) == (0, "")
    assert [line.split(maxsplit=1) for line in out.splitlines()[1:]] == [[str(each.cost), each.name] for each in checks]


def test_a_dry_run_does_not_wait_for_torch(root: Path) -> None:
    script = (
        "import sys\nfrom downstream.cli import main\n"
        "assert main(['doctor', 'coco', '--dry-run']) == 0\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "one task at a time"),
        (["coco", "esc50"], 2, "one task at a time"),
        (["cocoo"], 2, "Did you mean 'coco'?"),
        (["coco", "--pretrained", "/absent.pt"], 4, "/absent.pt does not exist"),
        (["coco", "--run", "/absent"], 4, "no record at /absent"),
        (["coco", "--set", "sizes=mini"], 2, "unknown key 'sizes'"),
    ],
)
def test_a_wrong_argument_is_one_line_and_an_exit_code(arguments: list[str], code: int, message: str, ask: Ask) -> None:
    found, _, err = ask(*arguments)
    assert found == code
    assert message in err
    assert err.count("\n") == 1


def test_a_run_is_named_to_the_doctor_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coco", "--run", "x"]) == 2
    assert "--run goes with doctor" in capsys.readouterr().err


def test_a_run_as_the_config_has_it_is_healthy(tmp_path: Path, clips: Path, ask: Ask) -> None:
    run = write_run(tmp_path, clips)
    for more in ([], ["--data-root", clips]):
        code, out, _ = ask("vggsound", "--run", run, *more)
        assert code == 0, out
        assert "cause: none found" in out
        assert "suspect" not in out


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"dtype": "float16"}, "dtype: computed in float16, the config says float32"),
        ({"limit": 5}, "missing ids: the run was made with --limit 5"),
        ({"data": {"differences": ("3 clips are not at 16000 Hz",)}}, "missing ids: 3 clips are not at 16000 Hz"),
        ({"dropped": 2}, "missing ids: 2 ids of the list were not judged"),
        ({"foreign": 3}, "missing ids: 0 ids of the list were not judged (none), 3 judged ones are not in the list"),
        ({"setting": "untrained"}, "variant: the head was never trained"),
        (
            {"checkpoint": CheckpointInfo(name="w.pt", sha256=None, loaded=1, missing=2, missing_names=("a", "b"))},
            "variant: 2 names of w.pt were missing",
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else next(iter(value)),
)
def test_what_is_wrong_with_a_run_is_named(
    changes: dict[str, Any], cause: str, tmp_path: Path, clips: Path, ask: Ask
) -> None:
    code, out, _ = ask("vggsound", "--run", write_run(tmp_path, clips, **changes), "--data-root", clips)
    assert code == 3
    assert f"cause: {cause}" in out
    assert "\ndo:    " in out


def test_a_file_that_is_not_the_run_s_is_told(tmp_path: Path, clips: Path, ask: Ask, root: Path) -> None:
    run, other = write_run(tmp_path, clips), root / "models" / "weights" / "mini.safetensors"
    code, out, _ = ask("vggsound", "--run", run, "--checkpoint", other)
    assert code == 3
    assert "cause: variant: mini.safetensors is " in out


def test_the_run_of_another_task_and_a_choice_of_results_are_refused(tmp_path: Path, clips: Path, ask: Ask) -> None:
    run = write_run(tmp_path, clips)
    assert "a run of vggsound, not of coco" in ask("coco", "--run", run)[2]
    (run / "second").mkdir()
    (run / "second" / "record.json").write_text("{}", encoding="utf-8")
    code, _, err = ask("vggsound", "--run", run)
    assert code == 2
    assert "name one of its folders: fine-tuned, second" in err


def test_samples_that_are_not_there_are_told_by_the_list(tmp_path: Path, ask: Ask) -> None:
    root = WRITERS["vggsound"](tmp_path, scale=0.05)
    task, _ = find_task("vggsound")
    gone = task.read(root, "test").samples[3]
    gone.media.unlink()
    code, out, _ = ask("vggsound", "--data-root", root)
    assert code == 3
    assert f"cause: missing ids: 1 of 17 clips are not there: {gone.id}" in out


def test_counts_rates_and_classes_are_held_against_the_published_ones(tmp_path: Path, ask: Ask) -> None:
    root = WRITERS["esc50"](tmp_path, scale=0.05)
    assert "suspect" not in ask("esc50", "--data-root", root, "--profile", "paper")[1]
    (root / "miniworld.json").unlink()
    code, out, _ = ask("esc50", "--data-root", root, "--profile", "paper")
    assert code == 3
    assert "85 files at 16000 Hz; published are 44100 Hz" in out
    assert "17 classes are named, 50 are published" in out
    assert "85 samples are listed, 2000 are published" in out
    assert "cause: sample rate: " in out


def test_a_sentence_is_said_once(tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(b"x" * 100)
    _, out, _ = ask("coco", "--profile", "mini", "--checkpoint", path)
    lines = [line for line in out.splitlines() if line.startswith("  ")]
    assert sum(str(path) in line for line in lines) == 1
    assert sum(line.endswith("as above") for line in lines) > 1


def test_plain_and_dense_tasks_each_have_their_checks() -> None:
    for task in list_tasks():
        case = open_case(task, RunOptions(profile="mini"), run=None)
        costs = {str(check.cost) for check in list_checks(case)}
        assert costs == ({"free", "cheap", "compute"} if isinstance(case.task, PlainTask) else {"free"})
