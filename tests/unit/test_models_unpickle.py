"""Hostile files never run anything, never hang, and are refused in one line; genuine ones are read whole."""

import argparse
import collections
import enum
import io
import pathlib
import pickle
import random
import signal
import struct
import sys
import types
import typing
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.checkpoint.inert import CUT, Inert, UnreadableError, plain, printable
from models.checkpoint.reader import open_checkpoint, read_state

LIMIT_S = 20  # of one case; most take milliseconds
STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.arange(4)}


@contextmanager
def time_limit(seconds: int = LIMIT_S) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"still busy after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refused(path: Path) -> str:
    with time_limit(), pytest.raises(ValueError, match="checkpoint ") as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert message.isprintable(), message
    assert len(message) < 600
    return message


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def wrapped(value: bytes) -> bytes:
    """Put a value beside a genuine-looking state: {'model': {'w': value}}."""
    return b"\x80\x02}" + text("model") + b"}" + text("w") + value + b"ss."


def called(module: str, name: str, *args: str, end: bytes = b"R") -> bytes:
    return named(module, name) + b"(" + b"".join(text(arg) for arg in args) + b"t" + end


MARK = "MARKER"  # replaced by the path of a file that only a payload would make
TOUCH = f"touch {MARK}"
PYTHON = f"open({MARK!r}, 'w').close()"

