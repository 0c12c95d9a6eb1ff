"""A record can say which code, packages and machine it comes from."""

import platform
import re
import subprocess
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest

from reports import provenance
from reports.provenance import Clock, describe_processor, peak_memory_gib, read_commit, read_versions


def answer(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> None:
    def fake(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == "git"
        return subprocess.CompletedProcess(command, 0, stdout=answers[command[1]])

    monkeypatch.setattr(provenance.subprocess, "run", fake)


@pytest.mark.parametrize(("status", "is_dirty"), [("", False), (" M models/encoder.py\n", True)])
def test_the_commit_is_told_with_whether_files_differ(
    monkeypatch: pytest.MonkeyPatch, status: str, is_dirty: bool
) -> None:
    answer(monkeypatch, {"rev-parse": "abc123\n", "status": status})
    assert read_commit() == ("abc123", is_dirty)


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_outside_a_checkout_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(provenance.subprocess, "run", fail)
    assert read_commit() == ("unknown", False)


def test_this_checkouts_commit_is_a_hash_or_unknown() -> None:
    commit, _ = read_commit()
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", commit)


def test_versions_are_those_installed_and_leave_out_what_is_not() -> None:
    versions = read_versions(("pyyaml", "no-such-package-of-ours"))
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == version("torch")
    assert versions["pyyaml"] == version("pyyaml")
    assert "no-such-package-of-ours" not in versions


def test_the_clock_adds_up_parts_and_tells_its_start_in_utc() -> None:
    clock = Clock()
    clock.add("train_s", 1.5)
    clock.add("eval_s", 1.0)
    clock.add("train_s", 2.0)
    assert clock.timings == {"train_s": 3.5, "eval_s": 1.0}
    assert 0 <= clock.elapsed_s() < 60
    started = datetime.fromisoformat(clock.started_at)
    assert started.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - started) < timedelta(minutes=1)


def test_memory_and_processor_are_those_of_this_machine() -> None:
    assert 0.001 < peak_memory_gib() < 10_000
    assert re.fullmatch(r"cpu \(\w+, \d+ cores\)", describe_processor())
