"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

LINE_SHARE = 0.2  # of the whole, between two lines where there is no terminal


class Progress:
    """Shows how far the current part of a run is.

    Args:
        stream: where to; a bar is drawn only on a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._part = ""
        self._bar: tqdm[Any] | None = None
        self._next_line = 0.0
        self._started = 0.0
        self._first = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def say(self, line: str) -> None:
        """Print one line without tearing the bar."""
        self._close()
        print(line, file=self._stream, flush=True)

    def show(self, part: str, done: int, total: int, word: str) -> None:
        """Move on.

        Args:
            part: what is going on.
            done: how much of it is done.
            total: how much it is in all.
            word: shown behind.
        """
        if part != self._part:
            self._open(part, done, total)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            self._bar.set_postfix_str(word)
        elif done >= self._next_line or done >= total:
            self._print(part, done, total, word)
        if done >= total:
            self._close()

    def _open(self, part: str, done: int, total: int) -> None:
        self._close()
        self._part, self._started, self._first = part, time.monotonic(), done
        self._next_line = LINE_SHARE * total
        if self._stream.isatty():
            self._bar = tqdm(total=total, initial=done - 1, desc=part, file=self._stream, leave=True)

    def _print(self, part: str, done: int, total: int, word: str) -> None:
        self._next_line = done + LINE_SHARE * total
        passed = time.monotonic() - self._started
        left = passed * (total - done) / max(1, done - self._first)
        text = f"{part} {done}/{total}, {passed:.0f} s, {left:.0f} s left" + (f", {word}" if word else "")
        print(text, file=self._stream, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._part = None, ""
