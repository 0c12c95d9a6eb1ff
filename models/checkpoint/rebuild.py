"""What may be built from a pickle: tensors and arrays as descriptions of bytes in the file; all else is inert."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from models.checkpoint.inert import Global, Inert, Span, UnreadableError, View, printable

MAX_DIMENSIONS = 16

# torch.storage's classes; a file of another device says the same names under torch.cuda.
STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
TORCH_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (*STORAGE_DTYPES.values(), torch.uint16, torch.uint32, torch.uint64)
}
NUMPY_DTYPES = {
    "f8": torch.float64,
    "f4": torch.float32,
    "f2": torch.float16,
    "i8": torch.int64,
    "i4": torch.int32,
    "i2": torch.int16,
    "i1": torch.int8,
    "u8": torch.uint64,
    "u4": torch.uint32,
    "u2": torch.uint16,
    "u1": torch.uint8,
    "b1": torch.bool,
}

# Classes of the standard library that only hold data. Its other classes and all functions are no data: a file that
# calls one of them is refused. Classes of anything else (omegaconf, fairseq, ...) become inert objects.
_BUILT_IN = ("set", "frozenset", "list", "dict", "tuple", "object", "complex", "slice", "range", "xrange", "type")
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
DATA_CLASSES = frozenset(
    {
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILT_IN),
        *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        "argparse.Namespace",
        "collections.Counter",
        "collections.deque",
        "types.GenericAlias",
        "types.SimpleNamespace",
        "uuid.UUID",
        "decimal.Decimal",
        "fractions.Fraction",
    }
)
_STANDARD = sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands", "urllib2", "cPickle", "exceptions"}


@dataclass(eq=False)
class Storage:
    """A run of numbers that tensors are views of."""

    dtype: torch.dtype
    num_elements: int
    source: Span | None = None
    """None until its place in the file is known."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """Where in a file a tensor lies."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    """In elements."""
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """Count the numbers in it."""
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Count the elements of the storage from its first to its last number."""
        pairs = zip(self.shape, self.stride, strict=True)
        return 1 + sum((size - 1) * step for size, step in pairs) if self.num_elements else 0


@dataclass(eq=False)
class NumpyType:
    """A numpy type that is being described."""

    code: str
    order: str = "|"


@dataclass(eq=False)
class NumpyArray:
    """A numpy array, empty until its state arrives."""

    tensor: StoredTensor | None = None


def check_tensor(tensor: StoredTensor) -> StoredTensor:
    """Refuse a tensor that is not wholly inside its storage, or larger than it.

    Raises:
        UnreadableError: it is.
    """
    numbers = (tensor.offset, *tensor.shape, *tensor.stride)
    if any(type(number) is not int or not 0 <= number < 2**62 for number in numbers):
        raise UnreadableError("a tensor with impossible sizes")
    if len(tensor.shape) != len(tensor.stride) or len(tensor.shape) > MAX_DIMENSIONS:
        raise UnreadableError(f"a tensor of {len(tensor.shape)} dimensions with {len(tensor.stride)} strides")
    room = tensor.storage.num_elements * tensor.storage.dtype.itemsize // tensor.dtype.itemsize
    if tensor.num_elements > room or tensor.offset + tensor.extent > room:
        raise UnreadableError(f"a tensor of shape {tensor.shape} in a storage of {room} elements")
    return tensor


def storage_dtype(kind: object) -> torch.dtype:
    """Find the type of the numbers in a storage by the name of its class."""
    if not isinstance(kind, Global) or not kind.module.startswith("torch") or kind.name not in STORAGE_DTYPES:
        raise UnreadableError(f"a storage of the unknown kind {printable(kind)}")
    return STORAGE_DTYPES[kind.name]


