"""One process of a machine at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PAUSE_S: Final = 0.05


@contextmanager
def lock(place: Path, *, limit_s: float) -> Iterator[None]:
    """Hold a folder, or a file, which is made if it is not there; nothing of either is changed.

    The lock goes with the process, however that ends. Where the file system has no locks nobody is held up.

    Args:
        place: what all that must not meet name alike.
        limit_s: longest wait.

    Raises:
        TimeoutError: another process holds it for too long.
        OSError: the file cannot be made.
    """
    making = 0 if place.is_dir() else os.O_CREAT
    handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | making, 0o600)
    try:
        limit = time.monotonic() + limit_s
        while not _try(handle):
            if time.monotonic() > limit:
                raise TimeoutError(f"another process has been writing there for {limit_s:g} s")
            time.sleep(PAUSE_S)
        yield
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system
        return True
    return True