PAYLOADS: dict[str, bytes] = {
    "os.system": called("os", "system", TOUCH),
    "posix.system": called("posix", "system", TOUCH),
    "nt.system": called("nt", "system", TOUCH),
    "subprocess.Popen": named("subprocess", "Popen") + b"(" + text(TOUCH) + b"I0\nNNNNNI01\nt" + b"R",
    "subprocess.check_output": called("subprocess", "check_output", TOUCH),
    "builtins.eval": called("builtins", "eval", PYTHON),
    "builtins.exec": called("builtins", "exec", PYTHON),
    "old builtins.eval": called("__builtin__", "eval", PYTHON),
    "builtins.compile": called("builtins", "compile", PYTHON, "x", "exec"),
    "builtins.open": called("builtins", "open", MARK, "w"),
    "builtins.__import__": called("builtins", "__import__", "os"),
    "io.open": called("io", "open", MARK, "w"),
    "pathlib.Path.touch": called("pathlib", "Path.touch", MARK),
    "getattr gadget": named("builtins", "getattr") + b"(" + named("os", "path") + text("os") + b"tR",
    "getattr chain": named("builtins", "getattr")
    + b"("
    + called("builtins", "__import__", "os")
    + text("system")
    + b"tR("
    + text(TOUCH)
    + b"tR",
    "operator.attrgetter": called("operator", "attrgetter", "system"),
    "operator.methodcaller": called("operator", "methodcaller", "system", TOUCH),
    "functools.partial": named("functools", "partial") + b"(" + named("os", "system") + text(TOUCH) + b"tR)R",
    "runpy.run_path": called("runpy", "run_path", MARK),
    "importlib.import_module": called("importlib", "import_module", "os"),
    "code.InteractiveInterpreter": called("code", "InteractiveInterpreter"),
    "types.FunctionType": called("types", "FunctionType", PYTHON),
    "marshal.loads": called("marshal", "loads", PYTHON),
    "pickle.loads": called("pickle", "loads", "cos\nsystem\n"),
    "ctypes.CDLL": called("ctypes", "CDLL", MARK),
    "socket.create_connection": called("socket", "create_connection", "x"),
    "webbrowser.open": called("webbrowser", "open", "http://x"),
    "timeit.timeit": called("timeit", "timeit", PYTHON),
    "torch.load": called("torch", "load", MARK),
    "torch.serialization.load": called("torch.serialization", "load", MARK),
    "torch.hub.load": called("torch.hub", "load", "x", "y"),
    "torch.jit.load": called("torch.jit", "load", MARK),
    "numpy.load": called("numpy", "load", MARK),
    "numpy runstring": called("numpy.testing._private.utils", "runstring", PYTHON),
    "dotted name": b"\x8c\x05torch\x8c\x12serialization.load\x93(" + text(MARK) + b"tR",
    "dotted os": b"\x8c\x07pathlib\x8c\x09os.system\x93(" + text(TOUCH) + b"tR",
    "name with a newline": b"\x8c\x04os\nx\x8c\x06system\x93(" + text(TOUCH) + b"tR",
    "nested REDUCE": called("builtins", "eval", "1")[:-1]
    + b"R0"
    + named("builtins", "eval")
    + b"("
    + called("builtins", "str", PYTHON)
    + b"tR",
    "call of an inert object": named("some.thing", "Class") + b")R(" + text(TOUCH) + b"tR",
    "call of a string": text("os.system") + b"(" + text(TOUCH) + b"tR",
    "NEWOBJ": called("os", "system", TOUCH, end=b"\x81"),
    "NEWOBJ_EX": named("os", "system") + b"(" + text(TOUCH) + b"t}\x92",
    "INST": b"(" + text(TOUCH) + b"ios\nsystem\n",
    "OBJ": b"(" + named("os", "system") + text(TOUCH) + b"o",
    "OBJ of a string": b"(" + text("os.system") + text(TOUCH) + b"o",
    "BUILD with setstate": called("builtins", "object")
    + b"}"
    + text("__setstate__")
    + named("os", "system")
    + b"sb"
    + text(TOUCH)
    + b"b0"
    + called("os", "system", TOUCH),
    "BUILD of a name": named("os", "environ") + b"}" + text("PATH") + text("/tmp") + b"sb",
    "BUILD of a string": text("x") + b"}b",
    "EXT1": b"\x82\x01)R",
    "EXT2": b"\x83\x01\x00)R",
    "EXT4": b"\x84\x01\x00\x00\x00)R",
    "EXT0": b"\x82\x00)R",
    "NEXT_BUFFER": b"\x97",
    "reconstructor": named("copyreg", "_reconstructor")
    + b"("
    + named("os", "system")
    + text("x")
    + text(TOUCH)
    + b"tR",
    "newobj": named("copyreg", "__newobj__") + b"(" + named("os", "system") + text(TOUCH) + b"tR",
    "rebuild from type": named("torch._tensor", "_rebuild_from_type_v2")
    + b"("
    + named("os", "system")
    + named("x", "Y")
    + b"("
    + text(TOUCH)
    + b"t}tR",
    "rebuild from type, other function": named("torch._tensor", "_rebuild_from_type_v2")
    + b"("
    + named("torch._utils", "_rebuild_wrapper_subclass")
    + named("x", "Y")
    + b")}tR",
    "getitem": named("_operator", "getitem") + b"(" + named("os", "environ") + text("PATH") + b"tR",
    "persistent id in text": b"Pos.system\n",
    "persistent id": b"(" + text("storage") + text("0") + b"tQ",
    "bytes of a length": named("builtins", "bytes") + b"(J\xff\xff\xff\x7ftR",
    "bytearray of a length": named("builtins", "bytearray") + b"(\x8a\x06\xff\xff\xff\xff\xff\x7ftR",
    "tensor without a storage": named("torch._utils", "_rebuild_tensor_v2") + b"(NK\x00))I00\n}tR",
    "tensor with too few arguments": named("torch._utils", "_rebuild_tensor_v2") + b")R",
    "dictionary made of numbers": named("collections", "OrderedDict") + b"((K\x01K\x02ttR",
    "array of objects": named("numpy", "dtype") + b"(" + text("O8") + b"tR"
    b"0"
    + named("numpy.core.multiarray", "scalar")
    + b"("
    + named("numpy", "dtype")
    + b"("
    + text("O8")
    + b"tR"
    + b"C\x01xtR",
}

