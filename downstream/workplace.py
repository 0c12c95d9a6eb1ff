"""Where a run writes and speaks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workplace:
    """A run's folder, and its voice."""

    folder: Path
    """The run's own folder."""
    command: str
    is_resumed: bool
    say: Callable[[str], None]
    """One line to the user."""
    progress: Callable[[str, int, int, str], None]
    """Called with what, done, in all, and a word more."""
