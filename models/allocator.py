"""How the C library treats memory that was freed: kept for the next step, instead of given back and asked for anew."""

import ctypes
import sys
from typing import Final

# Numbers and largest values of glibc's malloc.h and malloc.c.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_LARGEST_BLOCK: Final = 32 << 20  # above it glibc always asks the system, and gives back at once
_USUAL_KEPT: Final = 2 * _LARGEST_BLOCK  # what glibc itself arrives at once such blocks have been freed
_KEPT: Final = 1 << 30


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory in this process; gives whether the C library can.

    A large tensor is otherwise fresh memory every time, which the system has to clear page by page: a tenth to a fifth
    of a forward pass on a CPU. For a command's own process; a library must not decide this for others.
    """
    return _set(_KEPT)


def give_back_memory() -> bool:
    """Undo `keep_freed_memory`, and give back what is free now."""
    done = _set(_USUAL_KEPT)
    if done:
        ctypes.CDLL(None).malloc_trim(0)
    return done


def _set(kept: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):  # musl has neither
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)) and bool(library.mallopt(_TRIM_THRESHOLD, kept))
