"""OpenMMLab's model-index.yml: the rules of its readers, written down as checks."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from reports.exports.document import IMPORT
from reports.exports.model_index import FILE, export
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record


def _record(*metrics: MetricValue, version: str = "SceneParse150", n: int = 2000, **changes: Any) -> Record:
    data = DataInfo(name="ADE20K", version=version, root_name="r", digest="d", n=n, n_expected=n, ids_sha256="e")
    miou = MetricValue(name="miou", value=61.97, n=2000, ci_low=61.01, ci_high=62.9)
    metrics = metrics or (miou, MetricValue(name="aacc", value=87.1), MetricValue(name="macc", value=76.4))
    fields: dict[str, Any] = {"run_id": "r1", "task": "ade20k", "dataset": "ADE20K", "split": "val", "profile": "paper"}
    fields |= {"model_size": "4b", "setting": "fine-tuned", "protocol": "slide-896-512/ss", "protocol_sha256": "ab"}
    fields |= {"metrics": metrics, "checkpoint": CheckpointInfo(name="w.pt", sha256="c0", loaded=1), "data": data}
    fields |= {"config": {}, "dtype": "float32", "device": "cpu", "seed": 0, "commit": "0123", "is_dirty": False}
    fields |= {"versions": {}, "started_at": "2024-01-31T12:00:00+00:00", "duration_s": 3.5, "command": "run"}
    return Record(**{**fields, **changes})


def _mini(**changes: Any) -> Record:
    return _record(version="miniworld", dataset="ADE20K layout of the miniworld", profile="mini", model_size="mini")


def _index(*records: Record) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(export(records).files[FILE])
    return content


def _check(content: Mapping[str, Any]) -> None:
    """Source: modelindex' Model, Result and Collection checks, MIM's convert2df, OpenMMLab's own rules."""
    assert set(content) == {"Collections", "Models"}
    assert not [value for value in _leaves(content) if value is None or value in ("", [], {})], "nothing may be empty"
    collections = [collection["Name"] for collection in content["Collections"]]
    names = [model["Name"] for model in content["Models"]]
    assert len(set(collections)) == len(collections)
    assert len(set(names)) == len(names), "a model's name is globally unique"
    for model in content["Models"]:
        assert model["In Collection"] in collections, "MIM looks it up"
        assert isinstance(model["Config"], str)
        shown = set()
        for result in model["Results"]:
            assert set(result) == {"Task", "Dataset", "Metrics"}
            assert isinstance(result["Task"], str)
            assert isinstance(result["Dataset"], str)
            assert isinstance(result["Metrics"], dict)
            for name, value in result["Metrics"].items():
                assert isinstance(value, float), "a bare number"
                assert math.isfinite(value)
                assert (result["Dataset"].lower(), name.lower()) not in shown, "MIM would show one of two"
                shown.add((result["Dataset"].lower(), name.lower()))
    for part in (*content["Collections"], *content["Models"]):
        for value in part["Metadata"].values():
            assert not isinstance(value, list) or all(isinstance(item, str) for item in value), "MIM joins lists"
        assert set(part.get("Paper", {"Title": "", "URL": ""})) == {"Title", "URL"}


def _leaves(node: object) -> Iterator[object]:
    if isinstance(node, dict | list) and node:
        for child in node.values() if isinstance(node, dict) else node:
            yield from _leaves(child)
    else:
        yield node


def test_paper_results_keep_the_rules_in_per_cent() -> None:
    content = _index(_record(), _record(run_id="r2", protocol="slide-896-512/ms"))
    _check(content)
    model = content["Models"][1]
    assert model["Name"] == "one-peace-4b_ade20k_fine_tuned_ss_slide-896-512_val"
    assert model["Results"] == [
        {
            "Task": "Semantic Segmentation",
            "Dataset": "ADE20K val",
            "Metrics": {"mIoU": 61.97, "aAcc": 87.1, "mAcc": 76.4},
        }
    ]
    assert model["Config"] == "downstream/configs/ade20k.yaml"
    assert model["Metadata"]["Intervals (95 %)"] == {"mIoU": "61.01 to 62.90"}
    assert [collection["Name"] for collection in content["Collections"]] == ["ONE-PEACE"]


def test_a_mini_result_is_in_a_collection_of_its_own_without_the_paper() -> None:
    content = _index(_mini(), _record(run_id="r2"))
    _check(content)
    plain, mini = content["Collections"]
    assert (plain["Name"], mini["Name"]) == ("ONE-PEACE", "ONE-PEACE miniworld")
    assert "Paper" in plain
    assert "Paper" not in mini
    (model,) = (model for model in content["Models"] if model["In Collection"] == mini["Name"])
    assert "miniworld" in model["Name"]
    assert "Not a result of ONE-PEACE" in model["Metadata"]["Note"]
    assert "miniworld" in model["Results"][0]["Dataset"]


def test_retrieval_and_sounds_have_words_of_their_own() -> None:
    recalls = tuple(MetricValue(name=f"recall_at_1_{way}", value=50.0) for way in ("image_to_text", "text_to_image"))
    (model,) = _index(_record(*recalls, task="coco"))["Models"]
    assert model["Results"][0]["Task"] == "Image-Text Retrieval"
    assert model["Results"][0]["Metrics"] == {"R@1 image to text": 50.0, "R@1 text to image": 50.0}
    config: dict[str, Any] = {"profile": {"settings": {"fine-tuned": {"inputs": {"audio": {}}}}}}
    (model,) = _index(_record(MetricValue(name="accuracy", value=1.0), config=config))["Models"]
    assert model["Results"][0]["Task"] == "Audio Classification"


def test_an_imported_number_is_in_no_collection_of_ours() -> None:
    content = _index(_record(n=0, config={IMPORT: {"file": "x.log"}}, model_size="unknown"))
    _check(content)
    assert content["Collections"][0]["Name"] == "Imported"
    assert content["Models"][0]["Config"] == "unknown"
    assert "Samples" not in content["Models"][0]["Metadata"]  # nobody knows how many


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_left_out_and_said(value: float) -> None:
    made = export([_record(MetricValue(name="miou", value=value)), _record(run_id="r2", split="test")])
    assert len(yaml.safe_load(made.files[FILE])["Models"]) == 1
    assert made.left_out[0] == f"r1: miou is {value}, no number"
    assert export([_record(MetricValue(name="miou", value=value))]).files == {}


def test_the_same_records_give_the_same_bytes_and_texts_stay_texts() -> None:
    records = [_record(), _record(run_id="r2", split="x: [y]\n- !!python/object:os.system 'z'")]
    assert export(records) == export(records[::-1])
    _check(_index(*records))
