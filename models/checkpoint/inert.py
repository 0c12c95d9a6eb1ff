"""What a pickle holds besides tensors, as data that does nothing."""

import math
import os
from dataclasses import dataclass, field
from typing import Any

MAX_NODES = 50_000
MAX_DEPTH = 40
MAX_TEXT = 20_000
CUT = "..."


class UnreadableError(ValueError):
    """The bytes are damaged, or ask for something that is not data; the message is one line."""


class FileView:
    """The bytes of an open file, read in small pieces.

    A mapping would do, but kernels map whole blocks of megabytes around each byte that is looked at, and these count
    as memory in use.
    """

    PIECE_BYTES = 2**16

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._start = self._stop = 0
        self._piece = memoryview(b"")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: slice) -> memoryview:
        """Give the bytes from `where.start` to `where.stop`, fewer at the end of the file."""
        start, stop = min(where.start, self._size), min(where.stop, self._size)
        if start < self._start or stop > self._stop:
            data = os.pread(self._descriptor, max(self.PIECE_BYTES, stop - start), start)
            self._piece, self._start, self._stop = memoryview(data), start, start + len(data)
        return self._piece[start - self._start : max(stop - self._start, 0)]


View = memoryview | FileView


@dataclass(frozen=True)
class Span:
    """Bytes that a pickle carries, left where they are."""

    start: int
    nbytes: int
    held: memoryview | None = None
    """The buffer that holds them, where it is not the file itself."""

    def within(self, file: View) -> memoryview:
        """Give the bytes."""
        source = file if self.held is None else self.held
        return source[self.start : self.start + self.nbytes]


@dataclass(frozen=True)
class Global:
    """The name of a class or function; nothing is looked up by it."""

    module: str
    name: str

    def __str__(self) -> str:
        """Spell it as Python does."""
        return printable(f"{self.module}.{self.name}")


@dataclass(eq=False, slots=True)
class Inert:
    """An object of a class that was not looked up: what the pickle says of it, as data."""

    kind: str
    """The class by its full name."""
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)
    """What was set by key, where the class is a mapping."""
    elements: list[Any] = field(default_factory=list)
    """What was appended, where the class is a sequence or a set."""


def printable(value: object, limit: int = 120) -> str:
    """Put text from a file into one line that no terminal obeys, cut where it is long."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - len(CUT)] + CUT
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def plain(value: object) -> Any:
    """Read numbers, strings, lists and dictionaries out of inert objects, as far as they go.

    OmegaConf containers, namespaces, enumerations, paths and objects with attributes are unwrapped; of anything else
    the name of its class is left. Cycles and what goes beyond `MAX_NODES` or `MAX_DEPTH` are cut and marked `...`.
    """
    return _Reader().read(value, 0)


class _Reader:
    """One reading with its budget: shared parts of a small pickle could spell out to a huge text."""

    def __init__(self) -> None:
        self.left = MAX_NODES

    def read(self, value: object, depth: int) -> Any:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            return CUT
        if isinstance(value, dict):
            return self._pairs(list(value.items()), depth)
        if isinstance(value, list | tuple):
            return self._list(value, depth)
        if isinstance(value, Inert):
            return self._inert(value, depth)
        return _atom(value)

    def _list(self, values: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        kept = values[: max(self.left, 0)]
        return [self.read(value, depth + 1) for value in kept] + [CUT] * (len(kept) < len(values))

    def _pairs(self, pairs: list[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        kept = pairs[: max(self.left, 0)]
        read = {_key(key): self.read(value, depth + 1) for key, value in kept}
        return {**read, CUT: CUT} if len(kept) < len(pairs) else read

    def _inert(self, value: Inert, depth: int) -> Any:
        state = _attributes(value.state)
        for wrapped in ("_content", "_val"):  # OmegaConf's containers and nodes
            if wrapped in state:
                return self.read(state[wrapped], depth + 1)
        if value.items:
            return self._pairs(value.items, depth)
        if value.elements:
            return self._list(value.elements, depth)
        if state:
            return self._pairs([pair for pair in state.items() if not str(pair[0]).startswith("__")], depth)
        return self._called(value, depth)

    def _called(self, value: Inert, depth: int) -> Any:
        """Read an object that is told by the arguments of its class alone."""
        last = value.kind.rpartition(".")[2]
        if last.endswith("Path") and all(isinstance(part, str) for part in value.args):
            return "/".join(str(_atom(part)) for part in value.args).replace("//", "/")
        if last in ("set", "frozenset", "list", "tuple", "deque", "dict") and not value.args:
            return {} if last == "dict" else []
        if len(value.args) == 1:  # an enumeration's member, a set
            return self.read(value.args[0], depth + 1)
        return f"<{printable(value.kind)}>"


def _attributes(state: Any) -> dict[Any, Any]:
    """Give an object's attributes; with slots they come as a pair."""
    if isinstance(state, tuple) and len(state) == 2:
        return {**_attributes(state[0]), **_attributes(state[1])}
    return state if isinstance(state, dict) else {}


def _key(key: object) -> str:
    if isinstance(key, Inert):
        return str(_atom(key.args[0])) if len(key.args) == 1 else f"<{printable(key.kind)}>"
    return str(_atom(key))


def _atom(value: object) -> Any:
    """Give a number or a text that JSON can hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else f"<integer of {value.bit_length()} bits>"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        text = value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + CUT
        return text.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Global):
        return str(value)
    return f"<{type(value).__name__.lower()}>"