@dataclass
class Rebuilder:
    """Answers to everything that a pickle calls.

    Attributes:
        file: the bytes of the file.
        open_storage: reads a torch file inside a byte string, as pickled tensors carry them.
    """

    file: View
    open_storage: Callable[[Span], Any]
    table: Mapping[str, Callable[..., Any]] = field(init=False)

    def __post_init__(self) -> None:
        """List the few names that are rebuilt."""
        numpy_names: dict[str, Callable[..., Any]] = {
            "multiarray._reconstruct": lambda *_: NumpyArray(),
            "multiarray.scalar": self._scalar,
            "numeric._frombuffer": self._from_buffer,
        }
        self.table = {
            "torch._utils._rebuild_tensor": _rebuild_tensor,
            "torch._utils._rebuild_tensor_v2": lambda storage, offset, size, stride, *_: _rebuild_tensor(
                storage, offset, size, stride
            ),
            "torch._utils._rebuild_tensor_v3": _rebuild_typed_tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
            "torch._tensor._rebuild_from_type_v2": self._rebuild_from_type,
            "torch.storage._load_from_bytes": self._load_from_bytes,
            "torch.Size": lambda sizes=(): tuple(sizes) if isinstance(sizes, list | tuple) else sizes,
            "torch.device": lambda *parts: ":".join(str(part) for part in parts if isinstance(part, str | int)),
            "numpy.dtype": lambda code, *_: NumpyType(_numpy_code(code)),
            **{f"numpy.{core}.{name}": build for core in ("core", "_core") for name, build in numpy_names.items()},
            "collections.OrderedDict": _dictionary,
            "collections.defaultdict": lambda *_: {},
            "_codecs.encode": _encode,
            **{f"{module}.getitem": _type_hint for module in ("_operator", "operator")},
            **{f"{module}.bytes": _copy_bytes for module in ("builtins", "__builtin__")},
            **{f"{module}.bytearray": _copy_bytes for module in ("builtins", "__builtin__")},
            **{f"{module}._reconstructor": _reconstructor for module in ("copyreg", "copy_reg")},
            **{f"{module}.__newobj__": lambda kind, *args: self.call(kind, args) for module in ("copyreg", "copy_reg")},
        }

    def call(self, target: object, args: object) -> Any:
        """Answer a call: a description of a tensor, a dictionary, or an inert object.

        Raises:
            UnreadableError: it is the call of a function, or of a class that does more than hold data.
        """
        if not isinstance(target, Global) or not isinstance(args, tuple):
            raise UnreadableError("a call of something that is no class")
        name = f"{target.module}.{target.name}"
        if name in self.table:
            return self.table[name](*args)
        if _is_code(target):
            raise UnreadableError(f"it asks to call {target}, which is not data")
        return Inert(name, args)

    def set_state(self, target: object, state: Any) -> None:
        """Give an object its state; only inert objects and arrays take any."""
        if isinstance(target, Inert):
            target.state = state
        elif isinstance(target, NumpyArray):
            target.tensor = self._array(state)
        elif isinstance(target, NumpyType):
            target.order = str(state[1])
        elif not isinstance(target, dict | StoredTensor):  # what those carry besides is no weight
            raise UnreadableError(f"a state for {printable(type(target).__name__)}")

    def _array(self, state: Any) -> StoredTensor:
        _, shape, kind, is_fortran, raw = state
        stride = _strides(shape, is_fortran=bool(is_fortran))
        return _numpy_tensor(raw, kind, shape=tuple(shape), stride=stride)

    def _from_buffer(self, raw: Any, kind: Any, shape: Any, order: str, *_: Any) -> NumpyArray:
        stride = _strides(shape, is_fortran=order == "F")
        return NumpyArray(_numpy_tensor(raw, kind, shape=tuple(shape), stride=stride))

    def _scalar(self, kind: NumpyType, raw: Any) -> Any:
        _numpy_dtype(kind)
        data = bytes(_as_span(raw).within(self.file))
        return np.frombuffer(data, dtype=f"<{kind.code}", count=1)[0].item()

    def _load_from_bytes(self, raw: Any) -> Any:
        return self.open_storage(_as_span(raw))

    def _rebuild_from_type(self, build: Any, _kind: Any, args: Any, _state: Any = None) -> Any:
        if not isinstance(build, Global) or not str(build).startswith("torch._utils._rebuild_"):
            raise UnreadableError(f"a tensor that wants to be rebuilt by {printable(build)}")
        return self.call(build, args)


