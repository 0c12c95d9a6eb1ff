"""Sources in one file of rows: the authors' tab-separated tables, and csv.

Only where every so-many-th row begins is kept; a shard is the rows between two such places.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pretrain.data.base import RawSample, SampleError
from pretrain.data.config import SourceConfig
from pretrain.data.facts import pick_facts

Row = list[str] | None
"""A row's values, each byte as one character; None where it cannot be split."""
Splitter = Callable[[Iterator[str], int | None], Iterator[Row]]

BYTES = "latin-1"  # one character a byte: separators are found without decoding, and every offset is a byte's


class Lines:
    """Lines of a file, ended by a line feed alone, that know where the next one begins.

    Args:
        stream: at the first of them.
        end: byte to stop at; None: the end of the file.
    """

    def __init__(self, stream: BinaryIO, end: int | None = None) -> None:
        self._stream = stream
        self._end = end
        self.offset = stream.tell()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = b"" if self._end is not None and self.offset >= self._end else self._stream.readline()
        if not line:
            raise StopIteration
        self.offset += len(line)
        return line.decode(BYTES)


def split_tabs(lines: Iterator[str], num_columns: int | None) -> Iterator[Row]:
    """Split an authors' table: one row a line, no quotes; the last column takes the separators that are left over.

    Source: the authors' tables, whose last column may hold the separator.
    """
    limit = -1 if num_columns is None else num_columns - 1
    for line in lines:
        yield line.removesuffix("\n").removesuffix("\r").split("\t", limit)


def split_commas(lines: Iterator[str], num_columns: int | None) -> Iterator[Row]:  # noqa: ARG001
    """Split csv: values with commas, quotes or line ends stand in quotes."""
    reader = csv.reader(lines)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:  # it goes on at the next line
            yield None


SPLITTERS: Mapping[str, Splitter] = {"table": split_tabs, "csv": split_commas}


@dataclass(frozen=True)
class Table:
    """What is known of a file of rows without reading it again."""

    path: Path
    columns: tuple[str, ...]
    starts: NDArray[np.int64]
    """(shards + 1,) byte at which each shard's first row begins, and the end of the file."""
    num_rows: int


def index_table(path: Path, split: Splitter, rows_per_shard: int) -> Table:
    """Go through a file once to see where its rows lie.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no header line, or a column twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    with path.open("rb") as stream:
        lines = Lines(stream)
        header = next(split(lines, None), None)
        if not header or len(set(header)) < len(header):
            raise ValueError(f"{path} begins with {header}, expected a header line of different column names")
        starts, num_rows = [lines.offset], 0
        rows = split(lines, len(header))
        while taken := sum(1 for _ in islice(rows, rows_per_shard)):
            num_rows += taken
            starts.append(lines.offset)
    columns = tuple(_decode(name) for name in header)
    return Table(path, (columns[0].removeprefix("\ufeff"), *columns[1:]), np.array(starts, np.int64), num_rows)


def _decode(value: str) -> str:
    return value.encode(BYTES).decode("utf-8")


class TableShard:
    """The rows between two places of a file.

    Args:
        rows: split, not yet decoded.
        columns: the header's names.
        first: number of the first row in the file, for rows without a name.
        config: which columns are which modality.
    """

    def __init__(self, rows: Sequence[Row], columns: Sequence[str], *, first: int, config: SourceConfig) -> None:
        self._rows, self._columns, self._first, self._config = rows, columns, first, config
        self._root = Path(config.path).parent if config.root is None else Path(config.root)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, ordinal: int) -> RawSample:
        """Read one row; see `Shard.read`."""
        number = f"row {self._first + ordinal}"
        values = self._name_values(self._rows[ordinal], number)
        key = values[self._config.key] if self._config.key is not None else str(self._first + ordinal)
        fields = {
            modality: place_value(modality, values[column], root=self._root, key=key)
            for modality, column in self._config.fields.items()
        }
        return RawSample(key, fields, pick_facts(values, self._config.facts, key=key))

    def _name_values(self, row: Row, number: str) -> dict[str, str]:
        if row is None or len(row) != len(self._columns):
            found = "quotes that do not match" if row is None else f"{len(row)} values"
            raise SampleError("malformed row", f"{found}, expected {len(self._columns)}", key=number)
        try:
            return dict(zip(self._columns, map(_decode, row), strict=True))
        except UnicodeDecodeError as error:
            raise SampleError("malformed row", f"it is not UTF-8: {error}", key=number) from None

    def close(self) -> None:
        """Nothing is open."""


def place_value(modality: str, value: str, *, root: Path, key: str) -> str | Path:
    """Make content of a text, and a path below a folder of anything else.

    Raises:
        SampleError: no path there.
    """
    if modality == "text":
        return value
    if not value:
        raise SampleError("missing member", f"no path for its {modality}", key=key)
    return root / value


class TableSource:
    """One file of rows.

    Args:
        config: of kind `table` or `csv`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no header line, or a column that it does not name.
    """

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._split = SPLITTERS[config.kind]
        self._table = index_table(Path(config.path), self._split, config.rows_per_shard)
        for column in (*config.fields.values(), *config.facts.values(), *([config.key] if config.key else [])):
            if column not in self._table.columns:
                raise ValueError(f"{config.path} has no column {column!r}, only {', '.join(self._table.columns)}")

    @property
    def shards(self) -> Sequence[str]:
        """The file's name and the first row of each shard."""
        return [f"{self._table.path.name}:{self._first(shard)}" for shard in range(len(self._table.starts) - 1)]

    def count(self, shard: int) -> int:
        """Count a shard's rows; see `Source.count`."""
        return min(self._config.rows_per_shard, self._table.num_rows - self._first(shard))

    def open(self, shard: int) -> TableShard:
        """Read a shard's rows; see `Source.open`."""
        start, end = (int(self._table.starts[index]) for index in (shard, shard + 1))
        with self._open_file() as stream:
            stream.seek(start)
            rows = list(self._split(Lines(stream, end), len(self._table.columns)))
        if len(rows) != self.count(shard):
            raise ValueError(
                f"{self._table.path} holds {len(rows)} rows from byte {start}, expected {self.count(shard)}; it was "
                "changed while it was read: start again"
            )
        return TableShard(rows, self._table.columns, first=self._first(shard), config=self._config)

    def _first(self, shard: int) -> int:
        return shard * self._config.rows_per_shard

    def _open_file(self) -> BinaryIO:
        if not self._table.path.is_file():
            raise FileNotFoundError(f"no table at {self._table.path} any more")
        return self._table.path.open("rb")
