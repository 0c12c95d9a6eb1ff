"""The sub-commands of the page: one file, whole or not at all, in four forms of the same data."""

import json
from pathlib import Path
from typing import Any

import pytest

from reports.cli import main
from reports.page.data import Page
from reports.page.fit import MAX_BYTES
from reports.page.run_files import StoreFiles
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, write_record
from reports.sender import log_records
from reports.store import EXPERIMENT
from reports.training_run import EXPERIMENT as PRETRAIN_EXPERIMENT


def _record(**changes: Any) -> Record:
    data = DataInfo(name="E", version="miniworld", root_name="e", digest="d", n=8, n_expected=8, ids_sha256="e5")
    fields: dict[str, Any] = {"run_id": "r1", "task": "esc50", "dataset": "E", "split": "all", "profile": "mini"}
    fields |= {"model_size": "mini", "setting": "zero-shot", "protocol": "p/zero-shot", "protocol_sha256": "ab"}
    fields |= {"metrics": (MetricValue(name="accuracy", value=91.7654321, n=8),), "data": data, "config": {}, "seed": 0}
    fields |= {"checkpoint": CheckpointInfo(name="w", sha256=None, loaded=1), "commit": "0123456", "is_dirty": False}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 1.0, "versions": {}, "command": "c"}
    fields |= {"dtype": "float32", "device": "cpu"}
    return Record(**{**fields, **changes})


@pytest.mark.parametrize("form", ["html", "md", "csv", "json"])
def test_every_form_is_written_whole_and_twice_alike(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(_record(), tmp_path / "runs" / "a")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "esc50.yaml").write_text("title: ESC-50\ntargets: []\n", encoding="utf-8")
    target = tmp_path / "out" / "page.txt"
    args = [form, "--records", str(tmp_path / "runs"), "--configs", str(tmp_path / "configs"), "-o"]
    assert main([*args, str(target)]) == 0
    first = target.read_bytes()
    assert "1 results of 1 records" in capsys.readouterr().out
    assert b"91.7" in first
    assert len(first) < MAX_BYTES
    assert main([*args, str(target)]) == 0
    assert target.read_bytes() == first
    assert [path.name for path in target.parent.iterdir()] == ["page.txt"]
    capsys.readouterr()
    assert main([*args, "-"]) == 0
    assert capsys.readouterr().out == first.decode()


def test_the_json_is_the_pages_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(_record(), tmp_path)
    assert main(["json", "--records", str(tmp_path), "-o", "-"]) == 0
    text = capsys.readouterr().out
    page = Page.model_validate_json(text)
    assert page.to_json() == text
    assert json.loads(text)["runs"][0]["title"] == "ESC-50 zero-shot sound classification"  # of the task's config
    assert {one.id for one in page.open} >= {"A5", "V7"}


def test_records_and_files_come_from_mlflow_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri, folder = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "run"
    record = _record(artifacts={"predictions": "predictions.jsonl", "labels": "labels"})
    write_record(record, folder)
    (folder / "labels").mkdir()
    (folder / "labels" / "a.png").write_bytes(b"png")
    row = {"id": "a", "truth": "x", "prediction": "x", "share": 0.5}
    (folder / "predictions.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (folder / "log.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n', encoding="utf-8")
    log_records([record], tracking_uri=uri, command="c", folders={record.run_id: folder})
    stage = _record(run_id="s", task="pretrain_stage1")
    log_records([stage], tracking_uri=uri, command="c", experiment=PRETRAIN_EXPERIMENT)
    assert main(["json", "--tracking-uri", uri, "--runs", str(tmp_path / "none"), "-o", "-"]) == 0
    page = Page.model_validate_json(capsys.readouterr().out)
    assert [run.task for run in page.runs] == ["esc50", "pretrain_stage1"]
    assert [curve.name for curve in page.runs[0].curves] == ["loss"]
    assert [sample.id for sample in page.runs[0].samples.best] == ["a"]
    with StoreFiles(uri, (EXPERIMENT, "no such experiment")) as store:
        found = store.find(record, "log.jsonl")
        assert found is not None
        assert found.is_file()
        assert store.find(record, "labels") is None  # no file
        label = store.find(record, "labels/a.png")
        assert label is not None
        assert label.read_bytes() == b"png"
        assert store.find(_record(run_id="it's"), "log.jsonl") is None
    assert not found.exists()  # nothing fetched is left


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--records", "{}/none"], "no folder"),
        (["--records", "{}"], "no record"),
        (["--tracking-uri", "sqlite:///{}/x.db"], "no record"),
    ],
)
def test_nothing_recorded_exits_4_with_one_line_and_writes_nothing(
    args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["html", *(arg.format(tmp_path) for arg in args), "-o", str(tmp_path / "page.html")]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {said}")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_data_root_that_is_not_there_exits_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(_record(), tmp_path / "runs")
    args = ["html", "--records", str(tmp_path / "runs"), "--data-root", str(tmp_path / "gone"), "-o", "-"]
    assert main(args) == 4
    assert "Name one that holds data sets with --data-root." in capsys.readouterr().err
