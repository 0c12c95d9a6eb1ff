"""A live run: what is logged arrives, whatever happens to the store, and no step waits for it."""

import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.live import LiveRun, find_run_id, resend
from reports.log_file import LOG_FILE, encode_row
from reports.run_layout import LONG_FILE
from reports.store import StoreError, open_client
from reports.training_run import LAST_STEP_TAG, LIVE_FILE, read_identity

TIME_S = 1_767_225_600.123


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that a live run made, once, in its background."""
    folder = tmp_path_factory.mktemp("made")
    began = time.monotonic()
    live = _start(folder, f"sqlite:///{folder / 'mlflow.db'}", experiment="first")
    assert time.monotonic() - began < 0.5
    assert live.finish(limit_s=120.0), live.news()
    return folder / "mlflow.db"


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    """A database of one's own, ready."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a training."""
    path = tmp_path / "training"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "live-run":
            thread.join(10)
            assert not thread.is_alive()


def _start(folder: Path, uri: str, **changes: Any) -> LiveRun:
    options: dict[str, Any] = {
        "name": "stage1-mini",
        "params": {"lr": 1e-3, "a b": "x" * 7000},
        "tags": {"size": "mini"},
    }
    return LiveRun.start(
        **{**options, "tracking_uri": uri, "folder": folder, "every_s": 0.02, "retry_s": 0.02, **changes}
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def _run(uri: str, run_id: str | None) -> Any:
    return open_client(uri).get_run(run_id)


def _curve(uri: str, run_id: str | None, key: str) -> list[tuple[int, float, int]]:
    history = open_client(uri).get_metric_history(run_id, key)
    return sorted((point.step, point.value, point.timestamp) for point in history)


def _write_log(folder: Path, num_steps: int) -> None:
    lines = (encode_row(step, TIME_S + step, {"loss": 1 / step, "lr": 0.1}) for step in range(1, num_steps + 1))
    (folder / LOG_FILE).write_text("".join(lines))


def _log(live: LiveRun, steps: range) -> None:
    for step in steps:
        live.log(step, {"loss": 1 / step, "lr": 0.1}, time_s=TIME_S + step)


class BrokenStore:
    """Stands for MLflow's client; fails as long as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self.calls = 0
        self.is_broken = True
        self._error = error
        monkeypatch.setattr("reports.training_run.open_client", self._open)

    def _open(self, tracking_uri: str) -> Any:
        self.calls += 1
        if self.is_broken:
            raise self._error
        return open_client(tracking_uri)


def test_everything_that_is_logged_arrives_with_its_time(uri: str, folder: Path) -> None:
    live = _start(folder, uri)
    _log(live, range(1, 121))
    assert live.finish()
    run_id = find_run_id(folder)
    assert _curve(uri, run_id, "loss") == [(s, 1 / s, round((TIME_S + s) * 1000)) for s in range(1, 121)]
    run = _run(uri, run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "stage1-mini")
    assert run.data.params == {"lr": "0.001", "a b": "x" * 6000}
    assert (run.data.tags["size"], run.data.tags[LAST_STEP_TAG]) == ("mini", "120")
    assert live.news() == [f"MLflow: run {run_id} in {uri}"]


def test_a_long_param_stands_whole_in_an_artifact(uri: str, folder: Path, tmp_path: Path) -> None:
    live = _start(folder, uri)
    assert live.finish()
    run_id = find_run_id(folder)
    assert _run(uri, run_id).data.params["a b"] == "x" * 6000
    path = open_client(uri).download_artifacts(run_id, LONG_FILE, str(tmp_path))
    assert json.loads(Path(path).read_text(encoding="utf-8")) == {"a b": "x" * 7000}


def test_values_arrive_while_the_training_goes_on(uri: str, folder: Path) -> None:
    live = _start(folder, uri)
    live.settle()
    _log(live, range(1, 3))
    _wait_for(lambda: len(_curve(uri, find_run_id(folder), "loss")) == 2)
    assert _run(uri, find_run_id(folder)).info.status == "RUNNING"
    assert live.finish("FAILED")
    assert _run(uri, find_run_id(folder)).info.status == "FAILED"


def test_nan_is_a_value_and_infinity_a_tag(uri: str, folder: Path) -> None:
    live = _start(folder, uri)
    for step, value in enumerate((1.0, math.nan, math.inf, 2.0), start=1):
        live.log(step, {"loss": value}, time_s=TIME_S)
    assert live.finish()
    curve = _curve(uri, find_run_id(folder), "loss")
    assert [step for step, _, _ in curve] == [1, 2, 4]
    assert math.isnan(curve[1][1])
    assert _run(uri, find_run_id(folder)).data.tags["not_finite.loss"] == "inf at step 3"


def test_files_are_kept_and_missing_ones_are_told(uri: str, folder: Path) -> None:
    (folder / "config.yaml").write_text("a: 1\n")
    live = _start(folder, uri, params={"lr": 1e-3})
    assert live.finish(artifacts=[folder / "config.yaml", folder / "none.txt"])
    assert [file.path for file in open_client(uri).list_artifacts(find_run_id(folder))] == ["config.yaml"]
    assert any(line.endswith("none.txt to keep") for line in live.news())


def test_a_continued_run_has_every_step_once(uri: str, folder: Path) -> None:
    first = _start(folder, uri)
    _log(first, range(1, 8))
    assert first.finish("KILLED")
    run_id = find_run_id(folder)
    second = _start(folder, uri, run_id=run_id, params={"lr": 0.5, "new": 1})
    second.settle()
    assert (_run(uri, run_id).info.status, second.news()) == (
        "RUNNING",
        [f"MLflow: run {run_id} in {uri}, continued after step 7"],
    )
    _log(second, range(5, 11))
    assert second.finish()
    assert find_run_id(folder) == run_id
    assert [step for step, _, _ in _curve(uri, run_id, "loss")] == list(range(1, 11))
    run = _run(uri, run_id)
    assert (run.data.params["lr"], run.data.params["new"], run.data.tags["changed.lr"]) == ("0.001", "1", "0.5")


def test_a_run_that_the_store_does_not_know_is_begun_anew_and_told(uri: str, folder: Path) -> None:
    live = _start(folder, uri, run_id="f" * 32)
    _log(live, range(1, 3))
    assert live.finish()
    assert "is not in" in live.news()[0]
    assert find_run_id(folder) != "f" * 32
    assert len(_curve(uri, find_run_id(folder), "loss")) == 2


def test_a_store_that_comes_back_gets_everything(uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BrokenStore(monkeypatch, OSError("no route\nto host"))
    live = _start(folder, uri)
    _log(live, range(1, 4))
    _wait_for(lambda: store.calls >= 3)
    assert live.news() == [f"MLflow: could not write to {uri}: no route; the training goes on, its log is on disk"]
    store.is_broken = False
    _log(live, range(4, 6))
    assert live.finish()
    assert [step for step, _, _ in _curve(uri, find_run_id(folder), "loss")] == [1, 2, 3, 4, 5]


def test_a_dead_store_costs_one_line_and_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BrokenStore(monkeypatch, OSError("https://me:secret@host/api is down"))
    live = _start(folder, "https://me:secret@host")
    _log(live, range(1, 4))
    assert not live.finish()
    first, last = live.news()
    assert "could not write to https://host: https://host/api is down" in first
    assert "3 steps did not reach https://host; `python reports/run.py sync` sends" in last
    assert "secret" not in (folder / LIVE_FILE).read_text()
    assert (find_run_id(folder), read_identity(folder).status) == (None, "FINISHED")


def test_a_store_that_hangs_holds_nothing_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def hang(_: str) -> Any:
        gate.wait(20)
        raise OSError("gave up")

    monkeypatch.setattr("reports.training_run.open_client", hang)
    began = time.monotonic()
    live = _start(folder, "https://host")
    _log(live, range(1, 1001))
    live.settle(limit_s=0.02)
    assert not live.finish(limit_s=0.05)
    assert time.monotonic() - began < 2
    assert "1000 steps did not reach" in live.news()[-1]
    gate.set()


def test_what_does_not_fit_into_memory_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.live.MAX_WAITING", 4)
    BrokenStore(monkeypatch, OSError("down"))
    live = _start(folder, "https://host")
    _log(live, range(1, 11))
    assert not live.finish()
    assert "10 steps did not reach" in live.news()[-1]


def test_a_training_whose_store_was_down_is_sent_from_its_log(
    uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        BrokenStore(patch, OSError("down"))
        _start(folder, uri).finish("FAILED")
    _write_log(folder, 30)
    assert resend(folder, uri) == 60
    run = _run(uri, find_run_id(folder))
    before = _curve(uri, find_run_id(folder), "loss")
    assert [step for step, _, _ in before] == list(range(1, 31))
    assert (run.info.status, run.info.start_time, run.info.end_time) == (
        "FAILED",
        round((TIME_S + 1) * 1000),
        round((TIME_S + 30) * 1000),
    )
    assert resend(folder, uri) == 0
    assert _curve(uri, find_run_id(folder), "loss") == before
    assert _run(uri, find_run_id(folder)).info.end_time == run.info.end_time


def test_only_what_is_missing_is_sent_again(uri: str, folder: Path) -> None:
    _write_log(folder, 10)
    first = _start(folder, uri)
    _log(first, range(1, 4))
    first.finish("KILLED")
    second = _start(folder, uri, run_id=find_run_id(folder))
    _log(second, range(8, 11))  # the store was down in between
    second.finish()
    assert resend(folder, uri) == 2 * 4
    assert [step for step, _, _ in _curve(uri, find_run_id(folder), "lr")] == list(range(1, 11))


def test_resending_says_in_one_line_what_is_wrong(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no log\.jsonl"):
        resend(folder, "https://host")
    _write_log(folder, 2)
    with pytest.raises(FileNotFoundError, match=r"no live\.json"):
        resend(folder, "https://host")
    (folder / LIVE_FILE).write_text('{"name": 1')
    with pytest.raises(ValueError, match="is damaged"):
        resend(folder, "https://host")
    (folder / LIVE_FILE).write_text('{"name": "n", "params": {}, "tags": {}}')
    (tmp_path / "mlflow.db").write_text("this is no database, and never was one\n" * 99)
    with pytest.raises(StoreError, match="could not write to sqlite:") as caught:
        resend(folder, f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make the training's folder"):
        _start(tmp_path / "none", "https://host")
    assert find_run_id(tmp_path) is None
