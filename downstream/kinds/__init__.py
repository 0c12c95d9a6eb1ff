"""Kinds of tasks, each found by its file name: what is encoded, what is learned, what is scored."""

import importlib
import pkgutil

from downstream.kinds.base import Kind
from models.config import unknown_name


def list_kinds() -> tuple[str, ...]:
    """Name every kind there is, one for each file beside this one."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"))


def load_kind(name: str) -> Kind:
    """Find a kind by its name.

    Raises:
        ValueError: no file of that name.
    """
    if name not in list_kinds():
        raise ValueError(unknown_name("kind", name, list_kinds()))
    kind: Kind = importlib.import_module(f"{__name__}.{name}").KIND
    return kind
