"""Stands in for mmcv's compiled operators on machines that have none.

Deformable attention takes mmcv's plain PyTorch path on a CPU, so Mask2Former trains and predicts without them.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

MODULE = "mmcv._ext"
BUILD_COMMAND = "make setup OPS=1"


class _MissingOperators(ModuleType):
    """A module whose every function says how to get the real one."""

    def __init__(self) -> None:
        super().__init__(MODULE)
        # Without a spec `importlib.util.find_spec` raises on a module that is already imported.
        self.__spec__ = ModuleSpec(MODULE, loader=None)

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> NoReturn:
            raise NotImplementedError(f"the compiled operator {name!r} of mmcv is not built; build it: {BUILD_COMMAND}")

        return missing


def has_compiled_operators() -> bool:
    """Tell whether mmcv was built with its operators."""
    present = sys.modules.get(MODULE)
    return importlib.util.find_spec(MODULE) is not None and not isinstance(present, _MissingOperators)


def install_missing_operators() -> None:
    """Put the stand-in where mmcv looks for its operators, unless the real ones are there.

    To be called before anything imports `mmcv.ops`.
    """
    if not has_compiled_operators():
        sys.modules[MODULE] = _MissingOperators()
