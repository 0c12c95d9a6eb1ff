"""Progress is a bar on a terminal and a few lines elsewhere."""

import io

from reports.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, total: int, *, first: int = 1) -> str:
    with Progress(stream) as progress:
        for done in range(first, total + 1):
            progress.show("fitting", done, total, f"loss {done}")
    return stream.getvalue()


def test_elsewhere_a_line_comes_at_every_fifth_and_at_the_end() -> None:
    lines = run(io.StringIO(), 400).splitlines()
    assert [line.split(",")[0] for line in lines] == [f"fitting {done}/400" for done in (80, 160, 240, 320, 400)]
    assert lines[-1].endswith("0 s left, loss 400")
    assert not any("\r" in line for line in lines)


def test_the_end_is_always_told() -> None:
    assert run(io.StringIO(), 7).splitlines()[-1].startswith("fitting 7/7")
    assert run(io.StringIO(), 1).splitlines()[-1].startswith("fitting 1/1")


def test_a_terminal_gets_one_bar() -> None:
    text = run(Terminal(), 20)
    assert "fitting" in text
    assert "20/20" in text
    assert text.count("\n") == 1


def test_a_resumed_part_starts_where_it_was() -> None:
    text = run(Terminal(), 20, first=15)
    assert " 14/20" in text
    assert "20/20" in text
    assert run(io.StringIO(), 20, first=15).splitlines()[-1].startswith("fitting 20/20")


def test_saying_something_does_not_tear_the_bar() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.show("fitting", 3, 9, "")
        progress.say("a word")
        progress.show("fitting", 4, 9, "")
    assert "\na word\n" in stream.getvalue()


def test_a_new_part_counts_from_its_own_start() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.show("one", 2, 2, "")
        progress.show("two", 1, 1, "done")
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == ["one 2/2", "two 1/1"]


def test_without_a_word_nothing_trails() -> None:
    stream = io.StringIO()
    Progress(stream).show("one", 2, 2, "")
    assert stream.getvalue().endswith("s left\n")
