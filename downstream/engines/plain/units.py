"""What the model is run on: one unit makes one vector. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Source = Path | str
"""A picture's or a sound's file, or a text."""


@dataclass(frozen=True)
class Unit:
    """One sequence, or several whose features stand side by side, that become one vector."""

    passes: tuple[tuple[tuple[str, Source], ...], ...]
    """By pass, modality and source."""

    @classmethod
    def of(cls, **sources: Source) -> "Unit":
        """Make a unit of one pass, by modality."""
        return cls((tuple(sources.items()),))

    @property
    def signature(self) -> tuple[tuple[str, ...], ...]:
        """The modalities of each pass; units of one signature go through the model together."""
        return tuple(tuple(name for name, _ in sources) for sources in self.passes)


@dataclass(frozen=True)
class Example:
    """What a fine-tuning learns one thing from."""

    units: tuple[Unit, ...]
    """As many for every example of a task."""
    target: tuple[float, ...]
    """What is right, in the words of the task's kind."""


def unit_key(unit: Unit, digests: Mapping[Path, str]) -> bytes:
    """Name a unit by what is in it, not by where it lies: the same content is encoded once.

    Args:
        unit: with files that `digests` knows.
        digests: by file, the SHA-256 of its content.
    """
    spelled = [
        [[name, digests[source] if isinstance(source, Path) else f"text:{source}"] for name, source in sources]
        for sources in unit.passes
    ]
    return hashlib.sha256(json.dumps(spelled).encode()).digest()


def list_files(units: Sequence[Unit]) -> tuple[Path, ...]:
    """List the files that units refer to, each once, in order."""
    found = (source for unit in units for sources in unit.passes for _, source in sources if isinstance(source, Path))
    return tuple(dict.fromkeys(found))