DAMAGED: dict[str, bytes] = {
    "no opcode": b"",
    "stop only": b".",
    "stack underflow": b"\x80\x02R.",
    "pop of nothing": b"\x80\x020000.",
    "marks missing": b"\x80\x02tt.",
    "memo missing": b"\x80\x02h\x09.",
    "memo below zero": b"\x80\x02Np-1\n.",
    "huge LONG4": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "negative LONG4": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "huge BINBYTES8": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "huge BINUNICODE8": b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    "huge BYTEARRAY8": b"\x80\x05\x96" + b"\xff" * 8 + b".",
    "negative BINSTRING": b"\x80\x02T\xff\xff\xff\xff.",
    "huge frame": b"\x80\x04\x95" + b"\xff" * 8 + b".",
    "endless line": b"I" + b"9" * 100_000,
    "endless number": b"L" + b"9" * 9_000 + b"L\n.",
    "no number": b"Ix\n.",
    "string without quotes": b"Sabc\n.",
    "bad unicode": b"\x80\x02X\x02\x00\x00\x00\xff\xff.",
    "dictionary with an odd count": b"\x80\x02(K\x01d.",
    "items of a list": b"\x80\x02](K\x01K\x02u.",
    "append to a dictionary": b"\x80\x02}K\x01a.",
    "lists for keys": b"\x80\x02}]K\x01s.",
    "deep tuples for keys": b"\x80\x02})" + b"\x85" * 5000 + b"K\x01s.",
    "colliding keys": b"\x80\x02}\x8a\x09" + b"\xff" * 8 + b"\x7fK\x01s.",
    "deep marks": b"\x80\x02" + b"(" * 100_000 + b".",
    "deep lists": b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".",
    "endless steps": b"\x80\x02N" + b"20" * 3_000_000 + b".",
    "endless memo": b"\x80\x04N" + b"\x94" * 3_000_000 + b".",
    "huge memo number": b"\x80\x02]r\xff\xff\xff\xff.",
    "billion laughs": b"\x80\x02]q\x00](h\x00h\x00e"
    + b"".join(b"q%c](h%ch%ce" % (i, i, i) for i in range(1, 90))
    + b".",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "unknown opcode": b"\x80\x02\xfe.",
    "magic number only": pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2),
    "magic number and a list": b"".join(pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1001, [])),
}


@pytest.mark.parametrize("case", PAYLOADS)
@pytest.mark.parametrize("form", ["pickle", "zip", "root"])
def test_a_payload_never_runs_and_is_refused_in_one_line(tmp_path: Path, case: str, form: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / f"evil.{'pt' if form == 'zip' else 'pkl'}"
    payload = PAYLOADS[case].replace(MARK.encode(), str(marker).encode())
    payload = repair_lengths(PAYLOADS[case], str(marker)) if MARK.encode() in PAYLOADS[case] else payload
    content = b"\x80\x02" + payload + b"." if form == "root" else wrapped(payload)
    if form == "zip":
        write_zip(path, {"evil/data.pkl": content, "evil/version": b"3\n"})
    else:
        path.write_bytes(content)
    refused(path)
    with pytest.raises(ValueError, match="checkpoint "):
        read_state(path)
    assert not marker.exists()


def repair_lengths(payload: bytes, marker: str) -> bytes:
    """Put the marker's path into a payload, with the lengths of the strings around it."""
    result, position = b"", 0
    while (found := payload.find(b"X", position)) >= 0:
        (size,) = struct.unpack("<I", payload[found + 1 : found + 5].ljust(4, b"\0"))
        body = payload[found + 5 : found + 5 + size]
        if size > len(payload) or MARK.encode() not in body:
            result, position = result + payload[position : found + 1], found + 1
            continue
        result += payload[position:found] + text(body.decode().replace(MARK, marker))
        position = found + 5 + size
    return result + payload[position:]


@pytest.mark.parametrize("case", ["os.system", "builtins.exec", "functools.partial", "INST", "OBJ"])
def test_the_payloads_would_run_if_they_were_let(tmp_path: Path, case: str) -> None:
    marker = tmp_path / "ran"
    pickle.loads(repair_lengths(PAYLOADS[case], str(marker)) + b".")
    assert marker.exists()


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("form", ["pickle", "zip"])
def test_damaged_and_bloated_pickles_are_refused_in_one_line(tmp_path: Path, case: str, form: str) -> None:
    path = tmp_path / "evil.pt"
    if form == "zip":
        write_zip(path, {"evil/data.pkl": DAMAGED[case]})
    else:
        path.write_bytes(DAMAGED[case])
    refused(path)


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)


def saved(*, is_zip: bool = True) -> bytes:
    target = io.BytesIO()
    torch.save({"model": STATE, "cfg": {"x": 1}}, target, _use_new_zipfile_serialization=is_zip)
    return target.getvalue()


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_members(
    path: Path, change: Callable[[dict[str, bytes]], object], compression: int = zipfile.ZIP_STORED
) -> None:
    members = members_of(saved())
    change(members)
    write_zip(path, members, compression)


ZIPS: dict[str, Callable[[dict[str, bytes]], object]] = {
    "a name that climbs": lambda m: m.update({"../../evil": b"x"}),
    "an absolute name": lambda m: m.update({"/etc/evil": b"x"}),
    "a Windows name": lambda m: m.update({"archive\\..\\evil": b"x"}),
    "a drive": lambda m: m.update({"c:/evil": b"x"}),
    "no pickle": lambda m: m.pop("archive/data.pkl"),
    "two pickles": lambda m: m.update({"other/data.pkl": b"."}),
    "a storage is missing": lambda m: m.pop("archive/data/0"),
    "a storage is short": lambda m: m.update({"archive/data/0": b"123"}),
    "another byte order": lambda m: m.update({"archive/byteorder": b"big"}),
    "a key that climbs": lambda m: m.update(
        {"archive/data.pkl": m["archive/data.pkl"].replace(b"\x01\0\0\x000", b"\x01\0\0\x00.")}
    ),
}


