"""Pickles of plain data are read whole; anything else is refused in one line, and nothing of it ever runs."""

import datetime as dt
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from downstream.formats import pickles
from downstream.formats.base import MissingDataError
from downstream.formats.pickles import MAX_DEPTH, read_pickle

PLAIN: dict[str, Any] = {
    "text": "a banana, \u00e9 \u4e2d \U0001f34c",
    "numbers": [0, 1, -1, 255, 65535, 2**31, -(2**40), 1.5, float("inf")],
    "rest": [True, False, None, [], {}, ""],
    "by number": {1: "one", None: 0},
}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def doubled(times: int) -> list[Any]:
    """Make a small pickle that spells out to two to the power of `times`."""
    value: list[Any] = ["ha" * 100]
    for _ in range(times):
        value = [value, value]
    return value


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    value = read_pickle(write(tmp_path / "x.p", pickle.dumps([PLAIN, PLAIN], protocol=protocol)))
    assert value == [PLAIN, PLAIN]
    assert [type(item) for item in value[0]["rest"][:3]] == [bool, bool, type(None)]


@pytest.mark.parametrize(
    "content",
    [
        b"(dp0\nS'sent'\np1\nS'caf\\xe9'\np2\nsS'n'\nL3L\ns.",
        b"\x80\x02}q\x00(U\x04sentU\x04caf\xe9U\x01nK\x03u.",
        pickle.dumps({b"sent": b"caf\xe9", "n": 3}, protocol=4),
    ],
    ids=["protocol 0", "protocol 2", "bytes"],
)
def test_byte_strings_become_text(tmp_path: Path, content: bytes) -> None:
    assert read_pickle(write(tmp_path / "x.p", content)) == {"sent": "caf\u00e9", "n": 3}


