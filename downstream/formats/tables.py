"""The text files that lists come in: csv with and without header, the authors' tables, json. Errors name file and line.

Everywhere: UTF-8 with or without a byte order mark, line ends LF or CRLF, the last line with or without one. Nothing
but the line end is stripped.
"""

import csv
import difflib
import functools
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from downstream.formats.base import MissingDataError

DELIMITERS: Final[Mapping[str, str]] = {",": "commas", ";": "semicolons", "\t": "tabs"}
MAX_SHOWN: Final = 80  # characters of a value in a message


def show(value: object) -> str:
    """Put a value from a file into a message: quoted, on one line, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."


def on_one_line(message: str) -> str:
    """Write out the line ends that a name in a message may hold."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)


@functools.cache
def _shorten(path: Path, root: Path) -> str:
    return on_one_line(str(path.relative_to(root) if path.is_relative_to(root) else path))


@dataclass(frozen=True)
class Place:
    """Where in a list something stands, for messages."""

    path: Path
    number: int
    """From 1; of a row over several lines, the first."""
    unit: str = "line"
    """What is counted: `line`, and in json `image`, `question`, `entry`."""

    def __str__(self) -> str:
        return f"{self.path}, {self.unit} {self.number}"

    def seen_from(self, root: Path) -> str:
        """Name it with the path below a folder: `meta/esc50.csv, line 17`."""
        return f"{_shorten(self.path, root)}, {self.unit} {self.number}"

    def error(self, message: str) -> ValueError:
        """Make the error about what stands here, on one line."""
        return ValueError(on_one_line(f"{self}: {message}"))


@dataclass(frozen=True)
class Row:
    """One row of a table, or one object of a json list."""

    place: Place
    values: Mapping[str, Any]
    """By column or key."""

    def text(self, name: str) -> str:
        """Take a string, as it is written.

        Raises:
            ValueError: it is not there, no string, or holds nothing but blanks.
        """
        value = self._take(name, str, "a string")
        if not value.strip():
            raise self.place.error(f"{name} is {show(value)}, expected text")
        return str(value)

    def whole(self, name: str, *, stop: int | None = None) -> int:
        """Take a whole number from 0, below `stop`; in a table, digits alone.

        Raises:
            ValueError: it is not there, no whole number, or out of range.
        """
        value = self._take(name, (str, int), "a whole number")
        return parse_whole(value, self.place, name=name, stop=stop)

    def items(self, name: str) -> list[Any]:
        """Take a list.

        Raises:
            ValueError: it is not there, or no list.
        """
        return list(self._take(name, list, "a list"))

    def _take(self, name: str, kinds: type | tuple[type, ...], expected: str) -> Any:
        if name not in self.values:
            raise self.place.error(f"no {name!r}, only {', '.join(self.values) or 'an empty object'}")
        value = self.values[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise self.place.error(f"{name} is {show(value)}, expected {expected}")
        return value


def parse_whole(value: str | int, place: Place, *, name: str, stop: int | None = None) -> int:
    """Read a whole number from 0, below `stop`; as a string, digits alone.

    Raises:
        ValueError: no such number; the message names the place.
    """
    is_number = isinstance(value, int) or (value.isascii() and value.isdigit() and len(value) < MAX_SHOWN)
    if not is_number or int(value) < 0 or (stop is not None and int(value) >= stop):
        expected = "from 0" if stop is None else f"from 0 to {stop - 1}"
        raise place.error(f"{name} is {show(value)}, expected a whole number {expected}")
    return int(value)


def read_csv(path: Path, columns: Iterable[str]) -> tuple[Row, ...]:
    """Read a csv file whose first row names the columns; quoted values may hold commas.

    Args:
        path: of the file.
        columns: that it has to have; others stay in the rows too.

    Raises:
        MissingDataError: no such file.
        ValueError: a column is missing, a row has another number of values, or there is none.
    """
    found = list(_parse_csv(path))
    if not found:
        raise ValueError(f"{path} is empty, expected a line with {','.join(columns)}")
    header = found[0][1]
    _check_header(path, header, wanted=tuple(columns), delimiter=",")
    if len(found) == 1:
        raise ValueError(f"{path} ends after line 1, the header; expected rows below it")
    return tuple(_make_row(place, values, columns=header, delimiter=",") for place, values in found[1:])


def read_bare_csv(path: Path, columns: Sequence[str]) -> tuple[Row, ...]:
    """Read a csv file without header; `columns` names all values of a row in their order.

    Raises:
        MissingDataError: no such file.
        ValueError: a row has another number of values, or there is none.
    """
    found = list(_parse_csv(path))
    if not found:
        raise ValueError(f"{path} is empty, expected rows of {','.join(columns)}")
    return tuple(_make_row(place, values, columns=columns, delimiter=",") for place, values in found)


def read_table(path: Path, columns: Iterable[str]) -> tuple[Row, ...]:
    """Read an authors' table: separated by tabs, a header, no quoting; the last column takes left-over tabs.

    Args:
        path: of the file.
        columns: that it has to have; others stay in the rows too.

    Raises:
        MissingDataError: no such file.
        ValueError: a column is missing, a row has too few values, or there is none.

    Source: reference one_peace/data/tsv_reader.py.
    """
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError(f"{path} is empty, expected a line with {' '.join(columns)}, separated by tabs")
    header = lines[0].split("\t")
    _check_header(path, header, wanted=tuple(columns), delimiter="\t")
    if len(lines) == 1:
        raise ValueError(f"{path} ends after line 1, the header; expected rows below it")
    return tuple(
        _make_row(Place(path, number), line.split("\t", len(header) - 1), columns=header, delimiter="\t")
        for number, line in enumerate(lines[1:], start=2)
    )


def read_json(path: Path) -> Any:
    """Read a json file.

    Raises:
        MissingDataError: no such file.
        ValueError: it is no json, or an object names a key twice.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_make_object)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}, column {error.colno}: no json ({error.msg}); fetch it again"
        ) from None
    except RecursionError:
        raise ValueError(f"{path}, line 1: lists within lists without end, expected one list of samples") from None
    except _RepeatedKeyError as error:
        raise ValueError(f"{path}: the key {show(error.args[0])} stands twice in one object, expected once") from None
    except ValueError as error:  # a number of more digits than Python takes
        raise ValueError(f"{path}: no json ({error}); fetch it again") from None


def make_rows(path: Path, values: object, *, unit: str) -> tuple[Row, ...]:
    """Take a json list of objects as rows; `unit` says what each is.

    Raises:
        ValueError: no list, an empty one, or one of something else.
    """
    if not isinstance(values, list) or not values:
        raise ValueError(f"{path} holds {show(values)}, expected a list of objects, one for each {unit}")
    return tuple(make_row(Place(path, number, unit), value) for number, value in enumerate(values, start=1))


def make_row(place: Place, value: object) -> Row:
    """Take a json object as a row.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, dict):
        raise place.error(f"{show(value)}, expected an object")
    return Row(place, value)