@pytest.mark.parametrize("case", ZIPS)
def test_zip_files_that_torch_did_not_write_are_refused(tmp_path: Path, case: str) -> None:
    with_members(tmp_path / "evil.pt", ZIPS[case])
    refused(tmp_path / "evil.pt")
    assert [entry.name for entry in tmp_path.iterdir()] == ["evil.pt"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, compression: int) -> None:
    with_members(tmp_path / "evil.pt", lambda m: m.update({"archive/data/0": bytes(30_000_000)}), compression)
    assert (tmp_path / "evil.pt").stat().st_size < 1_000_000
    assert "compressed zip member" in refused(tmp_path / "evil.pt")


def test_a_zip_whose_members_overlap_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    write_zip(path, {"archive/data.pkl": bytes(5000)})
    content = path.read_bytes()
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry, tail = content[start:end], bytearray(content[end:])
    many = b"".join(entry.replace(b"archive/data.pkl", f"archive/dat{i:05}".encode()) for i in range(500))
    tail[8:12] = struct.pack("<HH", 501, 501)
    tail[12:16] = struct.pack("<I", len(many) + len(entry))
    path.write_bytes(content[:start] + entry + many + bytes(tail))
    assert "more than its own size" in refused(path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    content = bytearray(saved())
    start = content.index(b"PK\1\2")
    content[start + 8] |= 1
    content[start + 10] = 99
    path.write_bytes(bytes(content))
    refused(path)


def plain_pickle(state: object = STATE) -> bytes:
    return pickle.dumps({"model": state, "__author__": "x"})


FORMS = {"zip": saved, "legacy": lambda: saved(is_zip=False), "pickle": plain_pickle}


@pytest.mark.parametrize("part", range(16))
@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_short_is_refused(tmp_path: Path, form: str, part: int) -> None:
    whole = FORMS[form]()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) * part // 16])
    refused(tmp_path / "cut.pt")


@pytest.mark.parametrize("form", FORMS)
def test_the_last_byte_counts(tmp_path: Path, form: str) -> None:
    (tmp_path / "cut.pt").write_bytes(FORMS[form]()[:-1])
    refused(tmp_path / "cut.pt")


QUIET = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def read_or_refuse(folder: Path, content: bytes) -> None:
    """Whatever the bytes are, there is a checkpoint or one line."""
    path = folder / "fuzzed.pt"
    path.write_bytes(content)
    with time_limit():
        try:
            checkpoint = open_checkpoint(path)
        except ValueError as error:
            message = str(error)
        else:
            message = "fine"
            for name, info in checkpoint.names.items():
                assert info.num_bytes <= len(content)
                checkpoint.read(name)
    assert message.isprintable()


@QUIET
@given(content=st.binary(max_size=300))
def test_random_bytes_end_in_one_line(tmp_path: Path, content: bytes) -> None:
    read_or_refuse(tmp_path, content)


OPCODES = [getattr(pickle, name) for name in dir(pickle) if isinstance(getattr(pickle, name), bytes) and name.isupper()]


@QUIET
@given(
    parts=st.lists(st.one_of(st.sampled_from(OPCODES), st.binary(max_size=5), st.sampled_from(list(PAYLOADS.values()))))
)
def test_random_opcodes_end_in_one_line(tmp_path: Path, parts: list[bytes]) -> None:
    read_or_refuse(tmp_path, b"\x80\x02" + b"".join(parts) + b".")
    assert not Path(MARK).exists()


@QUIET
@given(form=st.sampled_from(sorted(FORMS)), seed=st.integers(0, 10**9), count=st.integers(1, 20))
def test_files_with_flipped_bytes_end_in_one_line(tmp_path: Path, form: str, seed: int, count: int) -> None:
    content, rng = bytearray(FORMS[form]()), random.Random(seed)
    for _ in range(count):
        content[rng.randrange(len(content))] = rng.randrange(256)
    read_or_refuse(tmp_path, bytes(content))


