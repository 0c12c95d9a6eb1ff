"""The stand-in for mmcv's operators lets everything import, and names what is missing when it is called."""

import importlib.util
import sys
from types import ModuleType

import pytest

from downstream.engines.openmmlab import operators
from downstream.engines.openmmlab.operators import BUILD_COMMAND, MODULE, _MissingOperators


def test_a_call_names_the_operator_and_the_command_that_builds_it() -> None:
    with pytest.raises(NotImplementedError) as caught:
        _MissingOperators().ms_deform_attn_forward(1, 2, im2col_step=3)
    assert "'ms_deform_attn_forward'" in str(caught.value)
    assert BUILD_COMMAND in str(caught.value)


def test_every_name_is_there_but_the_interpreters_own() -> None:
    module = _MissingOperators()
    assert callable(module.anything_at_all)
    assert hasattr(module, "_private")
    for name in ("__path__", "__file__", "__wrapped__", "__all__"):
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)


def test_an_imported_stand_in_can_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stand_in_of_this_test", _MissingOperators())
    spec = importlib.util.find_spec("stand_in_of_this_test")
    assert spec is not None
    assert spec.name == MODULE


def test_the_stand_in_is_no_compiled_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, _MissingOperators())
    assert not operators.has_compiled_operators()


def test_real_operators_are_left_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ModuleType(MODULE)
    real.__spec__ = _MissingOperators().__spec__
    monkeypatch.setitem(sys.modules, MODULE, real)
    operators.install_missing_operators()
    assert operators.has_compiled_operators()
    assert sys.modules[MODULE] is real


def test_the_stand_in_takes_the_place_of_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)  # so that the real entry comes back after the test
    monkeypatch.delitem(sys.modules, MODULE)
    monkeypatch.setattr(operators.importlib.util, "find_spec", lambda _: None)
    operators.install_missing_operators()
    assert isinstance(sys.modules[MODULE], _MissingOperators)


def test_a_name_can_be_imported_from_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stand_in_of_this_test", _MissingOperators())
    from stand_in_of_this_test import nms

    with pytest.raises(NotImplementedError, match="'nms'"):
        nms()
