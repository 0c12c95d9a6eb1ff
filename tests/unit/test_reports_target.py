"""Targets: the published ADE20K numbers are read whole, and nothing half-stated passes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.target import Target, load_targets, read_targets

ADE20K = """
targets:
  - &ss
    id: V7
    task: ade20k
    dataset: ADE20K
    dataset_version: "ADEChallengeData2016"
    split: val
    metric: miou
    unit: "%"
    direction: higher
    value: 62.0
    printed: "62.0"
    num_samples: 2000
    setting: fine-tuned
    protocol: slide-896-512/ss
    resolution_px: 896
    scales: [1.0]
    flip: false
    duration_s: null
    precision: null
    train_data: COCO-Stuff-164k stage, then ADE20K training
    source: RV-seg; P-T3
    confidence: high
  - {<<: *ss, id: V8a, metric: aacc, value: 87.18, printed: "87.18", source: RV-seg}
  - {<<: *ss, id: V8b, metric: macc, value: 76.42, printed: "76.42", source: RV-seg}
  - &ms
    <<: *ss
    id: V9
    value: 62.98
    printed: "62.98"
    protocol: slide-896-512/ms
    scales: [384/896, 512/896, 640/896, 768/896, 896/896, 1024/896, 1152/896]
    flip: true
    note: the paper prints 63.0
  - {<<: *ms, id: V10a, metric: aacc, value: 87.59, printed: "87.59", source: RV-seg, note: ""}
  - {<<: *ms, id: V10b, metric: macc, value: 76.82, printed: "76.82", source: RV-seg, note: ""}
"""


def _block() -> list[dict[str, Any]]:
    return [dict(entry) for entry in yaml.safe_load(ADE20K)["targets"]]


def _changed(**changes: Any) -> dict[str, Any]:
    return {"targets": [{**_block()[0], **changes}]}


def test_the_ade20k_block_is_read_whole() -> None:
    targets = load_targets(yaml.safe_load(ADE20K))
    assert [(t.id, t.metric, t.value) for t in targets] == [
        ("V7", "miou", 62.0),
        ("V8a", "aacc", 87.18),
        ("V8b", "macc", 76.42),
        ("V9", "miou", 62.98),
        ("V10a", "aacc", 87.59),
        ("V10b", "macc", 76.82),
    ]
    assert {t.protocol for t in targets[3:]} == {"slide-896-512/ms"}
    assert targets[3].scales == tuple(side / 896 for side in range(384, 1153, 128))
    assert targets[0].model_size == "4b"


@pytest.mark.parametrize(
    ("printed", "half"), [("62.0", 0.05), ("62.98", 0.005), ("62", 0.5), ("89.558", 0.0005), ("60.3704", 0.00005)]
)
def test_half_the_last_digit_follows_from_the_print(printed: str, half: float) -> None:
    target = load_targets(_changed(printed=printed, value=float(printed)))[0]
    assert target.half_digit == pytest.approx(half, rel=1e-12)


def test_a_value_with_more_digits_than_the_print_is_accepted() -> None:
    assert load_targets(_changed(value=89.558, printed="89.6"))[0].value == 89.558


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(ValueError, match=r"target 'V7': unknown key 'protocl'. Did you mean 'protocol'"):
        load_targets(_changed(protocl="x"))


@pytest.mark.parametrize("key", sorted(set(Target.model_fields) - {"model_size", "note"}))
def test_every_part_of_the_protocol_has_to_be_stated(key: str) -> None:
    entry = _block()[0]
    del entry[key]
    with pytest.raises(ValueError, match=f"no '{key}'"):
        load_targets({"targets": [entry]})


@pytest.mark.parametrize(
    "changes",
    [
        {"source": ""},
        {"source": "  "},
        {"protocol": ""},
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": "high"},
        {"value": 63.0},
        {"printed": "62.0 %"},
        {"printed": 62.0},
        {"direction": "up"},
        {"num_samples": 0},
        {"scales": [0]},
        {"scales": ["384/0"]},
        {"scales": ["half"]},
        {"precision": "bf16"},
        {"confidence": "certain"},
    ],
    ids=str,
)
def test_an_impossible_value_is_refused_in_one_line(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="target 'V7': ") as caught:
        load_targets(_changed(**changes))
    assert "\n" not in str(caught.value)
    assert next(iter(changes)) in str(caught.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "no 'targets' block"),
        ({"targets": None}, "expected a list"),
        ({"targets": {"V7": {}}}, "expected a list"),
        ({"targets": ["V7"]}, "expected a mapping"),
        ({"targets": [*_block(), _block()[0]]}, "'V7' stands twice"),
    ],
)
def test_a_block_of_another_form_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_targets(config)


def test_a_task_without_published_numbers_says_so() -> None:
    assert load_targets({"targets": []}) == ()


def test_a_file_is_read_and_its_errors_name_it(tmp_path: Path) -> None:
    path = tmp_path / "ade20k.yaml"
    path.write_text(ADE20K, encoding="utf-8")
    assert len(read_targets(path)) == 6
    for text in ("targets: [{]", "- 1", "targets: [{id: V7}]"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"^ade20k\.yaml: ") as caught:
            read_targets(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        read_targets(tmp_path / "none.yaml")


@settings(max_examples=30)
@given(st.integers(0, 100_000), st.integers(0, 4))
def test_what_a_print_rounds_to_is_accepted_and_nothing_further(digits: int, decimals: int) -> None:
    value = digits / 10**decimals
    printed = f"{value:.{decimals}f}"
    half = 0.5 / 10**decimals
    assert load_targets(_changed(value=value + 0.9 * half, printed=printed))
    with pytest.raises(ValueError, match="does not round"):
        load_targets(_changed(value=value + 1.1 * half, printed=printed))
