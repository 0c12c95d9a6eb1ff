"""Where a run writes and speaks."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONFIG_FILE = "config.yaml"


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
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)

    def tidy(self) -> None:
        """Remove the folder of a run that ended before it had done anything worth resuming."""
        if {path.name for path in self.folder.iterdir()} <= {CONFIG_FILE}:
            shutil.rmtree(self.folder)
