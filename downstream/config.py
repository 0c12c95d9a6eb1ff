"""TaskConfig: one task's data set, profiles and targets, read from YAML and validated. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from models.config import PositiveInt, Settings, unknown_name

CONFIG_DIR = Path(__file__).resolve().parent / "configs"

ProfileName = Literal["paper", "mini"]


class DatasetConfig(Settings):
    """A data set as published."""

    name: str
    version: str
    split: str
    num_classes: PositiveInt
    num_training: PositiveInt
    num_samples: PositiveInt
    """Samples of `split`."""


class TaskConfig(Settings):
    """One task."""

    task: str
    title: str
    groups: tuple[str, ...]
    """Names under which the task is run together with others."""
    engine: str
    dataset: DatasetConfig
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    targets: tuple[dict[str, Any], ...]
    """Published numbers; `reports.target` knows their form."""
    profiles: dict[ProfileName, dict[str, Any]]
    """What each profile fixes; the task's engine knows their form."""


def list_tasks() -> tuple[str, ...]:
    """Name every task there is, one for each file in `downstream/configs`."""
    return tuple(sorted(path.stem for path in CONFIG_DIR.glob("*.yaml")))


def config_path(task: str) -> Path:
    """Find a task's config.

    Raises:
        ValueError: no such task.
    """
    if task not in list_tasks():
        raise ValueError(f"{unknown_name('task', task, list_tasks())} See --list.")
    return CONFIG_DIR / f"{task}.yaml"


def load_task_config(task: str) -> TaskConfig:
    """Read a task's config by the task's name.

    Raises:
        ValueError: no such task, or a faulty file.
    """
    path = config_path(task)
    return TaskConfig.parse(yaml.safe_load(path.read_text(encoding="utf-8")), where=path.name)


def override(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Change values by `key.path=value`, the value written as in YAML.

    Args:
        values: nested mappings.
        assignments: what the command line says.

    Returns:
        Changed copies; `values` stays as it is.

    Raises:
        ValueError: no `=`, or a way through something that is no mapping.
    """
    changed = dict(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {assignment!r}, expected key.path=value, such as training.lr=1e-3")
        changed = _assign(changed, key.split("."), _read_value(text, assignment))
    return changed


def _read_value(text: str, assignment: str) -> Any:
    """Read a value as YAML does, and numbers such as 1e-3 besides, which YAML takes for a string."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"--set {assignment!r}: the value is not YAML; write it as in a config") from None
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = keys
    if first not in values and rest:
        raise ValueError(f"--set: {unknown_name('key', first, values)}")
    if not rest:
        return {**values, first: value}
    if not isinstance(values[first], Mapping):
        raise ValueError(f"--set: {first!r} is a value, not a block; nothing stands below it")
    return {**values, first: _assign(values[first], rest, value)}
