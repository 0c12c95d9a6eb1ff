"""A sync: what lies on disk is in the store afterwards, once, however often it is asked for."""

from pathlib import Path
from typing import Any

import pytest

from reports.cli import main
from reports.command_note import read_note
from reports.live import LiveRun
from reports.log_file import LOG_FILE, encode_row
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, write_record
from reports.sender import Sent, log_records
from reports.store import find_experiment, load_records, open_client
from reports.sync import sync
from reports.table import STYLES
from reports.training_run import EXPERIMENT as PRETRAIN
from reports.training_run import read_identity

TIME_S = 1_767_225_600.0


def _record(run_id: str, **changes: Any) -> Record:
    data = DataInfo(name="ESC-50", version="x", root_name="esc", digest="d", n=200, n_expected=200, ids_sha256="e5")
    metric = MetricValue(name="accuracy", value=81.0, n=200, hits=162, ci_low=75.0, ci_high=86.0)
    fields: dict[str, Any] = {"run_id": run_id, "task": "esc50", "dataset": "ESC-50", "split": "all"}
    fields |= {"profile": "mini", "model_size": "mini", "setting": "zero-shot", "protocol": "audio-15s/zero-shot"}
    fields |= {"protocol_sha256": "ab", "metrics": (metric,), "data": data, "config": {}, "dtype": "float32"}
    fields |= {"checkpoint": CheckpointInfo(name="mini.safetensors", sha256="c0ffee", loaded=10), "device": "cpu"}
    fields |= {"seed": 0, "commit": "0123456789", "is_dirty": False, "versions": {}}
    fields |= {
        "started_at": "2024-01-31T12:00:00+00:00",
        "duration_s": 3.5,
        "command": "python downstream/run.py esc50",
    }
    return Record(**{**fields, **changes})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two records of one command, one of another, one of pretraining."""
    folder = tmp_path / "runs"
    write_record(_record("a-zs"), folder / "a" / "zero-shot")
    write_record(_record("a-ft", setting="fine-tuned"), folder / "a" / "fine-tuned")
    write_record(_record("b", task="fsd50k", command="python downstream/run.py fsd50k"), folder / "b")
    write_record(_record("c", task="pretrain_stage1", command="python pretrain/run.py stage1"), folder / "c")
    return folder


def _nested(uri: str, experiment: str = "one-peace/downstream") -> dict[str, Any]:
    """Give the runs of records by the record's id; each has to be there once."""
    client = open_client(uri)
    found = client.search_runs([find_experiment(client, experiment, tracking_uri=uri)])
    listed = [run for run in found if "record_run_id" in run.data.tags]
    runs = {run.data.tags["record_run_id"]: run for run in listed}
    assert len(runs) == len(listed)
    return runs


