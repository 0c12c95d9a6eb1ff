"""`export` and `import` on the command line: files or stdout, one line of error, and nothing half-written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.cli import main
from reports.exchange import EXPORTERS, READERS
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, read_record, write_record

TARGETS = """
targets:
  - {id: V7, task: ade20k, dataset: ADE20K, dataset_version: "2016", split: val, metric: miou, unit: "%",
     direction: higher, value: 62.0, printed: "62.0", num_samples: 2000, setting: fine-tuned,
     protocol: slide-896-512/ss, resolution_px: 896, scales: [1.0], flip: false, duration_s: null, precision: null,
     train_data: ADE20K, source: P-T3, confidence: high}
"""
LOG = "2026/11/24 10:34:01 - mmengine - INFO - Iter(val) [4/4]    aAcc: 87.1800  mIoU: 62.0000  mAcc: 76.4200\n"


def _record(**changes: Any) -> Record:
    data = DataInfo(name="ESC-50", version="miniworld", root_name="r", digest="d", n=8, n_expected=8, ids_sha256="e5")
    metric = MetricValue(name="accuracy", value=75.0, n=8, hits=6.0, ci_low=40.0, ci_high=93.0, ci_method="wilson")
    fields: dict[str, Any] = {"run_id": "r1", "task": "esc50", "dataset": "ESC-50 layout of the miniworld"}
    fields |= {"split": "all", "profile": "mini", "model_size": "mini", "setting": "zero-shot", "protocol_sha256": "ab"}
    fields |= {"protocol": "audio-15s-prompt/zero-shot", "metrics": (metric,), "data": data, "config": {}}
    fields |= {"checkpoint": CheckpointInfo(name="w.pt", sha256="c0", loaded=1), "dtype": "float32", "device": "cpu"}
    fields |= {"seed": 0, "commit": "0123", "is_dirty": False, "versions": {}, "command": "run"}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5}
    return Record(**{**fields, **changes})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one run."""
    write_record(_record(), tmp_path / "runs" / "r1")
    return tmp_path / "runs"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A foreign log beside the published numbers."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "ade20k.yaml").write_text(TARGETS, encoding="utf-8")
    path = tmp_path / "test.log"
    path.write_text(LOG, encoding="utf-8")
    return path


