"""Every kind of task is found by its file, keeps its interface, and every task of the plain engine names one."""

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

import pytest

from downstream import kinds
from downstream.config import list_tasks, load_task_config
from downstream.kinds import list_kinds, load_kind
from downstream.kinds.base import Facts, Kind
from downstream.tasks import load_task
from downstream.tasks.plain import PlainTask

METHODS = [name for name, value in vars(Kind).items() if inspect.isfunction(value) and not name.startswith("_")]
PLAIN = [name for name in list_tasks() if load_task_config(name).engine == "plain"]


def source_of(name: str) -> Path:
    return Path(kinds.__path__[0]) / f"{name}.py"


def test_kinds_are_the_files_of_the_folder() -> None:
    files = {path.stem for path in Path(kinds.__path__[0]).glob("*.py")} - {"__init__", "base"}
    assert set(list_kinds()) == files
    assert {"choice", "classification", "multi_label", "prompted", "retrieval"} <= files


def test_an_unknown_kind_names_the_nearest_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"unknown kind 'retrival'\. Did you mean 'retrieval'\?") as caught:
        load_kind("retrival")
    assert "\n" not in str(caught.value)
    for hidden in ("base", "__init__", "../kinds/choice"):
        with pytest.raises(ValueError, match="unknown kind"):
            load_kind(hidden)


@pytest.mark.parametrize("name", list_kinds())
def test_a_kind_has_every_method_with_its_arguments(name: str) -> None:
    assert len(METHODS) == 5
    for method in METHODS:
        ours = inspect.signature(getattr(type(load_kind(name)), method))
        wanted = inspect.signature(getattr(Kind, method))
        assert list(ours.parameters) == list(wanted.parameters), method
        assert inspect.getdoc(getattr(type(load_kind(name)), method)), method


@pytest.mark.parametrize("name", list_kinds())
def test_a_kind_ends_in_one_annotated_name(name: str) -> None:
    last = ast.parse(source_of(name).read_text(encoding="utf-8")).body[-1]
    assert isinstance(last, ast.AnnAssign)
    assert (ast.unparse(last.target), ast.unparse(last.annotation)) == ("KIND", "Kind")


@pytest.mark.parametrize("name", list_kinds())
def test_a_kind_lists_nothing_of_nothing(name: str) -> None:
    kind, facts = load_kind(name), Facts("image", ("a", "b"))
    outputs = kind.count_outputs(facts)
    assert outputs is None or outputs >= 1
    units = kind.list_units([], facts)
    assert isinstance(units, tuple)
    assert all(dict(unit.passes[0]).keys() == {"text"} for unit in units), "only what is said of classes"


@pytest.mark.parametrize("name", list_kinds())
def test_a_kind_states_its_samples(name: str) -> None:
    hints = typing.get_type_hints(type(load_kind(name)).list_units)
    (sample,) = typing.get_args(hints["samples"])
    assert {"id", "files", "origin"} <= {field.name for field in dataclasses.fields(sample)} | set(dir(sample))


@pytest.mark.parametrize("name", PLAIN)
def test_a_task_of_the_plain_engine_names_a_kind_and_splits_that_are_there(name: str) -> None:
    task, config = load_task(name), load_task_config(name)
    assert isinstance(task, PlainTask)
    assert task.kind in list_kinds()
    assert task.media in ("image", "audio")
    for profile in config.profiles.values():
        for setting in profile["settings"].values():
            outputs = load_kind(setting.get("kind", task.kind)).count_outputs(Facts(task.media, ("a", "b")))
            assert ("head" in setting) is (outputs is not None), "a head where there are outputs"
            if "training" in setting:
                assert task.train_split in config.dataset.splits