@QUIET
@given(offset=st.integers(-3, 50), shape=st.lists(st.integers(-2, 9)), stride=st.lists(st.integers(-2, 9)))
def test_a_tensor_never_reaches_beyond_its_storage(
    tmp_path: Path, offset: int, shape: list[int], stride: list[int]
) -> None:
    members = members_of(saved())
    content = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> tuple | None:
            return ("storage", torch.FloatStorage, "0", "cpu", 6) if value is Pickler else None

    class Tensor:
        def __reduce__(self) -> tuple:
            return torch._utils._rebuild_tensor_v2, (Pickler, offset, tuple(shape), tuple(stride), False, {})

    Pickler(content, protocol=2).dump({"model": {"w": Tensor()}})
    write_zip(tmp_path / "evil.pt", {**members, "archive/data.pkl": content.getvalue()})
    try:
        value = open_checkpoint(tmp_path / "evil.pt").read("w")
    except ValueError:
        return
    assert torch.equal(value, torch.as_strided(torch.arange(6.0), shape, stride, offset))


def assert_state(path: Path, expected: dict[str, torch.Tensor]) -> None:
    checkpoint = open_checkpoint(path)
    assert set(checkpoint.names) == set(expected)
    for name, value in expected.items():
        for read in (checkpoint.read(name), checkpoint.tensor(name)):
            assert read.dtype == value.dtype
            assert read.shape == value.shape
            assert torch.equal(read, value)
        assert checkpoint.names[name].shape == tuple(value.shape)


DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8, torch.float64)


