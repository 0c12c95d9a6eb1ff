"""What a task is to the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from downstream.config import ProfileName, TaskConfig
from downstream.workplace import Workplace
from reports.record import Record

Device = str


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for."""

    profile: ProfileName | None = None
    """None: chosen by what `checkpoint` and `data_root` are."""
    checkpoint: Path | None = None
    """Fine-tuned weights to evaluate."""
    pretrained: Path | None = None
    """Weights of the encoder to start a fine-tuning from."""
    data_root: Path | None = None
    limit: float | None = None
    """Samples to evaluate, or a share of them when below 1."""
    has_views: bool = False
    """Test-time augmentation, where the task has one."""
    seed: int = 0
    device: Device = "auto"
    num_workers: int = 0
    assignments: tuple[str, ...] = ()
    """`key.path=value`, over the profile."""


@dataclass(frozen=True)
class Plan:
    """What a run would do and need, found without computing anything."""

    profile: ProfileName
    reason: str
    """Why this profile."""
    facts: dict[str, str]
    """What is shown, in order."""
    missing: tuple[str, ...]
    """What is not there, each with where it goes."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The resolved profile."""


class Task(Protocol):
    """One benchmark."""

    def plan(self, config: TaskConfig, options: RunOptions) -> Plan:
        """Find out what a run would do and what it lacks, in under two seconds and without torch.

        Raises:
            ValueError: an option or a setting that makes no sense.
        """
        ...

    def run(self, config: TaskConfig, options: RunOptions, workplace: Workplace) -> Record:
        """Do everything, and write the artifacts into the run's folder.

        Raises:
            ValueError: data or weights that are not what they should be.
            FileNotFoundError: data or weights that are not there.
        """
        ...