def read_text(path: Path) -> str:
    """Read a whole text file; line ends stay as they are.

    Raises:
        MissingDataError: no such file.
        ValueError: it is not UTF-8.
    """
    if not path.is_file():
        raise MissingDataError(f"{path} is missing" if not path.exists() else f"{path} is a folder, expected a file")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None


class _RepeatedKeyError(Exception):
    pass


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise _RepeatedKeyError(key)
        made[key] = value
    return made


def _parse_csv(path: Path) -> Iterator[tuple[Place, list[str]]]:
    """Give rows with the lines they begin at; empty lines at the end are none."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    num_empty, begin = 0, 1
    try:
        for values in reader:
            if values:
                for number in range(begin - num_empty, begin):
                    yield Place(path, number), []
                yield Place(path, begin), values
            num_empty = 0 if values else num_empty + 1
            begin = reader.line_num + 1
    except csv.Error as error:
        raise Place(path, begin).error(f"no csv ({error}); look for a quotation mark without its partner") from None


def _check_header(path: Path, header: Sequence[str], *, wanted: Sequence[str], delimiter: str) -> None:
    place = Place(path, 1)
    if len(header) == 1:
        _check_delimiter(place, header[0], delimiter=delimiter, num_values=len(wanted))
    for column in wanted:
        if column not in header:
            nearest = difflib.get_close_matches(column, header, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise place.error(f"no column {column!r} among {', '.join(map(show, header))}{hint}")
    if len(set(header)) < len(header):
        raise place.error(f"a column name stands twice among {', '.join(map(show, header))}, expected each once")


def _check_delimiter(place: Place, line: str, *, delimiter: str, num_values: int) -> None:
    """Say so where a line that was not split holds as many values for another delimiter."""
    for other, name in DELIMITERS.items():
        if other != delimiter and line.count(other) + 1 >= num_values > 1:
            raise place.error(f"separated by {name}, expected {DELIMITERS[delimiter]}; save it with those")


def _make_row(place: Place, values: Sequence[str], *, columns: Sequence[str], delimiter: str) -> Row:
    if len(values) == len(columns):
        return Row(place, dict(zip(columns, values, strict=True)))
    if len(values) == 1:
        _check_delimiter(place, values[0], delimiter=delimiter, num_values=len(columns))
    plural = "" if len(values) == 1 else "s"
    raise place.error(f"{len(values)} value{plural}, expected {len(columns)}: {', '.join(columns)}")
