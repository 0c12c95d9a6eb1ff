"""Freed memory is kept or given back as told, where the C library can."""

import sys
from pathlib import Path

import pytest
import torch

from models.allocator import give_back_memory, keep_freed_memory

HAS_GLIBC = sys.platform.startswith("linux") and Path("/proc/self/stat").is_file()


def count_faults() -> int:
    """Count the pages that this process was given so far."""
    return int(Path("/proc/self/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[7])


def allocate_again() -> int:
    before = count_faults()
    for _ in range(8):
        sum(torch.ones(5 << 20) for _ in range(1))
    return count_faults() - before


@pytest.mark.skipif(not HAS_GLIBC, reason="needs Linux with glibc and /proc (.ci/run there has them)")
def test_kept_memory_is_not_asked_for_again() -> None:
    try:
        assert keep_freed_memory()
        allocate_again()
        kept = allocate_again()
        assert give_back_memory()
        fresh = allocate_again()
    finally:
        give_back_memory()
    assert kept < fresh / 4, f"{kept} pages where freed memory is kept, {fresh} where it is given back"


def test_elsewhere_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
    assert not give_back_memory()