def _is_code(target: Global) -> bool:
    """Tell whether calling a name means more than making an object that holds data."""
    if f"{target.module}.{target.name}" in DATA_CLASSES:
        return False
    is_class = target.name.rpartition(".")[2].lstrip("_")[:1].isupper()
    return not is_class or target.module.partition(".")[0] in _STANDARD


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> StoredTensor:
    return _rebuild_typed_tensor(storage, offset, size, stride, None, None, Global("torch", ""))


def _rebuild_typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, Global):
        raise UnreadableError("a tensor without a storage")
    kind = storage.dtype if not dtype.name else TORCH_DTYPES.get(dtype.name)
    if kind is None:
        raise UnreadableError(f"a tensor of the unknown type {dtype}")
    return check_tensor(StoredTensor(storage, kind, offset, tuple(size), tuple(stride)))


def _dictionary(pairs: Any = ()) -> dict[Any, Any]:
    """Start an ordered dictionary; old files give its items as pairs."""
    if not all(isinstance(pair, list | tuple) and isinstance(pair[0], str) for pair in pairs):
        raise UnreadableError("a dictionary made of something else than named values")
    return {name: value for name, value in pairs}  # noqa: C416, dict() would also take what is no pair


def _encode(text: Any, encoding: Any = "latin1") -> Span:
    """Turn text back into the bytes that old pickle protocols spell with it."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise UnreadableError(f"text in the unknown encoding {printable(encoding)}")
    return _as_span(text.encode(encoding))


def _copy_bytes(raw: Any = b"", encoding: Any = "latin1") -> Span:
    """Stand for `bytes` and `bytearray`, which could also be asked for a length."""
    return _encode(raw, encoding) if isinstance(raw, str) else _as_span(raw)


def _type_hint(origin: Any, args: Any) -> Inert:
    """Stand for `typing.List[int]`, which OmegaConf keeps beside its values."""
    if not isinstance(origin, Global) or origin.module not in ("typing", "builtins"):
        raise UnreadableError(f"it asks to take an item of {printable(origin)}, which is not data")
    return Inert(f"{origin.module}.{origin.name}", (args,))


def _reconstructor(kind: Any, _base: Any = None, state: Any = None) -> Inert:
    """Make an object in the way of old pickle protocols."""
    if not isinstance(kind, Global) or _is_code(kind):
        raise UnreadableError(f"it asks to make {printable(kind)}, which is not data")
    return Inert(f"{kind.module}.{kind.name}", () if state is None else (state,))


def _as_span(raw: Any) -> Span:
    """Take bytes of the file, or bytes and old strings that were built from it."""
    if isinstance(raw, Span):
        return raw
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes):
        raise UnreadableError(f"{type(raw).__name__} instead of bytes")
    return Span(0, len(raw), memoryview(raw))


def _numpy_code(code: Any) -> str:
    if not isinstance(code, str):
        raise UnreadableError("an array type without a name")
    return code.lstrip("<|=")


def _numpy_dtype(kind: Any) -> torch.dtype:
    """Find the torch type of a numpy type, and check its byte order."""
    if not isinstance(kind, NumpyType) or kind.code not in NUMPY_DTYPES:
        raise UnreadableError(f"an array of the type {printable(getattr(kind, 'code', kind))}, expected plain numbers")
    if kind.order not in "<|=":
        raise UnreadableError("an array with the byte order of another machine")
    return NUMPY_DTYPES[kind.code]


def _numpy_tensor(raw: Any, kind: Any, *, shape: tuple[int, ...], stride: tuple[int, ...]) -> StoredTensor:
    dtype, span = _numpy_dtype(kind), _as_span(raw)
    storage = Storage(dtype, span.nbytes // dtype.itemsize, span)
    return check_tensor(StoredTensor(storage, dtype, 0, shape, stride))


def _strides(shape: Any, *, is_fortran: bool) -> tuple[int, ...]:
    """Count the elements from one index to the next, along each axis."""
    if len(shape) > MAX_DIMENSIONS or any(type(size) is not int for size in shape):
        raise UnreadableError("an array with impossible sizes")
    strides, step = [], 1
    for size in shape if is_fortran else reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(strides if is_fortran else reversed(strides))
