"""Opens checkpoint files without executing anything in them, and reads their tensors by name."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from models.checkpoint.containers import PICKLE, SAFETENSORS, Opened, open_file
from models.checkpoint.inert import UnreadableError, plain, printable
from models.checkpoint.rebuild import NumpyArray, StoredTensor

INDEX_SUFFIX = ".safetensors.index.json"
MAX_INDEX_BYTES = 64 * 2**20
PIECE_ELEMENTS = 2**16

_WRAPPERS = ("model", "state_dict")
_CONFIG_KEYS = ("cfg", "args", "config", "hyper_parameters", "meta")


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a checkpoint, known without reading its numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    num_elements: int

    @property
    def num_bytes(self) -> int:
        """Bytes of its numbers in the type they are stored in."""
        return self.num_elements * self.dtype.itemsize


@dataclass(frozen=True)
class _Place:
    """One tensor and the file it lies in."""

    path: Path
    opened: Opened
    tensor: StoredTensor


class Checkpoint:
    """A checkpoint that is open: every name is known, and no tensor is read before it is asked for.

    Attributes:
        path: what was opened: a file, an index, or a folder with one.
        files: the files that hold tensors.
        encoding: how the tensors are written: torch zip, torch legacy, plain pickle, safetensors.
        container: what stands around them: fairseq, plain pickle, model, state_dict, none, safetensors, sharded.
        config: settings found inside as plain data; None where there are none.
        others: what the file holds beside its tensors and settings, by name.
    """

    def __init__(
        self,
        path: Path,
        places: Mapping[str, _Place],
        *,
        encoding: str,
        container: str,
        config: Any = None,
        others: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.files = tuple(sorted({place.path for place in places.values()}))
        self.encoding = encoding
        self.container = container
        self.config = config
        self.others = others
        self.names: Mapping[str, TensorInfo] = {
            name: TensorInfo(place.tensor.shape, place.tensor.dtype, place.tensor.num_elements)
            for name, place in places.items()
        }
        self._places = places

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; tensors that were mapped keep their part of it."""
        self._places = {}

    def tensor(self, name: str) -> Tensor:
        """Give a tensor as a view of the mapped file: its numbers are read when they are used.

        Writing to it does not change the file.

        Raises:
            ValueError: no such name.
        """
        place = self._find(name)
        stored, source = place.tensor, place.tensor.storage.source
        if source is None or source.held is not None or stored.extent == 0:
            return self.read(name)
        start = source.start + stored.offset * stored.dtype.itemsize
        if start % stored.dtype.itemsize:
            return self.read(name)
        flat = torch.frombuffer(place.opened.buffer, dtype=stored.dtype, count=stored.extent, offset=start)
        return flat.as_strided(stored.shape, stored.stride)

    def read(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Read a tensor into memory of its own, contiguous; nothing else of the file stays in memory.

        Args:
            name: in the file.
            dtype: type of the result, for floating tensors only; they are cast piece by piece.

        Raises:
            ValueError: no such name, or the file was cut since it was opened.
        """
        place = self._find(name)
        stored, source = place.tensor, place.tensor.storage.source
        kind = dtype if dtype is not None and stored.dtype.is_floating_point else stored.dtype
        start = stored.offset * stored.dtype.itemsize
        flat = torch.empty(stored.extent, dtype=kind)
        if stored.extent and source is not None and source.held is not None:
            held = source.held[source.start + start :][: stored.extent * stored.dtype.itemsize]
            flat = torch.frombuffer(bytearray(held), dtype=stored.dtype).to(kind)
        elif stored.extent and source is not None:
            _fill(flat, stored.dtype, path=place.path, start=source.start + start)
        return flat.as_strided(stored.shape, stored.stride).contiguous()

    def _find(self, name: str) -> _Place:
        if name not in self._places:
            raise ValueError(
                f"checkpoint {self.path} has no open tensor {printable(name)!r}; see `inspect` for its names"
            )
        return self._places[name]


def _fill(flat: Tensor, dtype: torch.dtype, *, path: Path, start: int) -> None:
    """Read a tensor's bytes straight into it, or through a small piece where its type changes."""
    piece = flat if flat.dtype == dtype else torch.empty(min(len(flat), PIECE_ELEMENTS), dtype=dtype)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        for first in range(0, len(flat), len(piece)):
            part = piece[: len(flat) - first]
            if not _read_into(part, file):
                raise ValueError(f"checkpoint {path} is shorter than when it was opened; fetch it again")
            if piece is not flat:
                flat[first : first + len(part)] = part


def _read_into(part: Tensor, file: FileIO) -> bool:
    """Fill a tensor from where a file stands; False where the file ends before."""
    target = part.view(torch.uint8).numpy().data
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])
        if not count:
            return False
        done += count
    return True


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint of any container: torch zip or legacy, plain pickle, safetensors, single or sharded.

    Args:
        path: a file, a safetensors index (`model.safetensors.index.json`), or a folder with one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, damaged, or one that wants to execute code; one line.
    """
    index = _find_index(path)
    if index is not None:
        return _open_shards(path, index)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; give the path of a file")
    opened = _open(path)
    state, container, config, others = _unwrap(opened, path)
    places = {name: _Place(path, opened, tensor) for name, tensor in state.items()}
    return Checkpoint(path, places, encoding=opened.encoding, container=container, config=config, others=others)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by the names in the file.

    Args:
        path: whatever `open_checkpoint` takes.

    Returns:
        Views of the mapped file: what is not used is not read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or one that wants to execute code.
    """
    checkpoint = open_checkpoint(path)
    return {name: checkpoint.tensor(name) for name in checkpoint.names}


