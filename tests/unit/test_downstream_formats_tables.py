"""Text files are read to the letter, whatever their line ends and marks."""

from pathlib import Path

import pytest

from downstream.formats.base import MissingDataError
from downstream.formats.tables import Place, Row, read_bare_csv, read_csv, read_json, read_table, read_text, show

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "list.txt"


@pytest.mark.parametrize("mark", [b"", BOM], ids=["plain", "marked"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_line_ends_and_marks_change_nothing_in_a_csv(path: Path, mark: bytes, end: bytes, last: bool) -> None:
    lines = [b"id,text", b'1,"a, b"', b"2, c "]
    path.write_bytes(mark + end.join(lines) + (end if last else b""))
    assert [dict(row.values) for row in read_csv(path, ["id", "text"])] == [
        {"id": "1", "text": "a, b"},
        {"id": "2", "text": " c "},
    ]


@pytest.mark.parametrize("mark", [b"", BOM], ids=["plain", "marked"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_line_ends_and_marks_change_nothing_in_a_table(path: Path, mark: bytes, end: bytes, last: bool) -> None:
    lines = [b"id\ttext", b'1\t "a', b"2\tb\xc2\xa0"]
    path.write_bytes(mark + end.join(lines) + (end if last else b""))
    assert [row.values["text"] for row in read_table(path, ["text"])] == [' "a', "b\xa0"]


def test_rows_know_the_line_they_begin_at(path: Path) -> None:
    path.write_text('id,text\n1,"two\nlines"\n2,c\n')
    assert [str(row.place) for row in read_csv(path, ["id"])] == [f"{path}, line 2", f"{path}, line 4"]


def test_a_row_of_a_csv_without_header_is_named_by_its_columns(path: Path) -> None:
    path.write_text('-a,1,"x, y"\n')
    (row,) = read_bare_csv(path, ["id", "start", "label"])
    assert (row.text("id"), row.whole("start"), row.text("label"), row.place.number) == ("-a", 1, "x, y", 1)


def test_the_last_column_of_a_table_takes_left_over_tabs(path: Path) -> None:
    path.write_text("id\ttext\n1\ta\tb\tc\n")
    assert read_table(path, ["id", "text"])[0].values == {"id": "1", "text": "a\tb\tc"}


def test_columns_of_a_table_are_picked_by_name(path: Path) -> None:
    path.write_text("text\tother\tid\na\tb\tc\n")
    assert read_table(path, ["id", "text"])[0].text("id") == "c"


def test_unicode_line_separators_end_no_line(path: Path) -> None:
    path.write_text("id\ttext\n1\ta\u2028b\x0bc\x85d\n")
    assert [row.values["text"] for row in read_table(path, ["text"])] == ["a\u2028b\x0bc\x85d"]


def test_empty_lines_at_the_end_are_no_rows(path: Path) -> None:
    path.write_text("id,text\n1,a\n\n\n")
    assert len(read_csv(path, ["id"])) == 1
    path.write_text("id\ttext\n1\ta\n\n\n")
    assert len(read_table(path, ["id"])) == 1


def test_a_column_that_is_nowhere_near_is_told_with_all_there_are(path: Path) -> None:
    path.write_text("id,text\n1,a\n")
    with pytest.raises(ValueError, match=r"line 1: no column 'zzz' among 'id', 'text'$"):
        read_csv(path, ["zzz"])


@pytest.mark.parametrize(("line", "name"), [("1;2", "semicolons"), ("1\t2", "tabs")])
def test_another_delimiter_is_named_in_a_csv_without_header(path: Path, line: str, name: str) -> None:
    path.write_text(line)
    with pytest.raises(ValueError, match=f"line 1: separated by {name}, expected commas"):
        read_bare_csv(path, ["a", "b"])


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_lines_is_empty(path: Path, content: str) -> None:
    path.write_text(content)
    for read in (read_csv, read_bare_csv, read_table):
        with pytest.raises(ValueError, match="is empty, expected"):
            read(path, ["id", "text"])


def test_a_missing_file_and_a_folder_are_missing_data(path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"list\.txt is missing"):
        read_text(path)
    with pytest.raises(MissingDataError, match="is a folder, expected a file"):
        read_text(path.parent)


def test_json_may_carry_a_mark(path: Path) -> None:
    path.write_bytes(BOM + b'{"a": [1]}')
    assert read_json(path) == {"a": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "lists within lists"),
        ("[" + "9" * 5000 + "]", "no json"),
        ("", "line 1, column 1: no json"),
    ],
    ids=["deep", "huge number", "empty"],
)
def test_hostile_json_is_refused_in_one_line(path: Path, content: str, message: str) -> None:
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_json(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["-1", "1.0", " 1", "٣", "²", "", "9" * 5000, -1, True, None, 1.0])
def test_what_is_no_whole_number_is_refused(path: Path, value: object) -> None:
    with pytest.raises(ValueError, match=r"list\.txt, line 3: n is .*, expected a whole number"):
        Row(Place(path, 3), {"n": value}).whole("n")


def test_a_place_is_named_from_the_folder_of_the_data_set(tmp_path: Path) -> None:
    place = Place(tmp_path / "meta" / "esc50.csv", 17)
    assert place.seen_from(tmp_path) == "meta/esc50.csv, line 17"
    assert place.seen_from(tmp_path / "other") == f"{tmp_path}/meta/esc50.csv, line 17"


def test_values_are_shown_short_and_on_one_line() -> None:
    assert show("a\nb") == "'a\\nb'"
    assert len(show("x" * 1000)) < 100
