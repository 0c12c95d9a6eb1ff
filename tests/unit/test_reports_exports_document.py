"""Names and words of exports: a mini result says so, what is no number stays out, and no file hides another."""

import math
from typing import Any

import pytest

from reports.exports.document import (
    IMPORT,
    Kind,
    by_model,
    dataset_id,
    dataset_title,
    finite_metrics,
    fraction,
    in_order,
    interval_of,
    kind_of,
    modalities_of,
    model_name,
    named_once,
    remarks,
    slug,
    task_label,
    to_json,
)
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record


def _record(*names: str, version: str = "2016", differences: tuple[str, ...] = (), **changes: Any) -> Record:
    data = DataInfo(
        name="d", version=version, root_name="r", digest="d", n=8, n_expected=8, ids_sha256="e", differences=differences
    )
    metrics = tuple(MetricValue(name=name, value=50.0, n=8) for name in names or ("miou",))
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "paper"}
    fields |= {"model_size": "4b", "setting": "fine-tuned", "protocol": "slide-896-512/ss", "protocol_sha256": "ab"}
    fields |= {"metrics": metrics, "checkpoint": CheckpointInfo(name="w.pt", sha256="c0", loaded=1), "data": data}
    fields |= {"config": {}, "dtype": "float32", "device": "cpu", "seed": 0, "commit": "0123", "is_dirty": False}
    fields |= {"versions": {}, "started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": "run"}
    return Record(**{**fields, **changes})


def test_a_mini_result_is_called_one_in_every_name() -> None:
    mini = _record(profile="mini", model_size="mini", version="miniworld", dataset="ADE20K layout of the miniworld")
    assert model_name(mini) == "one-peace-mini-miniworld"
    assert task_label(mini) == "miniworld_ade20k_fine_tuned_ss_slide-896-512"
    assert dataset_id(mini) == "miniworld-ade20k"
    assert "miniworld" in dataset_title(mini)
    assert "Not a result of ONE-PEACE" in remarks(mini)[0]
    part = _record(profile="mini", model_size="mini")  # the small model on a part of the real pictures
    assert (dataset_id(part), dataset_title(part)) == ("mini-ade20k", "ADE20K (mini)")
    assert task_label(part).startswith("mini_")


def test_a_paper_result_bears_its_plain_names() -> None:
    record = _record()
    assert (model_name(record), dataset_id(record), dataset_title(record)) == ("one-peace-4b", "ade20k", "ADE20K")
    assert task_label(record) == "ade20k_fine_tuned_ss_slide-896-512"
    assert remarks(record) == ()
    assert remarks(_record(differences=("3 pictures are missing",))) == ("Differs in data: 3 pictures are missing.",)


def test_an_imported_number_is_nobodys_model() -> None:
    record = _record(config={IMPORT: {"file": "x.log"}}, model_size="unknown")
    assert model_name(record) == "imported-unknown"
    assert remarks(record) == ("Read from a foreign file, not computed here.",)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("recall_at_1_image_to_text", "recall_mean"), Kind.RETRIEVAL),
        (("miou", "macc"), Kind.SEGMENTATION),
        (("box_ap",), Kind.DETECTION),
        (("accuracy_at_iou_50",), Kind.GROUNDING),
        (("map",), Kind.TAGGING),
        (("accuracy",), Kind.CLASSIFICATION),
        (("accuracy_top_1", "accuracy_top_5", "loss"), Kind.CLASSIFICATION),
        (("macc",), Kind.CLASSIFICATION),
    ],
)
def test_metrics_tell_what_was_asked(names: tuple[str, ...], kind: Kind) -> None:
    assert kind_of(_record(*names)) is kind


def test_modalities_come_from_the_metrics_and_the_inputs() -> None:
    assert modalities_of(_record("recall_at_1_text_to_audio")) == ("text", "audio")
    assert modalities_of(_record("accuracy")) == ()
    config: dict[str, Any] = {"profile": {"settings": {"zero-shot": {"inputs": {"audio": {}, "text": {}}}}}}
    assert modalities_of(_record("accuracy", config=config)) == ("text", "audio")


def test_what_is_no_number_is_parted_and_named() -> None:
    metrics = (MetricValue(name="miou", value=math.nan), MetricValue(name="macc", value=1.0))
    finite, lost = finite_metrics(_record(metrics=metrics))
    assert [metric.name for metric in finite] == ["macc"]
    assert lost == ("r1: miou is nan, no number",)


def test_only_per_cent_become_shares_and_only_whole_intervals_count() -> None:
    assert fraction(MetricValue(name="a", value=50.0), 50.0) == 0.5
    assert fraction(MetricValue(name="loss", value=0.6, unit="nats"), 0.6) == 0.6
    assert interval_of(MetricValue(name="a", value=1.0, ci_low=0.5, ci_high=2.0)) == (0.5, 2.0)
    assert interval_of(MetricValue(name="a", value=1.0, ci_low=0.5)) is None
    assert interval_of(MetricValue(name="a", value=1.0, ci_low=math.nan, ci_high=2.0)) is None


def test_records_stand_in_one_order_and_no_two_of_the_same() -> None:
    one, other = _record(run_id="r1", split="val"), _record(run_id="r2", split="test")
    assert [record.run_id for record in in_order([one, other])] == ["r2", "r1"]
    assert in_order([one, other]) == in_order([other, one])
    with pytest.raises(ValueError, match="runs r1 and r3 are results of the same"):
        in_order([one, _record(run_id="r3", split="val")])


def test_a_name_that_two_results_would_share_is_refused() -> None:
    one, other = _record(run_id="r1"), _record(run_id="r2")
    assert list(named_once([("a", one), ("b", other)])) == ["a", "b"]
    with pytest.raises(ValueError, match="runs r1 and r2 would both be 'a'"):
        named_once([("a", one), ("a", other)])


def test_models_are_parted_by_name() -> None:
    mini = _record(profile="mini", model_size="mini")
    assert {name: len(group) for name, group in by_model([mini, _record()]).items()} == {
        "one-peace-4b": 1,
        "one-peace-mini-miniworld": 1,
    }


@pytest.mark.parametrize(
    ("text", "spelled"), [("zero-shot", "zero_shot"), ("../a b", "a_b"), ("é", "unknown"), ("", "unknown")]
)
def test_names_are_safe_for_files(text: str, spelled: str) -> None:
    assert slug(text) == spelled


def test_json_is_the_same_whatever_the_order_and_holds_no_nan() -> None:
    assert to_json({"b": 1, "a": 2}) == to_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": math.nan})