def file_sha256(path: Path) -> str:
    """Hash a file of any size in constant memory; hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path) -> Opened:
    try:
        return open_file(path)
    except UnreadableError as error:
        raise ValueError(
            f"checkpoint {path} cannot be read without executing code in it, or is damaged ({error}); "
            "nothing in it was executed; fetch it again, or give a safetensors file"
        ) from None


def _unwrap(opened: Opened, path: Path) -> tuple[dict[str, StoredTensor], str, Any, tuple[str, ...]]:
    """Find the state inside the usual wrappers, and what stands beside it."""
    root = opened.root
    if opened.encoding == SAFETENSORS:
        return dict(root), SAFETENSORS, _parse_metadata(opened.metadata), ()
    wrapper = next((key for key in _WRAPPERS if isinstance(root, dict) and isinstance(root.get(key), dict)), None)
    content = root if wrapper is None else root[wrapper]
    tensors = dict(_tensors(content)) if isinstance(content, dict) else {}
    if not tensors:
        raise ValueError(f"checkpoint {path} holds no tensors by name, expected them under 'model' or 'state_dict'")
    if any(tensor.storage.source is None for tensor in tensors.values()):
        raise ValueError(f"checkpoint {path} is damaged (a tensor without its numbers); fetch it again")
    beside = {} if wrapper is None else {str(key): value for key, value in root.items() if key != wrapper}
    found = next((key for key in _CONFIG_KEYS if beside.get(key) is not None), None)
    others = tuple(
        printable(name) for name in (*beside, *(str(n) for n in content if n not in tensors)) if name != found
    )
    config = None if found is None else plain(beside[found])
    return tensors, _container(wrapper, beside, opened.encoding), config, others


def _tensors(content: Mapping[Any, Any]) -> Iterator[tuple[str, StoredTensor]]:
    for name, value in content.items():
        tensor = value.tensor if isinstance(value, NumpyArray) else value
        if isinstance(name, str) and isinstance(tensor, StoredTensor):
            yield name, tensor


def _container(wrapper: str | None, beside: Mapping[str, Any], encoding: str) -> str:
    """Name what stands around the state."""
    if wrapper == "model" and {"cfg", "extra_state", "optimizer_history"} & set(beside):
        return "fairseq"
    if wrapper is not None and encoding == PICKLE:
        return "plain pickle"
    return wrapper or "none"


def _parse_metadata(metadata: Mapping[str, str]) -> Any:
    """Read the values of a safetensors header, which are text and often JSON."""
    return {printable(key): _parse(value) for key, value in metadata.items()} or None


def _parse(text: str) -> Any:
    try:
        return plain(json.loads(text)) if text[:1] in ("{", "[") else plain(text)
    except (ValueError, RecursionError):
        return plain(text)


def _find_index(path: Path) -> Path | None:
    """Find the index of a sharded file, where the path means one."""
    if path.is_dir():
        found = sorted(path.glob(f"*{INDEX_SUFFIX}"))
        if len(found) > 1:
            raise ValueError(f"folder {path} holds {len(found)} indexes ({found[0].name}, ...); give the path of one")
        return found[0] if found else None
    return path if path.name.endswith(INDEX_SUFFIX) and path.is_file() else None


def _open_shards(path: Path, index: Path) -> Checkpoint:
    """Open the files that an index names; index and files must tell the same names."""
    listed = _read_index(index)
    places: dict[str, _Place] = {}
    metadata: dict[str, str] = {}
    for name in sorted(set(listed.values())):
        shard = index.parent / name
        if not shard.is_file():
            raise FileNotFoundError(f"checkpoint {index} names {printable(name)}, which does not exist; fetch it")
        opened = _open(shard)
        if opened.encoding != SAFETENSORS:
            raise ValueError(f"checkpoint {index} names {name}, which is no safetensors file; fetch it again")
        metadata.update(opened.metadata)
        found = {key: _Place(shard, opened, tensor) for key, tensor in opened.root.items()}
        if found.keys() != {key for key, file in listed.items() if file == name}:
            raise ValueError(f"checkpoint {index} and {name} tell different names of tensors; fetch both again")
        places.update(found)
    config = _parse_metadata(metadata)
    return Checkpoint(path, places, encoding=SAFETENSORS, container="sharded safetensors", config=config)


def _read_index(index: Path) -> dict[str, str]:
    """Read which tensor is in which file; the files are beside the index."""
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise ValueError("too large")
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not listed or not all(isinstance(name, str) for name in listed.values()):
            raise ValueError("no names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"checkpoint {index} is no safetensors index, expected a 'weight_map'; fetch it again"
        ) from None
    for name in listed.values():
        if Path(name).name != name or "\\" in name:
            raise ValueError(f"checkpoint {index} names {printable(name)!r}, expected a file beside it")
    return dict(listed)
