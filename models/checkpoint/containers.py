"""Torch's files, plain pickles and safetensors files, opened down to where every tensor lies."""

import json
import mmap
import struct
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from models.checkpoint.inert import FileView, Span, UnreadableError, View, printable
from models.checkpoint.rebuild import TORCH_DTYPES, Rebuilder, Storage, StoredTensor, check_tensor, storage_dtype
from models.checkpoint.unpickle import Budget, Unpickler

ZIP, LEGACY, PICKLE, SAFETENSORS = "torch zip", "torch legacy", "plain pickle", "safetensors"

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
_LEGACY_PROTOCOL = 1001
_MAX_MEMBERS = 200_000
_MAX_PICKLE_BYTES = 512 * 2**20  # of a zip's data.pkl; the released files have some 300 kB
_MAX_NESTED = 1  # a pickled tensor holds a torch file in its bytes, and that holds none
_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Opened:
    """A file, read as far as it can be without its tensors' numbers."""

    encoding: str
    root: Any
    """Dictionaries and lists with `StoredTensor`, `NumpyArray` and `Inert` among them."""
    buffer: mmap.mmap
    """The whole file, mapped; writing to it does not reach the file."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Of a safetensors file."""


def open_file(path: Path) -> Opened:
    """Open one file of any container.

    Raises:
        UnreadableError: it is none, or damaged, or asks for something that is not data.
    """
    if sys.byteorder != "little":
        raise UnreadableError("this machine has another byte order than the released files")
    buffer = _map(path)
    with path.open("rb") as file:
        view = FileView(file.fileno())
        start = bytes(view[0:9])
        if path.suffix == ".safetensors" or _looks_like_safetensors(start, len(view)):
            return _open_safetensors(path, view, buffer)
        if start[:4] == _ZIP_MAGIC:
            return Opened(ZIP, _open_zip(path, view), buffer)
        return Opened(*_load_pickle(Span(0, len(view)), view=view, file=view, budget=Budget(), depth=0), buffer)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (ValueError, OSError) as error:  # nothing in it, or no regular file
            raise UnreadableError("it is empty" if "empty" in str(error) else "it cannot be mapped") from None


def _looks_like_safetensors(start: bytes, size: int) -> bool:
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _open_safetensors(path: Path, view: FileView, buffer: mmap.mmap) -> Opened:
    """Read the header; the library checks it, we only want to know where the numbers lie."""
    try:
        with safe_open(path, framework="pt"):
            pass
        length = int.from_bytes(view[0:8], "little")
        header = json.loads(bytes(view[8 : 8 + length]))
    except (SafetensorError, ValueError, RecursionError) as error:
        reason = printable(str(error).strip() or type(error).__name__)
        raise UnreadableError(f"it is not a readable safetensors file: {reason}") from None
    metadata = header.pop("__metadata__", {})
    state = {name: _safetensors_entry(entry, base=8 + length) for name, entry in header.items()}
    return Opened(SAFETENSORS, state, buffer, metadata)


