"""What is noted beside a run of the command that made it, so that its records find each other in MLflow later."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

NOTE_FILE: Final = "command.json"


@dataclass(frozen=True)
class CommandNote:
    """A command, and the MLflow experiment that its records belong to."""

    command_id: str
    experiment: str


def note_command(folders: Iterable[Path], *, experiment: str) -> CommandNote:
    """Note a command in the folders of its runs; what is noted in one of them already counts for all.

    Where nothing can be written there the note is for now alone.
    """
    listed = list(dict.fromkeys(folders))
    known = next((note for folder in listed if (note := read_note(folder)) is not None), None)
    note = known or CommandNote(uuid.uuid4().hex, experiment)
    for folder in listed:
        with contextlib.suppress(OSError):
            _write(note, folder)
    return note


def read_note(folder: Path) -> CommandNote | None:
    """Read what is noted in a folder; None where there is nothing, or nothing that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        note = CommandNote(**json.loads((folder / NOTE_FILE).read_text(encoding="utf-8")))
        return note if all(isinstance(value, str) and value for value in asdict(note).values()) else None
    return None


def _write(note: CommandNote, folder: Path) -> None:
    path = folder / NOTE_FILE
    if read_note(folder) == note:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(asdict(note), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