def test_what_was_shared_stays_shared(tmp_path: Path) -> None:
    part = ["x"]
    first, second = read_pickle(write(tmp_path / "x.p", pickle.dumps([part, part])))
    assert first is second


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_make_a_file_makes_none(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    content = pickle.dumps([PLAIN, Payload(marker)], protocol=protocol)
    pickle.loads(content)
    assert marker.exists(), "the payload is one"
    marker.unlink()
    with pytest.raises(ValueError, match="is refused: it asks to call"):
        read_pickle(write(tmp_path / "x.p", content))
    assert not marker.exists()


def hostile(marker: Path) -> dict[str, bytes]:
    """List pickles that run `touch` where somebody lets them."""
    command = f"touch {marker}".encode()
    text = b"X" + struct.pack("<I", len(command)) + command
    return {
        "reduce": b"cos\nsystem\n(" + text + b"tR.",
        "instance": b"(" + text + b"ios\nsystem\n.",
        "object": b"(cos\nsystem\n" + text + b"o.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
        "new object": b"\x80\x02cos\nsystem\n" + text + b"\x85\x81.",
        "new object with names": b"\x80\x04cos\nsystem\n" + text + b"\x85}\x92.",
        "state": b"\x80\x02cos\nsystem\n}b.",
        "state of a dictionary": b"\x80\x02}(X\x08\x00\x00\x00__call__cos\nsystem\nud}b.",
        "extension code": b"\x80\x02\x82\x01(" + text + b"tR.",
        "persistent id": b"P" + command + b"\n.",
        "persistent id of the stack": text + b"Q.",
        "buffer elsewhere": b"\x80\x05\x97.",
        "name alone": b"cos\nsystem\n.",
        "name as a key": b"}cos\nsystem\nK\x01s.",
    }


@pytest.mark.parametrize("name", hostile(Path()))
def test_nothing_that_asks_for_more_than_data_is_read(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    path = write(tmp_path / "x.p", hostile(marker)[name])
    with pytest.raises(ValueError, match="is refused") as caught:
        read_pickle(path)
    assert type(caught.value) is ValueError
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1
    assert not marker.exists()


WHOLE = pickle.dumps([PLAIN], protocol=2)
FAULTS = {
    "empty": (b"", "ends too early"),
    "truncated": (WHOLE[: len(WHOLE) // 2], "ends too early"),
    "no end": (WHOLE[:-1], "ends too early"),
    "more after its end": (WHOLE + b"x", "goes on for 1 bytes"),
    "no pickle": (b"sent_id,text\n1,a dog\n", "its pickle"),
    "unknown opcode": (b"\x80\x02\xff.", "unknown or unsafe opcode 0xff"),
    "nothing on the stack": (b"\x80\x02.", "damaged"),
    "text longer than the file": (b"\x80\x02X\xff\xff\xff\x7fabc.", "ends too early"),
    "bytes longer than the file": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00.", "ends too early"),
    "memo far away": (b"\x80\x02]r\xff\xff\xff\xff0j\xff\xff\xff\x7f.", "damaged"),
    "tuple": (pickle.dumps([(1, 2)]), "a value of the kind tuple"),
    "set": (pickle.dumps({1, 2}, protocol=4), "a value of the kind builtins.set"),
    "date": (pickle.dumps(dt.date(2014, 1, 1)), "datetime.date, which is not data"),
    "ordered dictionary": (pickle.dumps(OrderedDict(a=1)), "collections.OrderedDict, which is not data"),
    "complex": (pickle.dumps(1j), "builtins.complex, which is not data"),
    "huge integer": (pickle.dumps(10**100), "an integer of 333 bits"),
    "surrogate": (pickle.dumps("\ud800"), "no Unicode"),
    "too deep": (pickle.dumps(nested(MAX_DEPTH + 1)), "more than 50 deep"),
    "within itself": (b"\x80\x02]q\x00h\x00a.", "more than 50 deep"),
    "spelt out without end": (pickle.dumps(doubled(MAX_DEPTH - 2)), "spells out to more than"),
    "key twice": (pickle.dumps({"a": 1, b"a": 2}, protocol=4), "a key twice"),
    "unhashable key": (b"\x80\x02}]K\x01s.", "containers for keys"),
}


@pytest.mark.parametrize(("content", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_anything_else_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = write(tmp_path / "x.p", content)
    with pytest.raises(ValueError, match="is refused") as caught:
        read_pickle(path)
    assert type(caught.value) is ValueError
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for size in range(len(WHOLE)):
        with pytest.raises(ValueError, match="is refused"):
            read_pickle(write(tmp_path / "x.p", WHOLE[:size]))


def test_parts_that_are_shared_count_as_deep_as_they_lie(tmp_path: Path) -> None:
    part = nested(MAX_DEPTH - 3)
    assert read_pickle(write(tmp_path / "x.p", pickle.dumps([part, [[part]]]))) == [part, [[part]]]
    with pytest.raises(ValueError, match="more than 50 deep"):
        read_pickle(write(tmp_path / "x.p", pickle.dumps([part, [[[part]]]])))


def test_steps_and_bytes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.p", WHOLE)
    monkeypatch.setattr(pickles, "MAX_STEPS", 20)
    with pytest.raises(ValueError, match="takes more than 20 steps"):
        read_pickle(path)
    monkeypatch.setattr(pickles, "MAX_BYTES", 20)
    with pytest.raises(ValueError, match=r"bytes, expected a pickle of at most 20"):
        read_pickle(path)


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"x\.p is missing"):
        read_pickle(tmp_path / "x.p")
    with pytest.raises(MissingDataError, match="is a folder, expected a file"):
        read_pickle(tmp_path)


@pytest.mark.parametrize(
    "name", ["refcoco/refs(unc).p", "refcoco+/refs(unc).p", "refcocog/refs(umd).p"], ids=["refcoco", "plus", "g"]
)
def test_genuine_lists_are_read_as_python_reads_them(samples_dir: Path, name: str) -> None:
    path = samples_dir / "refcoco" / name
    assert read_pickle(path) == pickle.loads(path.read_bytes())
