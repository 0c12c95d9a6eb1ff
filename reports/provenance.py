"""Where a result comes from: code, packages, machine, time."""

import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "mlflow")


class Clock:
    """Times a run and its parts.

    Attributes:
        started_at: ISO 8601 in UTC.
        timings: seconds by part.
    """

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.timings: dict[str, float] = {}
        self._start = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def add(self, part: str, seconds: float) -> None:
        """Add to a part's seconds."""
        self.timings[part] = self.timings.get(part, 0.0) + seconds


def read_commit() -> tuple[str, bool]:
    """Give the checkout's commit and whether tracked files differ from it; `unknown` outside a git checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()


def read_versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Give the versions of Python and of the packages that move numbers; what is not installed is left out."""
    versions = {"python": platform.python_version()}
    for package in (*PACKAGES, *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def digest(values: object) -> str:
    """Give the SHA-256 of what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def digest_sources(*places: str) -> str:
    """Give the SHA-256 of the Python sources and configs below folders of the project: another one, other numbers."""
    files = (path for place in places for kind in ("*.py", "*.yaml") for path in (ROOT / place).rglob(kind))
    listed = {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return digest(listed)


def peak_memory_gib() -> float:
    """Give this process's largest resident size so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def describe_processor() -> str:
    """Name the processor and its cores."""
    return f"cpu ({platform.machine()}, {os.cpu_count()} cores)"
