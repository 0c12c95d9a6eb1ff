"""Lists can be read back."""

import csv
import io
import json

import pytest

from miniworld.tables import format_csv, format_duration, format_json, format_table


def test_a_table_keeps_blanks_commas_and_quotes_as_they_are() -> None:
    assert format_table(("a", "b"), [(' 1,  "x" ', "y")]) == b'a\tb\n 1,  "x" \ty\n'


@pytest.mark.parametrize("cell", ["one\ttwo", "one\ntwo", "one\r"])
def test_a_table_refuses_what_could_not_be_read_back(cell: str) -> None:
    with pytest.raises(ValueError, match="holds a tab or a line end"):
        format_table(("a",), [(cell,)])


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv_quotes_commas_and_ends_lines_as_asked(line_end: str) -> None:
    content = format_csv(("a", "b"), [("x, y", 2)], line_end=line_end).decode()
    assert content == f'a,b{line_end}"x, y",2{line_end}'
    assert list(csv.reader(io.StringIO(content, newline=""))) == [["a", "b"], ["x, y", "2"]]


def test_csv_has_no_header_where_none_is_given() -> None:
    assert format_csv((), [("a", 1)]) == b"a,1\n"


def test_json_ends_its_line() -> None:
    content = format_json({"a": [1]})
    assert content.endswith(b"\n")
    assert json.loads(content) == {"a": [1]}
    assert format_json([1, 2], indent=None) == b"[1, 2]\n"


def test_durations_have_thousandths() -> None:
    assert format_duration(1.5) == "1.500"
