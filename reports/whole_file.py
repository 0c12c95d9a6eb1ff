"""A file that a reader finds whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> int:
    """Write a file so that a reader sees the whole of it or none; gives its size in bytes.

    Raises:
        OSError: it could not be written; what stood there before still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path.stat().st_size
