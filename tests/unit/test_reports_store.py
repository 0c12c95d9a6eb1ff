"""MLflow: what goes in comes out of the database alone, without a word on the way, and no failure is a traceback."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.cli import main
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict, write_record
from reports.run_layout import metric_key, record_metrics, record_tags, run_name
from reports.sender import log_records
from reports.store import StoreError, load_records, shown_uri
from reports.table import STYLES, render_table

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python downstream/run.py ade20k"


def _comparison(gap: float | None, **changes: Any) -> Comparison:
    fields: dict[str, Any] = {"target_id": "V7", "metric": "miou", "published": 62.0, "printed": "62.0"}
    fields |= {"source": "P-T3", "gap": gap, "verdict": Verdict.MATCH, "reason": "because", "profile": "paper"}
    return Comparison(**{**fields, **changes})


def _record(**changes: Any) -> Record:
    checkpoint = CheckpointInfo(name="ade20k.pth", sha256="c0ffee0123456789", loaded=10)
    data = DataInfo(
        name="ADE20K", version="2016", root_name="ade", digest="d" * 64, n=2000, n_expected=2000, ids_sha256="e5"
    )
    metrics = (
        MetricValue(name="miou", value=61.97, n=2000, ci_low=61.0, ci_high=62.9),
        MetricValue(name="R@1", value=0.1 + 0.2, n=2000),
    )
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "paper"}
    fields |= {"model_size": "4b", "setting": "fine-tuned", "protocol": "slide-896-512/ss", "protocol_sha256": "ab"}
    fields |= {"metrics": metrics, "checkpoint": checkpoint, "data": data, "config": {"a": 1}, "dtype": "float32"}
    fields |= {"device": "cpu", "seed": 0, "commit": "0123456789abcdef", "is_dirty": True, "versions": {}}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": COMMAND}
    return Record(**{**fields, "comparisons": (_comparison(-0.03),), **changes})


def _mini(**changes: Any) -> Record:
    comparison = _comparison(None, verdict=Verdict.NOT_COMPARABLE, profile="mini", reason="profile 'mini'")
    checkpoint = CheckpointInfo(name="random initialisation, seed 0", sha256=None, loaded=0)
    fields: dict[str, Any] = {"run_id": "r2", "profile": "mini", "model_size": "mini", "checkpoint": checkpoint}
    return _record(**{**fields, "comparisons": (comparison,), **changes})


SCRIPT = """
import sys
from pathlib import Path
from reports.record import read_record
from reports.sender import log_records
path = Path(sys.argv[1])
record = read_record(path)
folders = {record.run_id: path.parent}
log_records([record], tracking_uri="sqlite:///mlflow.db", command="a", folders=folders, experiment="first")
"""


@pytest.fixture(scope="session")
def first_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A database that a fresh process made in an empty folder, and what that process said."""
    folder = tmp_path_factory.mktemp("store")
    path = write_record(_record(), tmp_path_factory.mktemp("run"))
    names = ("MLFLOW_LOGGING_LEVEL", "GIT_PYTHON_REFRESH", "CI", "DO_NOT_TRACK")
    env = {key: value for key, value in os.environ.items() if key not in names}
    env |= {"PYTHONPATH": str(ROOT), "HOME": str(folder / "home"), "PATH": str(Path(sys.executable).parent)}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(path)]
    return folder, subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def uri(first_store: tuple[Path, object], tmp_path: Path) -> str:
    """A migrated database of one's own without a record under the usual experiment."""
    shutil.copy(first_store[0] / "mlflow.db", tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def _client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _runs(uri: str) -> list[Any]:
    client = _client(uri)
    experiment = client.get_experiment_by_name("one-peace/downstream")
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def test_a_first_run_in_an_empty_folder_says_nothing_and_stays_in_it(
    first_store: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = first_store
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path.name for path in folder.iterdir()} <= {"mlflow.db", "mlruns"}


def test_the_table_from_the_database_is_the_table_from_the_records(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = _mini(run_id="r3", metrics=(MetricValue(name="miou", value=float("nan")),), task="other")
    records = [_record(), _mini(), nan]
    log_records(records[:2], tracking_uri=uri, command=COMMAND)
    log_records(records[2:], tracking_uri=uri, command=COMMAND)
    loaded = load_records(uri)
    assert [record.to_json() for record in loaded] == [record.to_json() for record in records]
    for style in STYLES:
        assert render_table(loaded, style=style) == render_table(records, style=style)
    assert main(["table", "--tracking-uri", uri]) == 0
    assert capsys.readouterr().out == render_table(records)


def test_a_command_is_a_parent_run_with_one_nested_run_a_record(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_record(_record(artifacts={"predictions": "out/predictions.jsonl", "gone": "none.txt"}), folder)
    (folder / "config.yaml").write_text("a: 1\n", encoding="utf-8")
    (folder / "out").mkdir()
    (folder / "out" / "predictions.jsonl").write_text("{}\n", encoding="utf-8")
    record = _record(artifacts={"predictions": "out/predictions.jsonl", "gone": "none.txt"})
    parent_id = log_records([record, _mini()], tracking_uri=uri, command=COMMAND, folders={"r1": folder})
    runs = {run.info.run_name: run for run in _runs(uri)}
    assert set(runs) == {"ade20k-0123456", "ade20k-val-ss-c0ffee01-0123456", "ade20k-val-ss-random-0123456"}
    nested = runs["ade20k-val-ss-c0ffee01-0123456"]
    assert nested.data.tags["mlflow.parentRunId"] == parent_id == runs["ade20k-0123456"].info.run_id
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert nested.info.end_time - nested.info.start_time == 3500
    assert nested.data.params["protocol"] == "slide-896-512/ss"
    dataset = nested.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("ADE20K-val", "d" * 36)
    artifacts = [file.path for file in _client(uri).list_artifacts(nested.info.run_id)]
    assert artifacts == ["config.yaml", "environment.json", "out", "record.json"]
    assert [file.path for file in _client(uri).list_artifacts(nested.info.run_id, "out")] == ["out/predictions.jsonl"]


def test_only_a_comparable_run_has_a_distance_from_the_paper(uri: str) -> None:
    log_records([_record(), _mini()], tracking_uri=uri, command=COMMAND)
    by_profile = {run.data.params["profile"]: run.data for run in _runs(uri) if "profile" in run.data.params}
    paper, mini = by_profile["paper"], by_profile["mini"]
    assert paper.metrics == {
        "ade20k/val/miou": 61.97,
        "ade20k/val/miou/ci_low": 61.0,
        "ade20k/val/miou/ci_high": 62.9,
        "ade20k/val/miou/paper": 62.0,
        "ade20k/val/miou/delta": -0.03,
        "ade20k/val/r_at_1": 0.1 + 0.2,
    }
    assert set(paper.metrics) - set(mini.metrics) == {"ade20k/val/miou/delta"}
    assert (paper.tags["verdict"], paper.tags["comparable_with_paper"]) == ("match", "yes")
    assert (mini.tags["verdict"], mini.tags["comparable_with_paper"]) == ("not comparable", "no: profile 'mini'")


def test_without_a_published_number_there_is_no_companion() -> None:
    record = _record(comparisons=())
    assert not any(key.endswith(("/paper", "/delta")) for key in record_metrics(record))
    assert "verdict" not in record_tags(record)


def test_a_large_record_comes_back_whole(uri: str) -> None:
    names = tuple(hashlib.sha256(str(i).encode()).hexdigest() for i in range(20_000))
    checkpoint = CheckpointInfo(name="x.pth", sha256=None, loaded=0, missing=len(names), missing_names=names)
    record = _record(checkpoint=checkpoint, command="x" * 20_000)
    log_records([record], tracking_uri=uri, command=record.command)
    assert load_records(uri) == (record,)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM tags WHERE key = 'onepeace.record.000'",
        "UPDATE tags SET value = '1' WHERE key = 'onepeace.record.sha256'",
    ],
)
def test_a_record_that_is_not_whole_is_refused(statement: str, uri: str) -> None:
    log_records([_record()], tracking_uri=uri, command=COMMAND)
    database = sqlite3.connect(uri.removeprefix("sqlite:///"))
    with database:
        database.execute(statement)
    database.close()
    with pytest.raises(StoreError, match=r"not whole|was changed"):
        load_records(uri)


def test_no_store_is_no_record_and_none_is_made(tmp_path: Path, uri: str) -> None:
    assert load_records(f"sqlite:///{tmp_path / 'none.db'}") == ()
    assert not (tmp_path / "none.db").exists()
    assert load_records(uri) == ()


def test_a_failing_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, and never was one\n" * 99, encoding="utf-8")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(StoreError, match="could not write to sqlite:") as caught:
        log_records([_record()], tracking_uri=uri, command=COMMAND)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="could not read sqlite:"):
        load_records(uri)
    with pytest.raises(ValueError, match="no records"):
        log_records([], tracking_uri=uri, command=COMMAND)