def test_everything_on_disk_is_sent_once_and_the_table_is_that_of_the_disk(
    runs: Path, store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync([runs], store_uri).records == {Sent.NEW: 4}
    assert sync([runs], store_uri).records == {Sent.THERE: 4}
    nested = _nested(store_uri)
    assert set(nested) == {"a-zs", "a-ft", "b"}
    assert set(_nested(store_uri, PRETRAIN)) == {"c"}
    parents = {name: run.data.tags["mlflow.parentRunId"] for name, run in nested.items()}
    assert parents["a-zs"] == parents["a-ft"] != parents["b"]
    (runs / "c" / "record.json").unlink()  # of another experiment
    for style in STYLES:
        assert main(["table", "--format", style, "--records", str(runs)]) == 0
        from_disk = capsys.readouterr().out
        assert main(["table", "--format", style, "--tracking-uri", store_uri]) == 0
        assert capsys.readouterr().out == from_disk


def test_a_run_that_was_cut_short_is_completed_under_its_own_parent(runs: Path, store_uri: str) -> None:
    folder = runs / "a" / "zero-shot"
    record = _record("a-zs")
    parent_id = log_records([record], tracking_uri=store_uri, command=record.command, folders={"a-zs": folder})
    client = open_client(store_uri)
    (run,) = _nested(store_uri).values()
    client.delete_tag(run.info.run_id, "onepeace.record.chunks")
    client.update_run(run.info.run_id, status="RUNNING")
    assert load_records(store_uri) == ()
    outcome = sync([runs / "a"], store_uri)
    assert outcome.records == {Sent.COMPLETED: 1, Sent.NEW: 1}
    assert {record.run_id for record in load_records(store_uri)} == {"a-zs", "a-ft"}
    completed = _nested(store_uri)["a-zs"]
    assert (completed.info.run_id, completed.info.status) == (run.info.run_id, "FINISHED")
    assert completed.data.tags["mlflow.parentRunId"] == parent_id


def test_a_second_store_gets_the_same_runs_under_the_same_note(runs: Path, store_uri: str, tmp_path: Path) -> None:
    sync([runs], store_uri)
    note = read_note(runs / "b")
    other = f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mlflow.db").write_bytes(Path(store_uri.removeprefix("sqlite:///")).read_bytes())
    assert sync([runs], other).records == {Sent.THERE: 4}
    assert read_note(runs / "b") == note


def test_records_below_a_noted_folder_bring_the_files_of_that_folder(store_uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "ablation"
    record = _record("t", task="pretrain_ablation_sharing", artifacts={"plot": "plot.png"})
    write_record(record, folder / "records" / record.task)
    (folder / "plot.png").write_bytes(b"png")
    log_records([record], tracking_uri=store_uri, command="a", folders={"t": folder}, experiment=PRETRAIN)
    client = open_client(store_uri)
    (run,) = _nested(store_uri, PRETRAIN).values()
    client.delete_run(run.info.run_id)
    assert sync([tmp_path / "runs"], store_uri).records == {Sent.NEW: 1}
    (again,) = _nested(store_uri, PRETRAIN).values()
    assert {file.path for file in client.list_artifacts(again.info.run_id)} == {"plot.png", "environment.json"}


def test_a_faulty_record_is_told_and_costs_the_others_nothing(
    runs: Path, store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "a" / "zero-shot" / "record.json").write_text("{}", encoding="utf-8")
    assert main(["sync", str(runs), "--tracking-uri", store_uri]) == 2
    captured = capsys.readouterr()
    assert captured.out == "3 records: 3 sent\n"
    assert captured.err.startswith("error: zero-shot/record.json: record of schema version None")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["{}/none"], "error: no folder"),
        (["{}", "--tracking-uri", "http://127.0.0.1:9"], "error: could not write to http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_is_one_line_and_exits_4(
    args: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["sync", *(arg.format(runs) for arg in args)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1


def test_nothing_on_disk_is_nothing_to_send(tmp_path: Path, store_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", str(tmp_path / "store"), "--tracking-uri", store_uri]) == 0
    assert capsys.readouterr().out == "0 records: none\n"


def test_a_training_whose_store_was_down_is_sent_from_its_log(
    store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "training"
    folder.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr("reports.training_run.open_client", _refuse)
        live = LiveRun.start(tracking_uri="http://x", folder=folder, name="stage1", params={}, tags={}, every_s=0.01)
        live.finish()
    rows = (encode_row(step, TIME_S + step, {"loss": 1 / step}) for step in (1, 2, 3))
    (folder / LOG_FILE).write_text("".join(rows), encoding="utf-8")
    for sent in (3, 0):
        assert main(["sync", str(tmp_path / "runs"), "--tracking-uri", store_uri]) == 0
        assert capsys.readouterr().out == f"0 records: none\n1 trainings: {sent} values sent\n"
    history = open_client(store_uri).get_metric_history(read_identity(folder).run_id, "loss")
    assert [point.step for point in history] == [1, 2, 3]
    (folder / "live.json").write_text("{", encoding="utf-8")
    assert main(["sync", str(tmp_path / "runs"), "--tracking-uri", store_uri]) == 2
    assert "live.json is damaged" in capsys.readouterr().err


def _refuse(_: str) -> Any:
    raise OSError("no route to host")
