"""Records: what is written is what is read, and nothing half-made is read as a record."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, read_record, write_record


def _record(**changes: Any) -> Record:
    checkpoint = CheckpointInfo(name="random initialisation, seed 0", sha256=None, loaded=0, missing=3)
    data = DataInfo(
        name="ADE20K",
        version="miniworld",
        root_name="ADEChallengeData2016",
        digest="d1",
        n=8,
        n_expected=8,
        ids_sha256="e5",
    )
    metrics = (MetricValue(name="miou", value=12.5, n=8, ci_low=9.0, ci_high=16.0, ci_method="bootstrap"),)
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "mini"}
    fields |= {"model_size": "mini", "setting": "fine-tuned", "protocol": "slide-896-512/ss", "protocol_sha256": "ab"}
    fields |= {"metrics": metrics, "checkpoint": checkpoint, "data": data, "config": {"seed": 0, "lr": [1e-5, None]}}
    fields |= {"dtype": "float32", "device": "cpu", "seed": 0, "commit": "0123456789", "is_dirty": False}
    fields |= {"versions": {"torch": "2.11.0"}, "started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5}
    return Record(**{**fields, "command": "python downstream/run.py ade20k", **changes})


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    record = _record(per_class={"wall": 0.1, "sky": None}, artifacts={"predictions": "predictions.jsonl"})
    path = write_record(record, tmp_path / "run")
    assert path.name == "record.json"
    assert read_record(path) == read_record(path.parent) == record
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


@given(st.floats(), st.floats() | st.none(), st.text(min_size=1).filter(str.strip))
def test_any_number_and_any_text_survive_json(value: float, low: float | None, command: str) -> None:
    record = _record(metrics=(MetricValue(name="miou", value=value, ci_low=low),), command=command)
    text = record.to_json()
    again = Record.from_json(text)
    assert again.to_json() == text
    assert again.metrics[0].value == value or (math.isnan(value) and math.isnan(again.metrics[0].value))
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_what_is_no_number_stays_no_number() -> None:
    record = _record(metrics=(MetricValue(name="a", value=math.nan), MetricValue(name="b", value=-math.inf)))
    assert '"NaN"' in record.to_json()
    again = Record.from_json(record.to_json())
    assert math.isnan(again.metrics[0].value)
    assert again.metrics[1].value == -math.inf


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused(version: object) -> None:
    raw = json.loads(_record().to_json()) | {"schema_version": version}
    with pytest.raises(ValueError, match="expected 1"):
        Record.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"schema_version": 1}'])
def test_what_is_no_record_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"not JSON|not a record|schema version") as caught:
        Record.from_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": "small"},
        {"started_at": "yesterday"},
        {"started_at": "2024-01-31T12:00:00"},
        {"started_at": "2024-01-31T12:00:00+02:00"},
        {"config": {"lr": math.nan}},
        {"config": {"path": Path("x")}},
        {"artifacts": {"predictions": "/tmp/predictions.jsonl"}},
        {"artifacts": {"predictions": "../predictions.jsonl"}},
        {"metrics": (MetricValue(name="miou", value=1.0),) * 2},
        {"surprise": 1},
    ],
    ids=str,
)
def test_an_impossible_field_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        _record(**changes)


def test_no_way_to_a_folder_enters_a_record() -> None:
    with pytest.raises(ValueError, match="without the way"):
        DataInfo(name="a", version="1", root_name="/data/a", digest="d", n=1, n_expected=1, ids_sha256="e")
    with pytest.raises(ValueError, match="without the way"):
        CheckpointInfo(name="weights/one-peace.pt", sha256=None, loaded=1)


def test_a_failed_write_leaves_the_old_record_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(_record(run_id="old"), tmp_path)

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_record(_record(run_id="new"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]
    assert read_record(tmp_path).run_id == "old"


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no record at"):
        read_record(tmp_path)
    (tmp_path / "record.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"record\.json: record of schema version None"):
        read_record(tmp_path)


@pytest.mark.parametrize(("n", "n_expected", "complete"), [(8, 8, True), (7, 8, False), (8, None, False)])
def test_data_is_complete_only_when_the_count_is_the_expected_one(
    n: int, n_expected: int | None, complete: bool
) -> None:
    data = _record().data.model_copy(update={"n": n, "n_expected": n_expected})
    assert data.is_complete is complete


@pytest.mark.parametrize(("protocol", "variant"), [("slide-896-512/ss", "ss"), ("whole", ""), ("a/b/c", "c")])
def test_the_variant_is_the_last_part_of_the_protocol(protocol: str, variant: str) -> None:
    assert _record(protocol=protocol).variant == variant


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (
            "run.py --tracking-uri https://me:se@cret@host:5000/x -o a@b",
            "run.py --tracking-uri https://host:5000/x -o a@b",
        ),
        ("run.py --tracking-uri sqlite:///a@b.db", "run.py --tracking-uri sqlite:///a@b.db"),
    ],
)
def test_a_command_keeps_no_password(command: str, kept: str) -> None:
    assert _record(command=command).command == kept
    assert Record.from_json(_record(command=command).to_json()).command == kept