def varied() -> dict[str, torch.Tensor]:
    base = torch.randn(4, 6)
    return {
        **{str(dtype): (torch.randn(3, 5) * 3).to(dtype) for dtype in DTYPES},
        "transposed": base.t(),
        "slice": base[1:3, 2:5],
        "same storage": base,
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2)).data,
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_torch_files_are_read_bit_for_bit(tmp_path: Path, is_zip: bool, protocol: int) -> None:
    state = varied()
    torch.save({"model": state}, tmp_path / "x.pt", _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    assert_state(tmp_path / "x.pt", state)


def test_parameters_and_module_states_are_read(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    torch.save(module.state_dict(), tmp_path / "x.pt")  # an OrderedDict with a state
    assert_state(tmp_path / "x.pt", dict(module.state_dict()))
    torch.save(dict(module.named_parameters()), tmp_path / "y.pt")
    assert_state(tmp_path / "y.pt", {name: value.data for name, value in module.named_parameters()})


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_tensors_in_a_plain_pickle_are_read_bit_for_bit(tmp_path: Path, protocol: int) -> None:
    state = {name: value for name, value in varied().items() if name != "empty" or protocol >= 3}
    content = {"model": state, "__author__": "x", "matching_heuristics": True}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert_state(tmp_path / "x.pkl", state)
    checkpoint = open_checkpoint(tmp_path / "x.pkl")
    assert (checkpoint.container, checkpoint.encoding) == ("plain pickle", "plain pickle")
    assert checkpoint.others == ("__author__", "matching_heuristics")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_numpy_arrays_are_read_bit_for_bit(tmp_path: Path, protocol: int) -> None:
    kinds = ("float32", "float16", "float64", "int64", "int32", "uint8", "bool")
    arrays = {kind: np.arange(12).reshape(3, 4).astype(kind) for kind in kinds}
    arrays["fortran"] = np.asfortranarray(arrays["float32"])
    arrays["zero"] = np.array(1.5)
    content = {"model": arrays, "step": np.int64(3), "lr": np.float32(0.5)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert_state(tmp_path / "x.pkl", {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})


@pytest.mark.parametrize("kind", [">f4", "O", "U3", "M8[s]", [("x", "f4")]], ids=str)
def test_arrays_that_are_no_plain_numbers_are_refused(tmp_path: Path, kind: object) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": {"w": np.zeros(3, dtype=kind)}}))
    refused(tmp_path / "x.pkl")


def test_numpy_of_either_generation_is_read(tmp_path: Path) -> None:
    array = np.arange(6, dtype="float32")
    content = pickle.dumps({"model": {"w": array}}, protocol=3)
    assert b"numpy._core.multiarray" in content
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        (tmp_path / "x.pkl").write_bytes(content.replace(b"numpy._core.multiarray", module))
        assert_state(tmp_path / "x.pkl", {"w": torch.from_numpy(array)})


def test_mapped_tensors_do_not_write_to_the_file(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pt")
    before = (tmp_path / "x.pt").read_bytes()
    open_checkpoint(tmp_path / "x.pt").tensor("a.weight").zero_()
    assert (tmp_path / "x.pt").read_bytes() == before


@pytest.fixture
def omegaconf(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Classes with the names, slots and states of OmegaConf's, from a module that is gone when the file is read."""
    module = types.ModuleType("omegaconf.dictconfig")

    def make(name: str, **body: object) -> type:
        made = type(name, (), {"__module__": module.__name__, **body})
        setattr(module, name, made)
        return made

    for name in ("DictConfig", "ListConfig", "AnyNode", "ContainerMetadata", "Plain"):
        make(name)
    module.Choice = enum.Enum("Choice", {"HARD": "hard"}, module=module.__name__)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def configured(module: types.ModuleType, value: object, parent: object = None) -> object:
    """Wrap plain data as OmegaConf does, every node with a link to its parent."""
    kind = {dict: "DictConfig", list: "ListConfig"}.get(type(value), "AnyNode")
    node, metadata = getattr(module, kind)(), module.ContainerMetadata()
    metadata.__dict__ = {"ref_type": typing.List[int], "object_type": dict, "optional": typing.Optional[str]}  # noqa: UP006, UP045
    node.__dict__ = {"_metadata": metadata, "_parent": parent, "_flags_cache": None}
    if isinstance(value, dict):
        node._content = {key: configured(module, part, node) for key, part in value.items()}
    elif isinstance(value, list):
        node._content = [configured(module, part, node) for part in value]
    else:
        node._val = value
    return node


CONFIG = {"model": {"layers": 40, "drop": 0.1, "name": "one_peace"}, "list": [1, "two", None], "on": True}


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_settings_of_classes_that_do_not_exist_here_become_plain_data(
    tmp_path: Path, omegaconf: types.ModuleType, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    content = {"model": STATE, "cfg": configured(omegaconf, CONFIG), "extra_state": {"epoch": 3}}
    if form == "pickle":
        (tmp_path / "x.pt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=form == "zip")
    monkeypatch.delitem(sys.modules, omegaconf.__name__)
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert checkpoint.config == CONFIG
    assert checkpoint.container == "fairseq"
    assert checkpoint.others == ("extra_state",)
    assert_state(tmp_path / "x.pt", STATE)


def test_namespaces_and_other_objects_become_plain_data(tmp_path: Path, omegaconf: types.ModuleType) -> None:
    thing = omegaconf.Plain()
    thing.__dict__ = {"lr": 1e-3, "choice": omegaconf.Choice.HARD}
    args = argparse.Namespace(
        out=pathlib.PurePosixPath("/a/b"),
        names={"x"},
        both=(1, 2),
        counts=collections.Counter("aab"),
        ordered=collections.OrderedDict(a=1),
        later=collections.defaultdict(list, b=[2]),
        thing=thing,
        dtype=torch.float16,
        size=torch.Size([2, 3]),
        device=torch.device("cpu"),
        kind=dict,
        big=10**30,
        bad=float("nan"),
    )
    torch.save({"model": STATE, "args": args, "epoch": 1}, tmp_path / "x.pth")
    checkpoint = open_checkpoint(tmp_path / "x.pth")
    assert checkpoint.container == "model"
    assert checkpoint.config == {
        "out": "/a/b",
        "names": ["x"],
        "both": [1, 2],
        "counts": {"a": 2, "b": 1},
        "ordered": {"a": 1},
        "later": {"b": [2]},
        "thing": {"lr": 1e-3, "choice": "hard"},
        "dtype": "torch.float16",
        "size": [2, 3],
        "device": "cpu",
        "kind": "__builtin__.dict",
        "big": "<integer of 100 bits>",
        "bad": "nan",
    }


def test_plain_data_is_cut_where_it_would_not_end() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    assert CUT in str(plain(loop))
    laughs: list[object] = []
    for _ in range(60):
        laughs = [laughs, laughs, laughs]
    with time_limit():
        assert len(str(plain(laughs))) < 5_000_000
    deep = Inert("x.Y")
    for _ in range(100_000):
        deep = Inert("x.Y", state={"x": deep})
    with time_limit():
        assert CUT in str(plain(deep))


@given(value=st.text())
def test_what_is_shown_is_one_printable_line(value: str) -> None:
    assert printable(value).isprintable()


def test_what_is_unreadable_is_a_value_error() -> None:
    assert issubclass(UnreadableError, ValueError)
