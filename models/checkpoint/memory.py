"""How much memory is free, compared with what loading needs before it starts."""

import logging
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")

_LOG = logging.getLogger(__name__)


def free_memory_bytes(device: torch.device) -> int:
    """Count the bytes that can still be taken on a device; on a CPU swap included, a container's limit respected."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available + psutil.swap_memory().free)
    return min(free, _container_left(CGROUP) or free)


def _container_left(folder: Path) -> int | None:
    """Read how much a container may still take; None where nothing limits it. What is cached can be given back."""
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return max(limit - used + int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0)), 1)
    except (OSError, ValueError):  # no container, or `max`
        return None


def check_memory(need: int, *, device: torch.device, say: Callable[[str], None] | None = None) -> str:
    """Say in one sentence what loading needs and what is free.

    Args:
        need: bytes.
        device: where they are needed.
        say: gets the sentence; default: logging.

    Raises:
        ValueError: too little is free.
    """
    free = free_memory_bytes(device)
    sentence = f"loading needs {_amount(need)}, and {_amount(free)} are free on {device}"
    if need > free:
        raise ValueError(f"{sentence}; load fewer branches, or a narrower type (--dtype bf16)")
    (say or _LOG.info)(sentence)
    return sentence


def _amount(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
