"""A pickle reader that executes nothing: it knows the opcodes, but looks no name up and calls nothing.

Names of classes and functions stay names. The few that stand for tensors, arrays and dictionaries are answered by
`models.checkpoint.rebuild`, other classes become inert objects, and the call of anything else refuses the file. The
number of steps and the depth are bounded, and nothing is allocated that the file's own bytes do not pay for.
"""

import pickle
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.checkpoint.inert import Global, Inert, Span, UnreadableError, View, printable

if TYPE_CHECKING:  # with torch, which plain data does not need
    from models.checkpoint.rebuild import Rebuilder

MAX_STEPS = 2_000_000
"""Opcodes in a file, pickles inside its byte strings included. The released files need some 50,000."""
MAX_MARKS = 1_000
MAX_LINE = 10_000
MAX_TEXT_LINE = 2**31  # protocol 0 spells bytes as one line of text
MAX_KEY_BITS = 60  # beyond, integers can be made to collide in a dictionary
MAX_KEY_PARTS = 16
MAX_DIGITS = 4_000

_FAULTS = (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error, AttributeError, RecursionError)


@dataclass
class Budget:
    """Steps that are left for a whole file."""

    steps: int = MAX_STEPS


class Unpickler:
    """Reads the pickles in a buffer, one after another.

    Args:
        view: the file, or bytes that were found in it.
        rebuilder: answers calls.
        persistent: answers persistent ids, which torch's files use for storages; None refuses them.
        budget: steps left, shared by everything that is read from a file.
        start: where the first pickle begins.
        stop: where the bytes end that may be read.
    """

    def __init__(
        self,
        view: View,
        *,
        rebuilder: "Rebuilder",
        budget: Budget,
        persistent: Callable[[Any], Any] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.position = start
        self._view = view
        self._end = len(view) if stop is None else stop
        self._rebuilder = rebuilder
        self._budget = budget
        self._persistent = persistent
        self._held = view if isinstance(view, memoryview) else None  # not the file itself
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """Read the next pickle.

        Raises:
            UnreadableError: it is damaged, too large, or asks for something that is not data.
        """
        self._stack, self._marks, self._memo = [], [], {}
        try:
            for opcode in self._opcodes():
                _ACTIONS[opcode](self)
            return self._stack.pop()
        except UnreadableError:
            raise
        except _FAULTS as error:
            raise UnreadableError(f"its pickle is damaged near byte {self.position}") from error

    def _opcodes(self) -> Iterator[int]:
        """Give opcodes until the one that ends a pickle."""
        while (opcode := self._take(1)[0]) != pickle.STOP[0]:
            self._budget.steps -= 1
            if self._budget.steps < 0:
                raise UnreadableError(f"its pickle takes more than {MAX_STEPS} steps")
            if opcode not in _ACTIONS:
                raise UnreadableError(f"its pickle has the unknown or unsafe opcode {opcode:#04x}")
            yield opcode

    # Reading bytes.

    def _take(self, count: int) -> memoryview:
        """Give the next bytes, uncopied; what is not there is never allocated."""
        start = self.position
        if not 0 <= count <= self._end - start:
            raise UnreadableError("its pickle ends too early")
        self.position = start + count
        return self._view[start : start + count]

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _raw_line(self, limit: int) -> bytes:
        """Read up to the end of the line, looking no further ahead than twice its length."""
        size = 128
        while True:
            window = bytes(self._view[self.position : min(self.position + size, self._end)])
            line, newline, _ = window.partition(b"\n")
            if newline:
                self.position += len(line) + 1
                return line
            if size > limit or len(window) < size:
                raise UnreadableError("its pickle has an endless line")
            size *= 2

    def _line(self) -> str:
        return self._raw_line(MAX_LINE).decode("utf-8")

    def _text(self, layout: str) -> None:
        self._stack.append(bytes(self._take(self._number(layout))).decode("utf-8", "surrogatepass"))

    def _old_text(self, layout: str) -> None:
        self._stack.append(bytes(self._take(self._number(layout))).decode("latin1"))

    def _bytes(self, layout: str) -> None:
        """Skip a byte string, and remember where it is."""
        count, start = self._number(layout), self.position
        if count > self._end - start:
            raise UnreadableError("its pickle ends too early")
        self.position += count
        self._stack.append(Span(start, count, self._held))

    def _long(self, layout: str) -> None:
        self._stack.append(int.from_bytes(self._take(self._number(layout)), "little", signed=True))

    def _long_line(self) -> None:
        digits = self._line().removesuffix("L")
        if len(digits) > MAX_DIGITS:
            raise UnreadableError("its pickle has an endless number")
        self._stack.append({"00": False, "01": True}.get(digits, int(digits)))

    def _quoted_line(self) -> None:
        """Read a string of the oldest protocol."""
        line = self._line()
        if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
            raise UnreadableError("its pickle has a string without quotes")
        self._stack.append(line[1:-1].encode("latin1").decode("unicode_escape"))

    # The stack, the memo.

    def _mark(self) -> None:
        if len(self._marks) >= MAX_MARKS:
            raise UnreadableError(f"its pickle is nested more than {MAX_MARKS} deep")
        self._marks.append(self._stack)
        self._stack = []

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise UnreadableError("its pickle takes more than it has")
        items = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._stack.append(items)

    def _put(self, index: int) -> None:
        if index < 0:
            raise UnreadableError("its pickle counts below zero")
        self._memo[index] = self._stack[-1]

    # Containers.

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        values = target.elements if isinstance(target, Inert) else target
        if not isinstance(values, list):
            raise UnreadableError(f"its pickle appends to {printable(type(target).__name__)}")
        values.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if len(items) % 2 or not isinstance(target, Inert | dict):
            raise UnreadableError("its pickle sets items where there are none")
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if isinstance(target, Inert):
            target.items.extend(pairs)
        else:
            target.update((_checked_key(key), value) for key, value in pairs)

    def _dictionary(self) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._set_items(items)

    def _collect(self, kind: Callable[[list[Any]], Any]) -> None:
        items = self._pop_mark()
        self._stack.append(kind(items))

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    # Classes and calls.

    def _named(self, module: object, name: object) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnreadableError("its pickle names a class without a name")
        return Global(module, name)

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._named(module, name))

    def _reduce(self) -> None:
        args, target = self._stack.pop(), self._stack.pop()
        self._stack.append(self._rebuilder.call(target, args))

    def _new_with_names(self) -> None:
        named, args, target = self._stack.pop(), self._stack.pop(), self._stack.pop()
        made = self._rebuilder.call(target, args)
        if isinstance(made, Inert) and isinstance(named, dict):
            made.state = named
        self._stack.append(made)

    def _instance(self) -> None:
        target = Global(self._line(), self._line())
        self._stack.append(self._rebuilder.call(target, tuple(self._pop_mark())))

    def _object(self) -> None:
        target, *args = self._pop_mark()
        self._stack.append(self._rebuilder.call(target, tuple(args)))

    def _build(self) -> None:
        state = self._stack.pop()
        self._rebuilder.set_state(self._stack[-1], state)

    def _persistent_id(self, pid: object) -> None:
        if self._persistent is None:
            raise UnreadableError("its pickle refers to something outside of it")
        self._stack.append(self._persistent(pid))


