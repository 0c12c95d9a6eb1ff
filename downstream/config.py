"""TaskConfig: one task's data set, profiles and targets, read from YAML and validated. Imports no torch."""

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
