"""Pickles that hold plain data, read as data: nothing in them is looked up, called or executed.

The opcodes are read by `models.checkpoint.unpickle`, which knows classes and functions by name only; here whatever is
not plain data refuses the file. Byte strings, as Python 2 wrote them, become text.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from downstream.formats.base import MissingDataError
from downstream.formats.tables import on_one_line
from models.checkpoint.inert import Span, UnreadableError, printable
from models.checkpoint.unpickle import Budget, Unpickler

if TYPE_CHECKING:
    from models.checkpoint.rebuild import Rebuilder

MAX_BYTES: Final = 2**28  # of a file; the largest published list has 25 MB
MAX_STEPS: Final = 50_000_000  # opcodes of a file; the largest published list needs some 5 million
MAX_DEPTH: Final = 50  # containers within each other
MAX_SIZE: Final = 2**30  # values and characters, shared parts counted each time
MAX_BITS: Final = 63  # of an integer


def read_pickle(path: Path) -> Any:
    """Read a pickle of any protocol: lists, dictionaries, text, numbers, True, False and None, nothing else.

    Raises:
        MissingDataError: no such file.
        ValueError: it is damaged, too large, goes on after its end, or holds or asks for anything else.
    """
    if not path.is_file():
        raise MissingDataError(f"{path} is missing" if not path.exists() else f"{path} is a folder, expected a file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, expected a pickle of at most {MAX_BYTES}")
    content = memoryview(path.read_bytes())
    try:
        return _Plain(content).take(_unpickle(content)).value
    except UnreadableError as error:
        expected = "a pickle of lists, dictionaries, text and numbers"
        raise ValueError(on_one_line(f"{path} is refused: {error}; expected {expected}, fetch it again")) from None


def _unpickle(content: memoryview) -> Any:
    budget = Budget(MAX_STEPS)
    reader = Unpickler(content, rebuilder=cast("Rebuilder", _Refuser()), budget=budget)
    try:
        value = reader.load()
    except UnreadableError:
        if budget.steps < 0:
            raise UnreadableError(f"its pickle takes more than {MAX_STEPS} steps") from None
        raise
    if reader.position < len(content):
        raise UnreadableError(f"it goes on for {len(content) - reader.position} bytes after the end of its pickle")
    return value


class _Refuser:
    """Answers everything that a pickle calls with a refusal."""

    def call(self, target: object, _args: object) -> NoReturn:
        raise UnreadableError(f"it asks to call {printable(target)}, which is not data")

    def set_state(self, target: object, _state: object) -> NoReturn:
        raise UnreadableError(f"it gives a state to a value of the kind {type(target).__name__}")


class _Made(NamedTuple):
    """A value that was converted."""

    value: Any
    size: int
    """Values and characters in it, spelt out."""
    height: int
    """Containers within each other, itself included; 0 of what is none."""


class _Plain:
    """One reading of what was unpickled; shared parts are converted once and stay shared."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._done: dict[int, _Made] = {}

    def take(self, value: object, depth: int = 0) -> _Made:
        """Convert a value that lies in `depth` containers."""
        if isinstance(value, list | dict):
            return self._take_container(value, depth + 1)
        if isinstance(value, str | Span):
            text = value if isinstance(value, str) else bytes(value.within(self._content)).decode("latin1")
            return _Made(self._check_text(text), 1 + len(text), 0)
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise UnreadableError(f"it holds an integer of {value.bit_length()} bits")
        if value is None or isinstance(value, bool | int | float):
            return _Made(value, 1, 0)
        kind = getattr(value, "kind", type(value).__name__.lower())  # of an object, its class
        raise UnreadableError(f"it holds a value of the kind {printable(kind)}")

    def _check_text(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnreadableError("it holds text that is no Unicode") from None
        return text

    def _take_container(self, value: list[Any] | dict[Any, Any], depth: int) -> _Made:
        known = self._done.get(id(value))
        if depth + (known.height - 1 if known else 0) > MAX_DEPTH:
            raise UnreadableError(f"it holds containers more than {MAX_DEPTH} deep")
        if known:
            return known
        made = self._take_list(value, depth) if isinstance(value, list) else self._take_dict(value, depth)
        if made.size > MAX_SIZE:
            raise UnreadableError(f"it spells out to more than {MAX_SIZE} values and characters")
        self._done[id(value)] = made
        return made

    def _take_list(self, values: list[Any], depth: int) -> _Made:
        parts = [self.take(value, depth) for value in values]
        return self._join([part.value for part in parts], parts)

    def _take_dict(self, values: dict[Any, Any], depth: int) -> _Made:
        keys = [self.take(key, depth) for key in values]
        parts = [self.take(value, depth) for value in values.values()]
        made = dict(zip((key.value for key in keys), (part.value for part in parts), strict=True))
        if len(made) < len(values):
            raise UnreadableError("it holds a dictionary that has a key twice")
        return self._join(made, keys + parts)

    def _join(self, value: list[Any] | dict[Any, Any], parts: list[_Made]) -> _Made:
        height = 1 + max((part.height for part in parts), default=0)
        return _Made(value, 1 + sum(part.size for part in parts), height)