def _checked_key(key: Any) -> Any:
    """Refuse keys that are slow to hash, or made to collide."""
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > MAX_KEY_PARTS or any(isinstance(part, tuple | list | dict) for part in parts):
        raise UnreadableError("its pickle has a dictionary with containers for keys")
    if any(isinstance(part, int) and part.bit_length() > MAX_KEY_BITS for part in parts):
        raise UnreadableError("its pickle has a dictionary with huge numbers for keys")
    return key


def _push(value: Callable[[], Any]) -> Callable[[Unpickler], None]:
    return lambda reader: reader._stack.append(value())


# Opcodes that are absent here refuse the file: extension codes, and buffers that lie elsewhere.
_NAMED_ACTIONS: dict[bytes, Callable[[Unpickler], object]] = {
    pickle.PROTO: lambda r: r._take(1),
    pickle.FRAME: lambda r: r._take(8),
    pickle.MARK: Unpickler._mark,
    pickle.POP: Unpickler._pop,
    pickle.POP_MARK: Unpickler._pop_mark,
    pickle.DUP: lambda r: r._stack.append(r._stack[-1]),
    pickle.NONE: _push(lambda: None),
    pickle.NEWTRUE: _push(lambda: True),
    pickle.NEWFALSE: _push(lambda: False),
    pickle.INT: Unpickler._long_line,
    pickle.LONG: Unpickler._long_line,
    pickle.BININT: lambda r: r._stack.append(r._number("<i")),
    pickle.BININT1: lambda r: r._stack.append(r._number("<B")),
    pickle.BININT2: lambda r: r._stack.append(r._number("<H")),
    pickle.LONG1: lambda r: r._long("<B"),
    pickle.LONG4: lambda r: r._long("<i"),
    pickle.FLOAT: lambda r: r._stack.append(float(r._line())),
    pickle.BINFLOAT: lambda r: r._stack.append(r._number(">d")),
    pickle.STRING: Unpickler._quoted_line,
    pickle.BINSTRING: lambda r: r._old_text("<i"),
    pickle.SHORT_BINSTRING: lambda r: r._old_text("<B"),
    pickle.UNICODE: lambda r: r._stack.append(r._raw_line(MAX_TEXT_LINE).decode("raw_unicode_escape")),
    pickle.BINUNICODE: lambda r: r._text("<I"),
    pickle.SHORT_BINUNICODE: lambda r: r._text("<B"),
    pickle.BINUNICODE8: lambda r: r._text("<Q"),
    pickle.BINBYTES: lambda r: r._bytes("<I"),
    pickle.SHORT_BINBYTES: lambda r: r._bytes("<B"),
    pickle.BINBYTES8: lambda r: r._bytes("<Q"),
    pickle.BYTEARRAY8: lambda r: r._bytes("<Q"),
    pickle.READONLY_BUFFER: lambda _: None,
    pickle.EMPTY_LIST: _push(list),
    pickle.EMPTY_DICT: _push(dict),
    pickle.EMPTY_TUPLE: _push(tuple),
    pickle.EMPTY_SET: _push(lambda: Inert("builtins.set")),
    pickle.LIST: lambda r: r._collect(list),
    pickle.DICT: Unpickler._dictionary,
    pickle.FROZENSET: lambda r: r._collect(lambda items: Inert("builtins.frozenset", elements=items)),
    pickle.TUPLE: lambda r: r._collect(tuple),
    pickle.TUPLE1: lambda r: r._tuple(1),
    pickle.TUPLE2: lambda r: r._tuple(2),
    pickle.TUPLE3: lambda r: r._tuple(3),
    pickle.APPEND: lambda r: r._append([r._stack.pop()]),
    pickle.APPENDS: lambda r: r._append(r._pop_mark()),
    pickle.ADDITEMS: lambda r: r._append(r._pop_mark()),
    pickle.SETITEM: Unpickler._set_item,
    pickle.SETITEMS: lambda r: r._set_items(r._pop_mark()),
    pickle.GET: lambda r: r._stack.append(r._memo[int(r._line())]),
    pickle.BINGET: lambda r: r._stack.append(r._memo[r._number("<B")]),
    pickle.LONG_BINGET: lambda r: r._stack.append(r._memo[r._number("<I")]),
    pickle.PUT: lambda r: r._put(int(r._line())),
    pickle.BINPUT: lambda r: r._put(r._number("<B")),
    pickle.LONG_BINPUT: lambda r: r._put(r._number("<I")),
    pickle.MEMOIZE: lambda r: r._put(len(r._memo)),
    pickle.PERSID: lambda r: r._persistent_id(r._line()),
    pickle.BINPERSID: lambda r: r._persistent_id(r._stack.pop()),
    pickle.GLOBAL: lambda r: r._stack.append(Global(r._line(), r._line())),
    pickle.STACK_GLOBAL: Unpickler._stack_global,
    pickle.REDUCE: Unpickler._reduce,
    pickle.NEWOBJ: Unpickler._reduce,
    pickle.NEWOBJ_EX: Unpickler._new_with_names,
    pickle.INST: Unpickler._instance,
    pickle.OBJ: Unpickler._object,
    pickle.BUILD: Unpickler._build,
}
_ACTIONS = {opcode[0]: action for opcode, action in _NAMED_ACTIONS.items()}
