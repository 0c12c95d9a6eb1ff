"""Command line: results to stdout, one line of error to stderr, and the conventional exit codes."""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reports.cli import main
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, write_record

ROOT = Path(__file__).resolve().parents[2]

TARGETS = """
targets:
  - {id: V7, task: ade20k, dataset: ADE20K, dataset_version: "2016", split: val, metric: miou, unit: "%",
     direction: higher, value: 62.0, printed: "62.0", num_samples: 2000, setting: fine-tuned,
     protocol: slide-896-512/ss, resolution_px: 896, scales: [1.0], flip: false, duration_s: null, precision: null,
     train_data: ADE20K, source: P-T3, confidence: high}
"""


def _record(**changes: Any) -> Record:
    checkpoint = CheckpointInfo(name="random initialisation, seed 0", sha256=None, loaded=0, missing=3)
    data = DataInfo(name="ADE20K", version="mini", root_name="ade", digest="d", n=8, n_expected=8, ids_sha256="e5")
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "mini"}
    fields |= {"model_size": "mini", "setting": "fine-tuned", "protocol": "slide-896-512/ss", "protocol_sha256": "ab"}
    fields |= {"metrics": (MetricValue(name="miou", value=12.5, n=8),), "checkpoint": checkpoint, "data": data}
    fields |= {"config": {}, "dtype": "float32", "device": "cpu", "seed": 0, "commit": "0123456789", "is_dirty": False}
    fields |= {"versions": {}, "started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": "run"}
    return Record(**{**fields, **changes})


