"""Lists in the bytes that go to disk: csv, the tab-separated tables of the authors, JSON."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

Files: TypeAlias = Iterator[tuple[str, bytes]]  # name below the data set's own folder, content

SOUND_COLUMNS: Final = ("uniq_id", "audio", "text", "duration")
PICTURE_COLUMNS: Final = ("image_id", "image", "caption")


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Put rows below a header, cells apart by tabs.

    Raises:
        ValueError: a cell holds a tab or ends its line, which nothing could read back.
    """
    lines = []
    for row in (header, *rows):
        if any(mark in cell for cell in row for mark in "\t\r\n"):
            raise ValueError(f"a cell of {row!r} holds a tab or a line end; a table cannot")
        lines.append("\t".join(row) + "\n")
    return "".join(lines).encode()


def format_csv(header: Sequence[str], rows: Iterable[Sequence[object]], *, line_end: str = "\n") -> bytes:
    """Put rows below a header, if there is one, with quotes where a cell needs them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end)
    if header:
        writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def format_json(content: object, *, indent: int | None = 1) -> bytes:
    """Write a value as JSON, with a line end behind it."""
    return (json.dumps(content, indent=indent) + "\n").encode()


def format_duration(duration_s: float) -> str:
    """Write a length in seconds as tables give it."""
    return f"{duration_s:.3f}"
