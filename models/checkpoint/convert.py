"""Conversion of any checkpoint to a safetensors file with our names, one tensor in memory at a time."""

import json
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint.describe import Description, describe
from models.checkpoint.inert import printable
from models.checkpoint.load import LeftOut, check_branches, why_left_out
from models.checkpoint.reader import Checkpoint, file_sha256, open_checkpoint
from models.checkpoint.roles import Part, find_roles

DISTRIBUTION = "one-peace-suite"

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

Progress = Callable[[Iterable[str]], Iterable[str]]


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    path: Path
    num_tensors: int
    num_bytes: int
    metadata: dict[str, str]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class _Item:
    """One tensor on its way: our name, the file's name, its shape and its new type."""

    ours: str
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    num_bytes: int


def convert(
    source: Path,
    out: Path,
    branches: Sequence[str],
    *,
    dtype: torch.dtype | None = None,
    with_head: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Write some branches of a checkpoint to a safetensors file with our names and its provenance in the header.

    A kill leaves the old file or the new one. The same source gives the same bytes.

    Args:
        source: any checkpoint that can be opened.
        out: a new `.safetensors` file.
        branches: modalities; the shared encoder goes with them.
        dtype: type of the floating tensors; None keeps the stored one.
        with_head: a classifier's head goes with them.
        overwrite: replace `out` where it exists.
        progress: wraps the names while they are written.

    Raises:
        FileNotFoundError: no source, or no folder for `out`.
        ValueError: a branch that is not there or not whole, unknown names, an existing `out`, a full disk.
    """
    _check_out(source, out, overwrite=overwrite)
    checkpoint = open_checkpoint(source)
    description = describe(checkpoint)
    check_branches(description, branches)
    items, left_out = _choose(checkpoint, branches, dtype=dtype, with_head=with_head)
    total = sum(item.num_bytes for item in items)
    if total > shutil.disk_usage(out.parent).free:
        raise ValueError(f"{out} would take {total / 2**30:.2f} GiB, more than is free there; choose another disk")
    metadata = _provenance(checkpoint, description, branches, dtype)
    header = _header(items, metadata)
    _write(checkpoint, items, header, out=out, progress=progress)
    return Conversion(out, len(items), len(header) + total, metadata, left_out)


def _check_out(source: Path, out: Path, *, overwrite: bool) -> None:
    if out.suffix != ".safetensors":
        raise ValueError(f"{out} is no name for a safetensors file, expected one that ends in .safetensors")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"folder {out.parent} does not exist; make it first")
    if out.is_dir() or (source.is_file() and out.exists() and out.samefile(source)):
        raise ValueError(f"{out} is a folder or the checkpoint itself; give another name")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists; give another name, or --overwrite")


def _choose(
    checkpoint: Checkpoint, branches: Sequence[str], *, dtype: torch.dtype | None, with_head: bool
) -> tuple[list[_Item], tuple[LeftOut, ...]]:
    """Take the names of the branches, and say why each other one stays behind; an unknown one stops everything."""
    roles = find_roles(checkpoint.names)
    unknown = [name for name, role in roles.items() if role.part is Part.UNKNOWN]
    if unknown:
        raise ValueError(
            f"checkpoint {checkpoint.path} has {len(unknown)} names that nothing here knows "
            f"({printable(unknown[0])}, ...); see `inspect`; nothing was written"
        )
    left: dict[str, list[str]] = {}
    items: dict[str, _Item] = {}
    for name, role in roles.items():
        if (reason := why_left_out(role, branches, with_head=with_head)) is not None:
            left.setdefault(reason, []).append(name)
        elif role.ours in items:
            raise ValueError(f"checkpoint {checkpoint.path} has two names for {printable(role.ours)}; expected one")
        else:
            items[role.ours] = _item(checkpoint, name, role.ours, dtype)
    _check_whole(items, checkpoint.path)
    ordered = sorted(items.values(), key=lambda item: (-item.dtype.itemsize, item.ours))  # each aligned to its type
    return ordered, tuple(LeftOut(reason, tuple(names)) for reason, names in left.items())


def _item(checkpoint: Checkpoint, name: str, ours: str, dtype: torch.dtype | None) -> _Item:
    info = checkpoint.names[name]
    kind = dtype if dtype is not None and info.dtype.is_floating_point else info.dtype
    return _Item(ours, name, info.shape, kind, info.num_elements * kind.itemsize)


def _check_whole(items: Mapping[str, _Item], path: Path) -> None:
    """Refuse an encoder with a hole: every layer from the first to the last has the same parameters."""
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, item in items.items():
        if match := _LAYER.fullmatch(name):
            layers.setdefault(int(match[1]), {})[match[2]] = item.shape
    for number in range(max(layers, default=-1) + 1):
        if layers.get(number) != layers[max(layers)]:
            raise ValueError(f"checkpoint {path} is not whole: layer {number} differs from the last; fetch it again")
    if not layers:
        raise ValueError(f"checkpoint {path} has no encoder layers; nothing was written")


def _provenance(
    checkpoint: Checkpoint, description: Description, branches: Sequence[str], dtype: torch.dtype | None
) -> dict[str, str]:
    """Say where the weights come from; every value is text, as the format wants."""
    hashes = {file.name: file_sha256(file) for file in checkpoint.files}
    return {
        "format": "pt",
        "made_by": f"{DISTRIBUTION} {suite_version()}",
        "source": checkpoint.path.name,
        "source_sha256": next(iter(hashes.values())) if len(hashes) == 1 else json.dumps(hashes),
        "source_variant": description.variant,
        "branches": ",".join(name for name in description.branches if name in branches),
        "dtype": "as stored" if dtype is None else str(dtype).removeprefix("torch."),
        "sizes": json.dumps(description.sizes),
    }


def suite_version() -> str:
    """Name the installed version of this suite."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "(not installed)"


def _header(items: Sequence[_Item], metadata: Mapping[str, str]) -> bytes:
    """Spell the header: its length, then JSON, padded so that the numbers begin at a multiple of eight."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for item in items:
        stop = start + item.num_bytes
        kind = _TYPE_NAMES.get(item.dtype)
        if kind is None:
            raise ValueError(
                f"{printable(item.name)} is of the type {item.dtype}, which cannot be written; expected floats"
            )
        entries[item.ours] = {"dtype": kind, "shape": list(item.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _write(
    checkpoint: Checkpoint, items: Sequence[_Item], header: bytes, *, out: Path, progress: Progress | None
) -> None:
    partial = out.with_name(f".{out.name}.partial")
    sources = {item.ours: item for item in items}
    try:
        with partial.open("wb") as file:
            file.write(header)
            for ours in progress(sources) if progress else sources:
                file.write(_bytes_of(checkpoint.read(sources[ours].name, sources[ours].dtype)))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _bytes_of(value: Tensor) -> memoryview:
    """Give a tensor's numbers as they lie in memory."""
    return memoryview(value.view(-1).view(torch.uint8).numpy().data)
