"""Fixtures that several folders of tests share."""

import os
from pathlib import Path

import pytest

from models.threads import wait_briefly

wait_briefly()  # before torch

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(os.environ.get("ONEPEACE_GOLDEN", ROOT.parent / "shared" / "golden"))
SAMPLES = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The stored numbers of the reference implementation; tests that need them are skipped by name without."""
    if not GOLDEN.is_dir():
        pytest.skip(f"no stored reference numbers at {GOLDEN}; set ONEPEACE_GOLDEN (.ci/run beside ../shared has them)")
    return GOLDEN


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Small genuine pieces of the data sets; tests that need them are skipped by name without."""
    if not SAMPLES.is_dir():
        pytest.skip(f"no sample data at {SAMPLES} (.ci/run beside ../shared has it)")
    return SAMPLES
