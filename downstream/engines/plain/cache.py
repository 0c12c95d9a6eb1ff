"""Vectors on disk, by what they were made from: written as a run goes on, read by the next one."""

import random
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 120.0  # several processes write to one file
MAX_READ_ROWS = 10_000


class VectorCache:
    """Vectors of one model under one protocol; several processes may write at once, and a kill tears nothing.

    Args:
        path: the file; made with its folder if it is not there.

    Raises:
        ValueError: the file is something else, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._connection = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
            self._start_journal()
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
            self._connection.execute("CREATE TEMP TABLE wanted (place INTEGER PRIMARY KEY, key BLOB NOT NULL)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _start_journal(self) -> None:
        """Switch to the journal that lets others read meanwhile; SQLite itself does not wait for its turn here."""
        last = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > last:
                    raise
                time.sleep(random.uniform(0.01, 0.05))
            else:
                return

    def write(self, vectors: Mapping[bytes, Tensor]) -> None:
        """Keep vectors, each (dim,) float32 on the CPU; one that is there already stays."""
        rows = [(key, vector.numpy().tobytes()) for key, vector in vectors.items()]
        with self._explained(), self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

    def find(self, keys: Iterable[bytes]) -> frozenset[bytes]:
        """Tell which of the keys have a vector."""
        with self._explained():
            self._want(keys)
            with closing(self._connection.execute("SELECT key FROM wanted JOIN vectors USING (key)")) as found:
                return frozenset(key for (key,) in found)

    def read(self, keys: Sequence[bytes]) -> Tensor:
        """Give the vectors of the keys in their order, (keys, dim) float32.

        Raises:
            ValueError: one of them is not there, or has another width than the others.
        """
        parts = [self._read_part(keys[i : i + MAX_READ_ROWS]) for i in range(0, len(keys), MAX_READ_ROWS)]
        return torch.cat(parts)

    def _read_part(self, keys: Sequence[bytes]) -> Tensor:
        with self._explained():
            self._want(keys)
            query = "SELECT vector FROM wanted JOIN vectors USING (key) ORDER BY place"
            with closing(self._connection.execute(query)) as found:
                rows = [row for (row,) in found]
        if len(rows) != len(keys) or len({len(row) for row in rows}) != 1:
            raise ValueError(
                f"{self.path} lacks {len(keys) - len(rows)} vectors or is damaged; remove it and run again"
            )
        flat = np.frombuffer(b"".join(rows), dtype=np.float32)
        return torch.from_numpy(flat.reshape(len(rows), -1).copy())

    def _want(self, keys: Iterable[bytes]) -> None:
        with self._transaction():
            self._connection.execute("DELETE FROM wanted")
            self._connection.executemany("INSERT INTO wanted (key) VALUES (?)", [(key,) for key in keys])

    @contextmanager
    def _transaction(self) -> "Iterator[None]":
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _explained(self) -> "Iterator[None]":
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} cannot be used ({error}); remove it and run again") from None
