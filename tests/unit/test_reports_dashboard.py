"""The dashboard: a view in the store, its address on the loopback, and pages for a database alone."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from reports.cli import main
from reports.dashboard import COLUMNS, VIEW_TAG
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record
from reports.run_layout import record_params, record_tags
from reports.sender import log_records
from reports.store import open_client


def _record() -> Record:
    data = DataInfo(name="ESC-50", version="x", root_name="esc", digest="d", n=200, n_expected=200, ids_sha256="e5")
    fields: dict[str, Any] = {"run_id": "r1", "task": "esc50", "dataset": "ESC-50", "split": "all", "profile": "mini"}
    fields |= {"model_size": "mini", "setting": "zero-shot", "protocol": "p/zero-shot", "protocol_sha256": "ab"}
    fields |= {"metrics": (MetricValue(name="accuracy", value=81.0),), "data": data, "config": {}, "dtype": "float32"}
    fields |= {"checkpoint": CheckpointInfo(name="mini.safetensors", sha256="c0ffee", loaded=10), "device": "cpu"}
    fields |= {"seed": 0, "commit": "0123456789", "is_dirty": False, "versions": {}, "command": "run"}
    return Record(**fields, started_at="2024-01-31T12:00:00+00:00", duration_s=3.5)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the process would have become."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: commands.append(command))
    return commands


def test_the_pages_are_opened_at_a_view_of_results_on_the_loopback_address(
    store_uri: str, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    log_records([_record()], tracking_uri=store_uri, command="run")
    assert main(["dashboard", "--tracking-uri", store_uri, "--port", "5001"]) == 0
    experiment = open_client(store_uri).get_experiment_by_name("one-peace/downstream")
    lines = capsys.readouterr().out.splitlines()
    place = f"http://127.0.0.1:5001/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=onepeace"
    assert lines == [f"results:     {place}", "stop with Ctrl-C"]
    assert json.loads(experiment.tags[VIEW_TAG])["selectedColumns"] == list(COLUMNS)
    (command,) = started
    assert command[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--backend-store-uri") + 1] == store_uri


def test_every_column_is_something_that_a_record_has() -> None:
    known = {f"params.`{name}`" for name in record_params(_record())}
    known |= {f"tags.`{name}`" for name in (*record_tags(_record()), "verdict", "comparable_with_paper")}
    assert set(COLUMNS) <= known


def test_nothing_recorded_exits_4_with_one_line(
    store_uri: str, tmp_path: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for uri in (f"sqlite:///{tmp_path / 'none.db'}", store_uri):
        assert main(["dashboard", "--tracking-uri", uri]) == 4
        captured = capsys.readouterr()
        assert captured.err.startswith("error: no record in sqlite:///")
        assert captured.err.count("\n") == 1
    assert started == []
    assert not (tmp_path / "none.db").exists()
