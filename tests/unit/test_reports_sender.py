"""A record has one whole run in the store, whatever was cut short, sent twice or changed before."""

import json
import math
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.command_note import NOTE_FILE, read_note
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict, write_record
from reports.run_layout import LONG_FILE
from reports.sender import log_records, warn_unsent
from reports.store import StoreError, find_experiment, load_records, open_client

COMMAND = "python downstream/run.py esc50"
STEPS = ("create_run", "log_batch", "log_inputs", "log_dict", "log_artifact", "log_artifacts", "set_terminated")


def _record(run_id: str = "r1", **changes: Any) -> Record:
    data = DataInfo(
        name="ESC-50", version="x", root_name="esc", digest="d" * 64, n=2000, n_expected=2000, ids_sha256="e5"
    )
    metric = MetricValue(name="accuracy", value=91.75, n=2000, hits=1835, ci_low=90.5, ci_high=92.9)
    fields: dict[str, Any] = {"run_id": run_id, "task": "esc50", "dataset": "ESC-50", "split": "all"}
    fields |= {"profile": "paper", "model_size": "4b", "setting": "zero-shot", "protocol": "audio-15s-prompt/zero-shot"}
    fields |= {"protocol_sha256": "ab", "metrics": (metric,), "data": data, "config": {}, "dtype": "bfloat16"}
    fields |= {"checkpoint": CheckpointInfo(name="one-peace.pt", sha256="c0ffee01", loaded=10), "device": "cuda"}
    fields |= {"seed": 0, "commit": "0123456789", "is_dirty": False, "versions": {"torch": "2.11.0"}}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": COMMAND}
    return Record(**{**fields, **changes})


def _folder(record: Record, place: Path) -> Path:
    write_record(record, place)
    (place / "labels").mkdir()
    for name in ("predictions.jsonl", "labels/1.png", "labels/2.png"):
        (place / name).write_text(name, encoding="utf-8")
    return place


def _runs(uri: str, *, deleted: bool = False) -> list[Any]:
    client = open_client(uri)
    experiment = find_experiment(client, "one-peace/downstream", tracking_uri=uri)
    return list(client.search_runs([experiment], run_view_type=3 if deleted else 1))


def _nested(uri: str) -> list[Any]:
    return [run for run in _runs(uri) if "mlflow.parentRunId" in run.data.tags]


def _artifacts(uri: str, run_id: str, path: str | None = None) -> set[str]:
    found: set[str] = set()
    for item in open_client(uri).list_artifacts(run_id, path):
        found |= _artifacts(uri, run_id, item.path) if item.is_dir else {item.path}
    return found


class DyingClient:
    """MLflow's client until a number of its steps were taken; then the store is gone."""

    def __init__(self, client: Any, steps: int) -> None:
        self._client, self._left = client, steps

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._counted(method) if name in STEPS else method

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._left == 0:
                raise ConnectionError("the server was killed")
            self._left -= 1
            return method(*args, **options)

        return call


def _arrives(record: Record, uri: str, folder: Path) -> bool:
    try:
        log_records([record], tracking_uri=uri, command=COMMAND, folders={"r1": folder})
    except StoreError as error:
        if "the server was killed" not in str(error):
            raise
        return False
    return True


