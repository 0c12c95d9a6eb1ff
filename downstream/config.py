"""TaskConfig: one task's data set, profiles and targets, read from YAML and validated. Imports no torch."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import model_validator

from models.config import PositiveInt, Settings, unknown_name

CONFIG_DIR = Path(__file__).resolve().parent / "configs"

ProfileName = Literal["paper", "mini"]


class SplitCounts(Settings):
    """How much a split holds as published; None where nobody says."""

    samples: PositiveInt | None
    captions: PositiveInt | None = None


class DatasetConfig(Settings):
    """A data set as published."""

    name: str
    version: str
    split: str
    """Which one is judged."""
    other_splits: tuple[str, ...] = ()
    """What is judged besides, each for itself."""
    splits: dict[str, SplitCounts]
    num_classes: PositiveInt | None = None
    captions_per_item: PositiveInt | None = None
    """Where every item has as many."""
    sample_rate_hz: PositiveInt | None = None
    """Where every clip has the same."""
    num_channels: PositiveInt | None = None
    """As `sample_rate_hz`."""

    @property
    def num_samples(self) -> int | None:
        """Samples of the split that is judged."""
        return self.splits[self.split].samples

    @model_validator(mode="after")
    def _split_is_counted(self) -> Self:
        for split in (self.split, *self.other_splits):
            if split not in self.splits:
                raise ValueError(f"split {split!r} is not among splits: {', '.join(self.splits)}")
        return self


class TaskConfig(Settings):
    """One task."""

    task: str
    title: str
    groups: tuple[str, ...]
    """Names under which the task is run together with others."""
    engine: str
    dataset: DatasetConfig
    notes: tuple[str, ...] = ()
    """What a reader should know: where sources disagree, what cannot be compared."""
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
