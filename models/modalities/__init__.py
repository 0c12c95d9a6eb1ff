"""Modalities, each found by its file name."""

import functools
import importlib
import pkgutil

from models.config import unknown_name
from models.modalities.base import Modality


def list_modalities() -> tuple[str, ...]:
    """Name every modality there is, one for each file beside this one."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"))


@functools.cache
def load_modality(name: str) -> Modality:
    """Find a modality by its name.

    Raises:
        ValueError: no file of that name.
    """
    if name not in list_modalities():
        raise ValueError(unknown_name("modality", name, list_modalities()))
    modality: Modality = importlib.import_module(f"{__name__}.{name}").MODALITY
    return modality