def test_a_password_in_an_address_is_not_shown() -> None:
    assert shown_uri("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert shown_uri("sqlite:///a@b.db") == "sqlite:///a@b.db"
    with pytest.raises(StoreError) as caught:
        load_records("nonsense://me:secret@host/x")
    assert "secret" not in str(caught.value)


def test_a_secret_in_the_words_of_a_server_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "https://me:secret@host:5000/"

    def refuse(_: str) -> None:
        raise OSError("request to https://me:secret@host:5000/api failed\nand more")

    monkeypatch.setattr("reports.store.open_client", refuse)
    with pytest.raises(StoreError) as caught:
        load_records(uri)
    assert str(caught.value) == "could not read https://host:5000/: request to https://host:5000/api failed"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("ade20k/val/miou", "ade20k/val/miou"),
        ("coco/test/R@1", "coco/test/r_at_1"),
        ("Acc@0.5", "Acc_at_0.5"),
        ("acc,none", "acc_none"),
        ("mIoU(ms+flip)", "mIoU_ms_flip_"),
        ("a//b/", "a/b"),
        ("/../x", "x"),
        ("", "unnamed"),
    ],
)
def test_known_names_become_these_keys(name: str, key: str) -> None:
    assert metric_key(name) == key


@given(st.text() | st.from_regex(r"[\w@/. %-]{0,300}"))
def test_any_name_becomes_a_key_that_mlflow_accepts(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    key = metric_key(name)
    _validate_metric_name(key)
    assert len(key) <= 200
    assert metric_key(key) == key


def test_a_run_is_named_after_what_was_run() -> None:
    assert run_name(_record()) == "ade20k-val-ss-c0ffee01-0123456"
    assert run_name(_mini(protocol="whole")) == "ade20k-val-random-0123456"


def test_the_store_is_the_only_door_to_mlflow() -> None:
    found = [path.name for path in sorted((ROOT / "reports").glob("*.py")) if "mlflow" in _imports(path)]
    assert found == ["store.py"]


def _imports(path: Path) -> set[str]:
    lines = textwrap.dedent(path.read_text(encoding="utf-8")).splitlines()
    words = [line.split() for line in lines]
    return {w[1].split(".")[0] for w in words if len(w) > 1 and w[0] in {"import", "from"}}