def _safetensors_entry(entry: Mapping[str, Any], *, base: int) -> StoredTensor:
    if entry["dtype"] not in _SAFETENSORS_DTYPES:
        raise UnreadableError(f"a tensor of the unknown type {printable(entry['dtype'])}")
    dtype = TORCH_DTYPES[_SAFETENSORS_DTYPES[entry["dtype"]]]
    begin, end = entry["data_offsets"]
    storage = Storage(dtype, (end - begin) // dtype.itemsize, Span(base + begin, end - begin))
    shape, stride, step = tuple(entry["shape"]), [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(size, 1)
    return check_tensor(StoredTensor(storage, dtype, 0, shape, tuple(reversed(stride))))


def _open_zip(path: Path, view: FileView) -> Any:
    members = _zip_members(path, len(view))
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise UnreadableError("a zip file that torch did not write: it needs one data.pkl in one folder")
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "byteorder" in members:
        _check_byte_order(bytes(_member_span(view, members[folder + "byteorder"]).within(view)[:16]))
    span = _member_span(view, members[pickles[0]])
    if span.nbytes > _MAX_PICKLE_BYTES:
        raise UnreadableError(f"its data.pkl has {span.nbytes} bytes")
    storages: dict[str, Storage] = {}

    def find(kind: Any, key: str, count: int) -> Storage:
        name = f"{folder}data/{key}"
        if name not in members:
            raise UnreadableError(f"its storage {printable(key)} is not in the zip file")
        use = f"{kind} {count} {key}"
        if use not in storages:
            storages[use] = _sized_storage(kind, count, _member_span(view, members[name]))
        return storages[use]

    reader = Unpickler(
        view,
        rebuilder=Rebuilder(view, _refuse_nested),
        budget=Budget(),
        persistent=partial(_storage_of, find=find),
        start=span.start,
        stop=span.start + span.nbytes,
    )
    return reader.load()


def _zip_members(path: Path, size: int) -> dict[str, zipfile.ZipInfo]:
    """List the members, all stored as they are, inside the file and with harmless names."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OSError, RuntimeError) as error:
        raise UnreadableError(f"a zip file that is cut short or damaged: {printable(error)}") from None
    for member in members:
        parts = PurePosixPath(member.filename).parts or ("..",)
        if ".." in parts or parts[0] == "/" or "\\" in member.filename or ":" in parts[0]:
            raise UnreadableError(f"a zip file with a name that leads out of it: {printable(member.filename)}")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise UnreadableError(
                f"a compressed zip member ({printable(member.filename)}); torch stores them as they are"
            )
    if any(not 0 <= member.header_offset < size for member in members):
        raise UnreadableError("a zip file with a member outside of it")
    if len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > size:
        raise UnreadableError("a zip file that claims to hold more than its own size")
    return {member.filename: member for member in members}


def _member_span(view: FileView, member: zipfile.ZipInfo) -> Span:
    """Find where a member's bytes begin, behind its local header."""
    header = view[member.header_offset : member.header_offset + 30]
    if len(header) < 30 or bytes(header[:4]) != _ZIP_MAGIC:
        raise UnreadableError("a zip file with a damaged member")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    start = member.header_offset + 30 + name_length + extra_length
    if start + member.file_size > len(view):
        raise UnreadableError("a zip file that is cut short")
    return Span(start, member.file_size)


def _check_byte_order(text: bytes) -> None:
    if text.strip() != b"little":
        raise UnreadableError(f"it was written with the byte order {printable(text.decode('latin1'))}, expected little")


def _sized_storage(kind: Any, count: int, source: Span) -> Storage:
    dtype = storage_dtype(kind)
    if count * dtype.itemsize > source.nbytes:
        raise UnreadableError(f"a storage of {count} elements in {source.nbytes} bytes")
    return Storage(dtype, count, source)


def _storage_of(pid: Any, *, find: Any) -> Storage:
    """Answer torch's persistent id: ('storage', class, key, device, number of elements, ...)."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise UnreadableError("a reference to something that is no storage")
    _, kind, key, _, count = pid[:5]
    if pid[5:] not in ((), (None,)):
        raise UnreadableError("a view of a storage, as torch wrote it before 2018")
    if not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**60:
        raise UnreadableError("a reference to a storage without name or size")
    storage: Storage = find(kind, key, count)
    return storage


def _refuse_nested(_: Span) -> Any:
    raise UnreadableError("a torch file inside the pickle of a torch file")


def _load_pickle(span: Span, *, view: View, file: View, budget: Budget, depth: int) -> tuple[str, Any]:
    """Read a plain pickle, or a torch file of the old kind, which begins with a pickled number."""
    if depth > _MAX_NESTED:
        raise UnreadableError("pickles inside of pickles inside of pickles")

    def open_nested(inner: Span) -> Any:
        source = view if inner.held is None else inner.held
        return _load_pickle(inner, view=source, file=file, budget=budget, depth=depth + 1)[1]

    pending: dict[str, Storage] = {}

    def find(kind: Any, key: str, count: int) -> Storage:
        storage = pending.setdefault(key, Storage(storage_dtype(kind), count))
        if storage.num_elements != count or storage.dtype != storage_dtype(kind):
            raise UnreadableError("an old torch file that gives one storage two sizes")
        return storage

    reader = Unpickler(
        view,
        rebuilder=Rebuilder(file, open_nested),
        budget=budget,
        persistent=partial(_storage_of, find=find),
        start=span.start,
        stop=span.start + span.nbytes,
    )
    first = reader.load()
    if type(first) is not int or first != _LEGACY_MAGIC:
        if pending:
            raise UnreadableError("a plain pickle that refers to storages outside of it")
        return PICKLE, first
    root = _load_legacy(reader)
    _place_storages(reader, pending, held=span.held, view=view, stop=span.start + span.nbytes)
    return LEGACY, root


def _load_legacy(reader: Unpickler) -> Any:
    """Read what follows the magic number: the protocol, the machine, the content."""
    protocol, machine = reader.load(), reader.load()
    if protocol != _LEGACY_PROTOCOL or not isinstance(machine, dict):
        raise UnreadableError("a torch file of an unknown protocol")
    _check_byte_order(b"little" if machine.get("little_endian") is True else b"big")
    return reader.load()


def _place_storages(
    reader: Unpickler, pending: Mapping[str, Storage], *, held: memoryview | None, view: View, stop: int
) -> None:
    """Find the storages behind the pickles of an old torch file: each a count, then its numbers."""
    keys = reader.load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(pending):
        raise UnreadableError("an old torch file whose storages are not the ones it uses")
    position = reader.position
    for key in keys:
        storage = pending[key]
        nbytes = storage.num_elements * storage.dtype.itemsize
        if (
            position + 8 + nbytes > stop
            or int.from_bytes(view[position : position + 8], "little") != storage.num_elements
        ):
            raise UnreadableError("an old torch file that is cut short")
        storage.source = Span(position + 8, nbytes, held)
        position += 8 + nbytes
