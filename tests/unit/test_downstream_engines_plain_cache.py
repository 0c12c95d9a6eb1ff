"""Vectors come back as they were written, in the order asked for, whoever else writes and whatever is killed."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from downstream.engines.plain import cache as cache_module
from downstream.engines.plain.cache import VectorCache

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32
WRITING_FOR_EVER = """
import sys
from pathlib import Path
import torch
from downstream.engines.plain.cache import VectorCache
first = int(sys.argv[2])
with VectorCache(Path(sys.argv[1])) as cache:
    for number in range(first, first + 10**9):
        keys = [f"{number}-{place}".encode() for place in range(7)]
        cache.write({key: torch.full((5,), float(number)) for key in keys})
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors" / "tiny.sqlite"


def test_vectors_come_in_the_order_asked_for_and_as_often(path: Path) -> None:
    first, second = torch.randn(2, 3)
    with VectorCache(path) as cache:
        cache.write({A: first, B: second})
        assert torch.equal(cache.read([B, A, B]), torch.stack([second, first, second]))
        assert torch.equal(cache.read([A]), first[None])


def test_vectors_outlive_the_process_that_wrote_them(path: Path) -> None:
    vector = torch.randn(6)
    with VectorCache(path) as cache:
        cache.write({A: vector})
    with VectorCache(path) as cache:
        assert cache.find([A, B]) == {A}
        assert torch.equal(cache.read([A])[0], vector)


def test_a_vector_that_is_there_stays(path: Path) -> None:
    with VectorCache(path) as cache:
        cache.write({A: torch.zeros(3)})
        cache.write({A: torch.ones(3), B: torch.ones(3)})
        assert cache.read([A, B]).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_more_keys_than_one_query_takes_are_read_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_READ_ROWS", 4)
    keys = [f"{number}".encode() for number in range(11)]
    with VectorCache(path) as cache:
        cache.write({key: torch.tensor([float(key)]) for key in keys})
        assert cache.read(keys[::-1]).flatten().tolist() == [float(key) for key in keys[::-1]]
        assert cache.find(keys) == set(keys)


def test_what_was_read_may_be_written_to(path: Path) -> None:
    with VectorCache(path) as cache:
        cache.write({A: torch.ones(3)})
        cache.read([A]).zero_()
        assert cache.read([A]).tolist() == [[1, 1, 1]]


def test_a_key_that_is_not_there_is_one_line_that_names_the_file(path: Path) -> None:
    with VectorCache(path) as cache:
        cache.write({A: torch.ones(3)})
        with pytest.raises(ValueError, match=r"tiny\.sqlite lacks 2 vectors or is damaged; remove it") as caught:
            cache.read([B, A, C])
    assert "\n" not in str(caught.value)


def test_vectors_of_two_widths_are_refused(path: Path) -> None:
    with VectorCache(path) as cache:
        cache.write({A: torch.ones(3), B: torch.ones(4)})
        with pytest.raises(ValueError, match="is damaged; remove it"):
            cache.read([A, B])


def open_and_read(path: Path, keys: list[bytes]) -> None:
    with VectorCache(path) as cache:
        cache.read(keys)


@pytest.mark.parametrize("damage", ["another file", "its middle", "a folder"])
def test_a_damaged_file_is_one_line_that_says_what_to_do(path: Path, damage: str) -> None:
    keys = [f"{number}".encode() for number in range(300)]
    if damage == "a folder":
        path.mkdir(parents=True)
    elif damage == "another file":
        path.parent.mkdir()
        path.write_bytes(b"this is no database" * 1000)
    else:
        with VectorCache(path) as cache:
            cache.write({key: torch.ones(30) for key in keys})
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be used .*; remove it and run again") as caught:
        open_and_read(path, keys)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_of_a_write_that_fails_is_kept(path: Path) -> None:
    with VectorCache(path) as cache:
        with pytest.raises(ValueError, match="cannot be used"):
            cache.write({A: torch.ones(3), ("no", "key"): torch.ones(3)})
        assert cache.find([A, B]) == frozenset()
        cache.write({A: torch.ones(3)})
        assert cache.find([A, B]) == {A}


def test_one_reads_while_another_writes_and_a_kill_tears_nothing(path: Path, root: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITING_FOR_EVER, str(path), "0"], cwd=root)
    seen = 0
    try:
        deadline = time.monotonic() + 60
        while not path.is_file():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with VectorCache(path) as cache:
            while seen < 3:  # more and more is seen while the other goes on
                assert process.poll() is None
                assert time.monotonic() < deadline
                seen += bool(cache.find([f"{seen}-0".encode()]))
            cache.write({A: torch.ones(5)})
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with sqlite3.connect(path) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM vectors")]
    connection.close()
    assert A in keys
    with VectorCache(path) as cache:
        numbers = {int(key.split(b"-")[0]) for key in keys if key != A}
        assert len(keys) == 1 + 7 * len(numbers), "each write is there whole or not at all"
        some = max(numbers)
        assert cache.read([f"{some}-{place}".encode() for place in range(7)]).tolist() == [[some] * 5] * 7
