"""How the threads of a computation wait for each other."""

import os
from typing import Final

_TURNS: Final = "1000"  # some microseconds


def wait_briefly() -> None:
    """Let OpenMP's threads spin for a moment only before they sleep; of use before torch is imported.

    Threads that never spin have to be woken for every small operation, which then takes two to three times as long.
    Those that spin for milliseconds, as the library has it by itself, take the cores from everything else that runs,
    data workers first. What the user chose stays. For a command's own process; a library must not decide this for
    others.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _TURNS)