def _import(log: Path, *args: str) -> list[str]:
    configs = str(log.parent / "configs")
    words = ["import", str(log), "--task", "ade20k", "--split", "val", "--configs", configs]
    return [*words, *(() if "--from" in args else ("--from", "mmsegmentation")), *args]


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", EXPORTERS)
def test_one_file_goes_to_stdout_or_where_it_is_asked_for(
    form: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--to", form, "--records", str(runs)]) == 0
    printed = capsys.readouterr().out
    assert "miniworld" in printed
    suffix = {"model-index": ".yml", "model-card": ".md"}.get(form, ".json")
    assert main(["export", str(runs / "r1"), "--to", form, "-o", str(tmp_path / "new" / f"one{suffix}")]) == 0
    assert (tmp_path / "new" / f"one{suffix}").read_text(encoding="utf-8") == printed
    assert main(["export", "--to", form, "--records", str(runs), "-o", str(tmp_path / "folder")]) == 0
    (name,) = _files(tmp_path / "folder")
    assert (tmp_path / "folder" / name).read_text(encoding="utf-8") == printed
    assert capsys.readouterr().out.splitlines()[-1].endswith(name)


def test_several_files_ask_for_a_folder(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(_record(run_id="r2", task="vggsound"), runs / "r2")
    args = ["export", "--to", "mteb", "--records", str(runs)]
    assert main(args) == 2
    assert main([*args, "-o", str(tmp_path / "one.json")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "2 files (" in errors[0]
    assert "2 files, and -o" in errors[1]
    assert not (tmp_path / "one.json").exists()
    assert main([*args, "-o", str(tmp_path / "out")]) == 0
    assert len(_files(tmp_path / "out")) == 2


def test_of_several_records_of_one_thing_the_newest_is_exported(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(_record(run_id="r2", started_at="2024-02-01T00:00:00+00:00"), runs / "r2")
    assert main(["export", "--to", "model-index", "--records", str(runs)]) == 0
    (model,) = yaml.safe_load(capsys.readouterr().out)["Models"]
    assert model["Metadata"]["Run"] == "r2"
    assert main(["export", str(runs / "r1"), str(runs / "r2"), "--to", "model-index"]) == 2
    assert "results of the same" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--records", "{}/none"], 4, "no folder"),
        (["{}/r1", "--records", "{}"], 2, "expected one of them"),
        (["{}/none"], 4, "no record at"),
        (["{}/r1", "-o", "{}/r1/record.json/x"], 2, "record.json"),
    ],
)
def test_an_export_that_cannot_be_is_one_line(
    args: list[str], code: int, said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _files(runs)
    assert main(["export", "--to", "model-index", *(arg.format(runs) for arg in args)]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert _files(runs) == before


def test_what_no_format_holds_is_said_and_exits_2(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(_record(setting="fine-tuned"), runs / "r1")
    assert main(["export", "--to", "clip-benchmark", "--records", str(runs)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "left out: r1: fine-tuned classification is no task of CLIP_benchmark",
        "error: nothing that clip-benchmark can hold among 1 records. Choose another format.",
    ]


def test_a_write_that_fails_leaves_nothing_behind(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model-index.yml").write_text("before", encoding="utf-8")

    def fail(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(Path, "replace", fail)
    assert main(["export", "--to", "model-index", "--records", str(runs), "-o", str(out)]) == 2
    assert "no space left" in capsys.readouterr().err
    assert _files(out) == ["model-index.yml"]
    assert (out / "model-index.yml").read_text(encoding="utf-8") == "before"


def test_an_import_prints_a_record_or_writes_it(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_import(log, "--like", "V7")) == 0
    record = Record.from_json(capsys.readouterr().out)
    assert [(metric.name, metric.value) for metric in record.metrics] == [
        ("aacc", 87.18),
        ("miou", 62),
        ("macc", 76.42),
    ]
    assert record.comparisons[0].reason == "nobody says over how many samples ours is"
    out = tmp_path / "out"
    assert main(_import(log, "--like", "V7", "--n", "2000", "-o", str(out))) == 0
    assert "not comparable" in capsys.readouterr().out
    written = read_record(out)
    assert written.command == (
        "python reports/run.py import test.log --from mmsegmentation --task ade20k --split val --like V7 "
        "--profile paper --n 2000"
    )
    assert str(tmp_path) not in written.to_json()  # where the file lay is nobody's business
    assert main(_import(log, "-o", str(out))) == 2
    assert "holds a record already" in capsys.readouterr().err
    assert read_record(out) == written


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--from", "detectron2"], 2, "test.log: no evaluation found"),
        (["--from", "one-peace"], 2, "no evaluation found"),
        (["--from", "imagenet"], 2, "no evaluation found"),
        (["--from", "rows"], 2, "no evaluation found"),
        (["--like", "V8"], 2, "no published number 'V8' of task 'ade20k'. Known: V7."),
        (["--like", "V7", "--split", "test"], 2, "V7 is of split 'val'"),
        (["--n", "0"], 2, "--n 0, expected one sample or more"),
        (["--step", "5"], 2, "no evaluation of step 5"),
        (["--columns", "a"], 2, "expected two names"),
        (["--task", "../configs/ade20k"], 2, "expected a name of small letters"),
        (["--split", " "], 2, "not a record: 'split' is ' '"),
    ],
)
def test_an_import_that_cannot_be_is_one_line(
    args: list[str], code: int, said: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_import(log, *args, "-o", str(tmp_path / "out"))) == code
    captured = capsys.readouterr()
    (error,) = (line for line in captured.err.splitlines() if line.startswith("error: "))
    assert said in error
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", READERS)
def test_any_bytes_are_refused_in_one_line(
    layout: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, content in enumerate((b"", b"\x80\x04\x95cposix\nsystem\n", b"{" * 5000, b"[1, 2]", bytes(range(256)))):
        log.write_bytes(content)
        assert main(_import(log, "--from", layout)) == 2, number
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1


def test_a_file_that_is_not_there_exits_4_and_an_unknown_task_says_what_it_may_be(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_import(tmp_path / "none.log")) == 4
    assert main(_import(log, "--task", "ade2k")) == 0
    assert "no published number is known of task 'ade2k'. Did you mean 'ade20k'?" in capsys.readouterr().err


def test_a_setting_that_nothing_was_published_of_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_import(log)) == 0
    assert "nothing was published of setting 'unknown'. State it" in capsys.readouterr().err


def test_our_own_predictions_give_our_own_number_again(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"{i}", "truth": "dog", "prediction": "dog" if i < 6 else "cat"} for i in range(8)]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert main(_import(log, "--from", "rows", "--profile", "mini")) == 0
    record = Record.from_json(capsys.readouterr().out)
    assert (record.metrics[0].value, record.metrics[0].n, record.profile) == (75.0, 8, "mini")


def test_what_was_imported_can_be_exported_and_says_where_it_comes_from(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_import(log, "--like", "V7", "-o", str(tmp_path / "out"))) == 0
    for form in ("lm-eval", "mteb", "model-index", "model-card"):
        capsys.readouterr()
        assert main(["export", str(tmp_path / "out"), "--to", form]) == 0
        assert "imported-4b" in capsys.readouterr().out or form == "mteb"
