"""What a task is to the command line."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from downstream.config import ProfileName, TaskConfig
from downstream.workplace import Workplace
from reports.provenance import ROOT
from reports.record import Record

Device = str
Setting = str

MINIWORLD = ROOT / "data" / "miniworld"
MINIWORLD_MANIFEST = "miniworld.json"
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for."""

    profile: ProfileName | None = None
    """None: chosen by what `checkpoint` and `data_root` are."""
    setting: Setting | None = None
    """`zero-shot` or `fine-tuned`; None: every one that what is named allows."""
    split: str | None = None
    """None: the one with published numbers."""
    checkpoint: Path | None = None
    """Weights to evaluate as they are."""
    pretrained: Path | None = None
    """Weights of the encoder: to evaluate zero-shot, and to start a fine-tuning from."""
    data_root: Path | None = None
    limit: float | None = None
    """Samples to evaluate, or a share of them when below 1."""
    has_views: bool = False
    """Test-time augmentation, where the task has one."""
    seed: int = 0
    device: Device = "auto"
    dtype: str | None = None
    """Precision of the arithmetic; None: the profile's."""
    batch_size: int | None = None
    """Samples at once in an evaluation; None: the profile's."""
    num_workers: int | None = None
    """Processes that load data; None: none on a CPU, some beside a GPU."""
    assignments: tuple[str, ...] = ()
    """`key.path=value`, over the profile."""

    def count(self, total: int) -> int:
        """Tell how many of `total` samples are judged."""
        if self.limit is None:
            return total
        return min(total, max(1, math.ceil(self.limit * total)) if self.limit < 1 else int(self.limit))


@dataclass(frozen=True)
class Part:
    """What makes one record: a way of judging, on one split."""

    setting: Setting
    split: str
    folder: str = ""
    """Below the run's folder; empty where the task has this part alone."""


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
    parts: tuple[Part, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """The resolved profile."""


@dataclass(frozen=True)
class Result:
    """What a part came to."""

    record: Record
    """Without comparisons."""
    has_published_weights: bool
    """Whether the number was made by weights that the authors published; else they were trained again."""


class Task(Protocol):
    """One benchmark."""

    def plan(self, config: TaskConfig, options: RunOptions) -> Plan:
        """Find out what a run would do and what it lacks, in under two seconds and without torch.

        Raises:
            ValueError: an option or a setting that makes no sense.
        """
        ...

    def run(self, config: TaskConfig, options: RunOptions, *, part: Part, workplace: Workplace) -> Result:
        """Do everything for one part of the plan, and write the artifacts into the workplace's folder.

        Raises:
            ValueError: data or weights that are not what they should be.
            FileNotFoundError: data or weights that are not there.
        """
        ...


def read_metadata(path: Path) -> dict[str, Any]:
    """Read what the header of a safetensors file says, by key, JSON taken apart; nothing of any other file."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length < MAX_HEADER_BYTES else b""
    try:
        return {key: _parse(value) for key, value in json.loads(header)["__metadata__"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _parse(value: Any) -> Any:
    try:
        return json.loads(value)
    except (ValueError, TypeError):
        return value


def refuse_options(options: RunOptions, names: Sequence[str], *, task: str) -> None:
    """Refuse options that a task has no use for.

    Raises:
        ValueError: one of them was given.
    """
    for name in names:
        if getattr(options, name):
            option = {"has_views": "tta"}.get(name, name.replace("_", "-"))
            raise ValueError(f"--{option} is nothing that {task} knows; leave it out")