def test_wherever_the_store_dies_the_record_is_completed_later_and_is_there_once(
    store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = _record(artifacts={"predictions": "predictions.jsonl", "labels": "labels"})
    folder = _folder(record, tmp_path / "run")
    num_deaths = 0
    with monkeypatch.context() as patch:
        # Each number of steps twice: the second time the runs are there, and another step is the last.
        patch.setattr("reports.sender.open_client", lambda uri: DyingClient(open_client(uri), num_deaths // 2))
        while not _arrives(record, store_uri, folder):
            num_deaths += 1
            assert len(_runs(store_uri)) <= 2
    assert num_deaths >= 18
    log_records([record], tracking_uri=store_uri, command=COMMAND, folders={"r1": folder})
    assert load_records(store_uri) == (record,)
    (run,) = _nested(store_uri)
    assert len(_runs(store_uri, deleted=True)) == 2
    assert {run.info.status for run in _runs(store_uri)} == {"FINISHED"}
    assert run.data.metrics["esc50/all/accuracy"] == 91.75
    expected = {"record.json", "predictions.jsonl", "labels/1.png", "labels/2.png", "environment.json"}
    assert _artifacts(store_uri, run.info.run_id) == expected
    assert len(run.inputs.dataset_inputs) == 1
    history = open_client(store_uri).get_metric_history(run.info.run_id, "esc50/all/accuracy")
    assert len(history) == 1


def test_a_record_that_was_made_anew_under_its_id_takes_the_place_of_the_old_one(store_uri: str) -> None:
    better = _record(metrics=(MetricValue(name="accuracy", value=80.0, n=2000),))
    for record in (_record(), better, better):
        log_records([record], tracking_uri=store_uri, command=COMMAND)
    assert load_records(store_uri) == (better,)
    assert len(_nested(store_uri)) == 1
    assert _nested(store_uri)[0].data.metrics["esc50/all/accuracy"] == 80.0


def test_any_run_id_is_found_again_and_mistaken_for_no_other(store_uri: str) -> None:
    ids = ("a_b", "aXb", "a'b", "a%", "back\\slash\u00e9")
    records = [_record(run_id) for run_id in ids]
    for _ in range(2):
        for record in records:
            log_records([record], tracking_uri=store_uri, command=COMMAND)
    assert sorted(record.run_id for record in load_records(store_uri)) == sorted(ids)
    assert len(_nested(store_uri)) == len(ids)


def test_the_records_of_a_command_have_one_parent_however_often_they_are_sent(store_uri: str, tmp_path: Path) -> None:
    records = [_record("a"), _record("b", task="fsd50k")]
    folders = {record.run_id: _folder(record, tmp_path / record.run_id) for record in records}
    first = log_records(records, tracking_uri=store_uri, command=COMMAND, folders=folders)
    assert log_records(records[1:], tracking_uri=store_uri, command=COMMAND, folders=folders) == first
    assert {run.data.tags["mlflow.parentRunId"] for run in _nested(store_uri)} == {first}
    assert read_note(folders["a"]) == read_note(folders["b"]) is not None
    other = log_records([_record("c")], tracking_uri=store_uri, command=COMMAND)
    assert other != first


def test_a_run_sent_before_commands_were_noted_keeps_its_parent(store_uri: str, tmp_path: Path) -> None:
    record = _record()
    first = log_records([record], tracking_uri=store_uri, command=COMMAND)
    folder = _folder(record, tmp_path / "run")
    assert log_records([record], tracking_uri=store_uri, command=COMMAND, folders={"r1": folder}) == first
    assert len(_runs(store_uri)) == 2


def test_a_damaged_note_is_written_anew_and_a_folder_that_takes_none_costs_nothing(
    store_uri: str, tmp_path: Path
) -> None:
    folder = _folder(_record(), tmp_path / "run")
    for text in ("{", "[]", '{"command_id": 3, "experiment": "x"}', '{"command_id": "", "experiment": "x"}'):
        (folder / NOTE_FILE).write_text(text, encoding="utf-8")
        assert read_note(folder) is None
    log_records([_record()], tracking_uri=store_uri, command=COMMAND, folders={"r1": folder})
    assert read_note(folder) is not None
    gone = {"r1": tmp_path / "gone"}
    log_records([_record()], tracking_uri=store_uri, command=COMMAND, folders=gone)
    assert not gone["r1"].exists()


def test_what_has_no_room_stands_whole_in_an_artifact(store_uri: str, tmp_path: Path) -> None:
    command = "python downstream/run.py esc50 " + "x" * 9000
    parent = log_records([_record(command=command, device="y" * 6001)], tracking_uri=store_uri, command=command)
    (run,) = _nested(store_uri)
    client = open_client(store_uri)
    for run_id, key, value in (
        (run.info.run_id, "mlflow.source.name", command),
        (run.info.run_id, "device", "y" * 6001),
        (parent, "command", command),
    ):
        path = Path(client.download_artifacts(run_id, LONG_FILE, str(tmp_path)))
        assert json.loads(path.read_text(encoding="utf-8"))[key] == value


def test_no_password_of_a_command_reaches_the_store(store_uri: str) -> None:
    command = "python downstream/run.py esc50 --tracking-uri https://me:hunter2@host"
    log_records([_record(command=command)], tracking_uri=store_uri, command=command)
    database = Path(store_uri.removeprefix("sqlite:///")).read_bytes()
    assert b"https://host" in database
    assert b"hunter2" not in database


def test_names_written_alike_and_numbers_that_are_none_are_kept_apart(store_uri: str) -> None:
    metrics = tuple(
        MetricValue(name=name, value=value) for name, value in {"a@b": 1.0, "a_at_b": 2.0, "c": math.inf}.items()
    )
    record = _record(metrics=(*metrics, MetricValue(name="d", value=math.nan)))
    log_records([record], tracking_uri=store_uri, command=COMMAND)
    (run,) = _nested(store_uri)
    assert run.data.metrics["esc50/all/a_at_b"] == 1.0
    assert run.data.metrics["esc50/all/a_at_b_2"] == 2.0
    assert math.isnan(run.data.metrics["esc50/all/d"])
    assert "esc50/all/c" not in run.data.metrics
    assert run.data.tags["not_finite.esc50/all/c"] == "inf"
    assert load_records(store_uri)[0].to_json() == record.to_json()


def test_a_run_says_its_result_in_words_and_every_verdict(store_uri: str) -> None:
    fields: dict[str, Any] = {"metric": "accuracy", "published": 91.8, "printed": "91.8", "source": "T7"}
    fields |= {"gap": -0.05, "verdict": Verdict.MATCH, "reason": "near", "profile": "paper"}
    twice = (Comparison(target_id="A5", **fields), Comparison(target_id="T18", **{**fields, "reason": "nearer"}))
    log_records([_record(comparisons=twice)], tracking_uri=store_uri, command=COMMAND)
    tags = _nested(store_uri)[0].data.tags
    assert tags["result"] == "accuracy 91.75 [90.50, 92.90], paper 91.8"
    assert tags["verdict.accuracy"] == "match: near"
    assert tags["verdict.accuracy.T18"] == "match: nearer"
    assert tags["mlflow.note.content"].startswith("| task | split |")


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(StoreError, match=f"could not write to {uri}") as caught:
            log_records([_record()], tracking_uri=uri, command=COMMAND, folders={"r1": tmp_path})
    assert time.monotonic() - began < 15
    assert read_note(tmp_path) is not None  # so that a later sync finds what belongs together
    line = warn_unsent(caught.value)
    assert "\n" not in line
    assert line.endswith("the result is on disk, `python reports/run.py sync` sends it")
