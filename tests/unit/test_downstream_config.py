"""A task's settings are read whole, changed by `--set`, or refused in one line."""

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from downstream.config import config_path, list_tasks, load_task_config
from downstream.engines.settings import GeometrySettings, SegmentationProfile, TrainingSettings
from models.config import override

KEYS = st.text("abc", min_size=1, max_size=2)
TREES = st.dictionaries(
    KEYS, st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8), max_size=4
)
MINI = load_task_config("ade20k").profiles["mini"]
PROFILE = {**MINI, "training": {**MINI["training"], "iterations": 400, "warmup_iterations": 40}}


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        found.update(leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value})
    return found


@settings(max_examples=25, deadline=None)
@given(tree=TREES, value=st.integers() | st.booleans() | st.none(), data=st.data())
def test_an_override_changes_one_leaf_and_never_its_input(
    tree: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    paths = sorted(leaves(tree))
    if not paths:
        return
    path, before = data.draw(st.sampled_from(paths)), copy.deepcopy(tree)
    changed = override(tree, [f"{'.'.join(path)}={yaml.safe_dump(value).splitlines()[0]}"])
    assert tree == before
    assert leaves(changed) == {**leaves(tree), path: value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("2.5", 2.5),
        ("true", True),
        ("null", None),
        ("word", "word"),
        ("'3'", 3.0),
        ("[1, 2]", [1, 2]),
        ("a=b", "a=b"),
        ("", None),
        ("384/896", "384/896"),
    ],
)
def test_values_are_written_as_in_yaml(text: str, value: Any) -> None:
    assert override({"k": 0}, [f"k={text}"]) == {"k": value}


def test_the_last_of_two_overrides_holds() -> None:
    assert override({"a": {"b": 1, "c": 2}}, ["a.b=5", "a.b=6"]) == {"a": {"b": 6, "c": 2}}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("training.lr", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("trainings.lr=3", "unknown key 'trainings'. Did you mean 'training'?"),
        ("size.lr=3", "'size' is a value, not a block"),
    ],
)
def test_a_way_that_leads_nowhere_is_refused(assignment: str, words: str) -> None:
    with pytest.raises(ValueError, match="--set") as caught:
        override({"training": {"lr": 1}, "size": "mini"}, [assignment])
    assert words in str(caught.value)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown task 'ade2k'\. Did you mean 'ade20k'\? See --list\."):
        config_path("ade2k")


@pytest.mark.parametrize("task", list_tasks())
def test_a_tasks_config_carries_its_own_name(task: str) -> None:
    config = load_task_config(task)
    assert config.task == task
    assert {target["task"] for target in config.targets} == {task}


def parse(**changes: Any) -> SegmentationProfile:
    return SegmentationProfile.parse({**PROFILE, **changes}, where="test")


def test_ratios_may_be_fractions() -> None:
    geometry = parse(geometry={**PROFILE["geometry"], "test_ratios": ["1/3", 2]}).geometry
    assert geometry.test_ratios == pytest.approx((1 / 3, 2))


@pytest.mark.parametrize(
    ("block", "key", "value", "words"),
    [
        ("geometry", "crop_px", 100, "crop_px 100 is not a multiple of 32"),
        ("geometry", "test_ratios", ["a third"], "Invalid literal for Fraction: 'a third'"),
        ("geometry", "max_class_share", 1.0, "geometry.max_class_share 1.0"),
        ("training", "warmup_iterations", 400, "warmup_iterations 400 is not below iterations 400"),
        ("training", "warmup_iterations", -1, "warmup_iterations -1"),
        ("training", "layer_decay", 0, "training.layer_decay 0"),
        ("training", "lr", "fast", "training.lr 'fast'"),
        ("head", "num_queries", 0, "head.num_queries 0"),
    ],
)
def test_an_impossible_setting_is_named(block: str, key: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match="test: ") as caught:
        parse(**{block: {**PROFILE[block], key: value}})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision 'float8'"):
        parse(precision="float8")


@pytest.mark.parametrize("kind", [GeometrySettings, TrainingSettings])
def test_every_setting_without_a_default_must_be_there(kind: type) -> None:
    with pytest.raises(ValueError, match="Field required"):
        kind.parse({}, where="test")