def _run(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "reports" / "run.py"), *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_help_answers_quickly_from_any_folder_and_without_mlflow(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _run("--help", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # not the clock: others may compute
    assert (done.returncode, done.stderr) == (0, "")
    assert "targets" in done.stdout
    code = "import sys, reports.commands; sys.exit(any(name in sys.modules for name in ('mlflow', 'torch', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_folder_of_runs_becomes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(_record(), tmp_path / "runs" / "a")
    write_record(_record(run_id="r2", started_at="2024-02-01T12:00:00+00:00"), tmp_path / "runs" / "b")
    assert main(["table", "--records", str(tmp_path)]) == 0
    latest = capsys.readouterr()
    assert main(["table", "--records", str(tmp_path), "--all"]) == 0
    assert len(latest.out.splitlines()) == 3
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert latest.err == ""


@pytest.mark.parametrize("form", ["text", "markdown", "csv"])
def test_every_format_is_printed(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(_record(), tmp_path)
    assert main(["table", "--records", str(tmp_path), "--format", form]) == 0
    assert "miou" in capsys.readouterr().out


@pytest.mark.parametrize(
    "source", [["--records", "{}"], ["--records", "{}/none"], ["--tracking-uri", "sqlite:///{}/x.db"]]
)
def test_nothing_recorded_exits_4_with_one_line(
    source: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", *(part.format(tmp_path) for part in source)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_broken_record_exits_2_and_shows_its_traceback_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "record.json").write_text("{}", encoding="utf-8")
    assert main(["table", "--records", str(tmp_path)]) == 2
    assert "schema version" in capsys.readouterr().err
    with pytest.raises(ValueError, match="schema version"):
        main(["--traceback", "table", "--records", str(tmp_path)])


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["tabel"],
        ["table", "--format", "xml"],
        ["table", "--all", "--latest"],
        ["accept"],  # no reason
        ["check", "--against", "theirs"],
    ],
)
def test_a_usage_error_exits_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_targets_are_listed_and_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ade20k.yaml").write_text(TARGETS, encoding="utf-8")
    assert main(["targets", "--configs", str(tmp_path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[3].split()[:5] == ["V7", "ade20k", "val", "miou", "62.0"]
    assert listed[4] == "[1] P-T3"
    assert max(map(len, listed)) <= 120
    assert main(["targets", "--validate", "--configs", str(tmp_path)]) == 0
    assert "1 targets, each with its protocol and source" in capsys.readouterr().out.splitlines()


def test_the_projects_own_targets_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--validate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:5]] == ["vision", "audio", "vl", "ablations", "model size"]
    assert lines[-2] == "nothing here measures those of audio_extractor.yaml, early_runs.yaml, examples.yaml, k400.yaml"
    assert main(["targets", "--notes"]) == 0
    notes = capsys.readouterr().out
    assert "where sources disagree\n" in notes
    assert "where accounts of the paper disagree with it\n" in notes
    assert main(["targets"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 160  # sources stand below, unbroken


def test_every_bad_config_is_named_and_none_at_all_exits_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--configs", str(tmp_path)]) == 4
    (tmp_path / "a.yaml").write_text("x: 1", encoding="utf-8")
    (tmp_path / "b.yaml").write_text(TARGETS.replace("source: P-T3, ", ""), encoding="utf-8")
    assert main(["targets", "--validate", "--configs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "a.yaml: no 'targets' block" in error
    assert "b.yaml: target 'V7': no 'source'" in error
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(TARGETS, encoding="utf-8")
    assert main(["targets", "--configs", str(tmp_path)]) == 2
    assert "'V7' stands twice" in capsys.readouterr().err


def _runs(folder: Path, **values: float) -> Path:
    """Write one run a task, each with the number of its name."""
    for task, value in values.items():
        metrics = (MetricValue(name="miou", value=value, n=8),)
        write_record(_record(run_id=task, task=task, metrics=metrics), folder / task)
    return folder


@pytest.fixture
def accepted(tmp_path: Path) -> Path:
    """Where two tasks' numbers were accepted."""
    runs = _runs(tmp_path / "first", ade20k=12.5, esc50=80.0)
    places = ["--records", str(runs), "--accepted", str(tmp_path / "accepted")]
    assert main(["accept", *places, "--reason", "first numbers"]) == 0
    return tmp_path / "accepted"


def test_the_newest_of_each_result_is_accepted_and_says_what_moved(
    accepted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["ade20k-mini-mini-fine-tuned-val-ss.json", "esc50-mini-mini-fine-tuned-val-ss.json"]
    assert sorted(path.name for path in accepted.iterdir()) == names
    capsys.readouterr()
    runs = _runs(tmp_path / "second", ade20k=13.0, esc50=80.0)
    run = [str(runs / "ade20k"), str(runs / "esc50" / "record.json")]
    assert main(["accept", *run, "--accepted", str(accepted), "--reason", "longer training"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ade20k-mini-mini-fine-tuned-val-ss: accepted",
        "  ade20k val miou ss 12.50 -> 13.00, +0.50, tolerance 0.05",
        "esc50-mini-mini-fine-tuned-val-ss: as before, left alone",
        "  esc50 val miou ss 80.00, as before, tolerance 0.05",
    ]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["{runs}/none", "--reason", "x"], 4, "no record at"),
        (["--records", "{runs}/none", "--reason", "x"], 4, "no folder"),
        (["{runs}/ade20k", "--reason", " "], 2, "no reason"),
        (["{runs}/ade20k", "--records", "{runs}", "--reason", "x"], 2, "expected one of them"),
        (["{runs}/ade20k", "{runs}/ade20k", "--reason", "x"], 2, "Name one of them"),
    ],
)
def test_an_acceptance_that_cannot_be_is_one_line(
    args: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = _runs(tmp_path / "runs", ade20k=12.5)
    filled = [arg.format(runs=runs) for arg in args]
    assert main(["accept", *filled, "--accepted", str(tmp_path / "accepted")]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "accepted").exists()


@pytest.mark.parametrize(("value", "code", "failures"), [(12.5, 0, 0), (12.46, 0, 0), (12.0, 1, 1), (13.0, 0, 0)])
def test_a_check_exits_1_on_a_regression_alone_and_writes_its_xml(
    value: float, code: int, failures: int, accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    runs = _runs(tmp_path / "second", ade20k=value, esc50=80.0)
    xml = tmp_path / "junit.xml"
    args = ["check", "--records", str(runs), "--accepted", str(accepted), "--junit", str(xml)]
    assert main(args) == code
    assert xml.read_text(encoding="utf-8").count("<failure") == failures
    assert main([*args[:5], "--against", "paper"]) == 0  # of mini runs nothing is asked


def test_a_job_of_github_gets_annotations_and_a_page(
    accepted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = _runs(tmp_path / "second", ade20k=12.0, esc50=80.0)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))
    capsys.readouterr()
    assert main(["check", "--records", str(runs), "--accepted", str(accepted)]) == 1
    assert capsys.readouterr().out.count("::error title=") == 1
    assert "1 match, 1 regression" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_a_broken_accepted_result_or_an_unwritable_file_exits_2(
    accepted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["check", "--records", str(tmp_path / "first"), "--accepted", str(accepted)]
    assert main([*args, "--junit", str(tmp_path)]) == 2
    (accepted / "x.json").write_text("{}", encoding="utf-8")
    assert main(args) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: x.json: accepted result of schema version None")
