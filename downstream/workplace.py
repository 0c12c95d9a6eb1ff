"""Where a run writes and speaks, and the processes that share its work."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

CONFIG_FILE = "config.yaml"


class Ranks(Protocol):
    """The processes of a run, and this one among them."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def barrier(self) -> None:
        """Wait for all."""
        ...

    def share_text(self, text: str) -> str:
        """Give every rank the first one's text."""
        ...


@dataclass(frozen=True)
class Alone:
    """The only process."""

    rank: int = 0
    size: int = 1

    def barrier(self) -> None:
        """Wait for nobody."""

    def share_text(self, text: str) -> str:
        """Give the text back."""
        return text


def count_ranks() -> int:
    """Tell how many processes torchrun or SLURM started."""
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or "1")


def is_first_rank() -> bool:
    """Tell whether this process speaks and writes for all, before they have met."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0") == 0


@dataclass(frozen=True)
class Workplace:
    """A run's folder, and its voice."""

    folder: Path
    """The folder of one part of the run; there already."""
    shared: Path
    """The folder of all runs, for what they may share: vectors that were encoded, weights that were fine-tuned."""
    command: str
    is_resumed: bool
    say: Callable[[str], None]
    """One line to the user."""
    progress: Callable[[str, int, int, str], None]
    """Called with what, done, in all, and a word more."""
    ranks: Ranks = Alone()

    @property
    def is_first(self) -> bool:
        """Whether this process writes for all."""
        return self.ranks.rank == 0

    def claim(self, config: Mapping[str, Any]) -> None:
        """Write the resolved config into the folder, or check that a resumed run has the same one.

        Raises:
            ValueError: the folder belongs to a run with other settings; the first one is named.
        """
        path = self.folder / CONFIG_FILE
        text = yaml.safe_dump(dict(config), sort_keys=False)
        if path.is_file():
            earlier = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            if changed := [key for key, value in yaml.safe_load(text).items() if earlier.get(key) != value]:
                raise ValueError(
                    f"{self.folder.name} was started with another {changed[0]!r}; resume it with the same settings, "
                    "or leave --resume out"
                )
            return
        if self.is_first:
            partial = path.with_name(f".{path.name}.partial")
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)

    def tidy(self) -> None:
        """Remove the folder of a part that ended before it had done anything worth resuming, and its empty parent."""
        if self.is_first and {path.name for path in self.folder.iterdir()} <= {CONFIG_FILE}:
            shutil.rmtree(self.folder)
            parent = self.folder.parent
            if parent != self.shared and not any(parent.iterdir()):
                parent.rmdir()
