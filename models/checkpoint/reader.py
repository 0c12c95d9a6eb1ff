"""Opens checkpoint files without executing anything in them."""

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

_WRAPPERS = ("model", "state_dict")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by the names in the file.

    Args:
        path: a `.safetensors` file, or a torch file that holds tensors, numbers and strings only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, or one that wants to execute code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; give the path of a file")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, safe_open is no mapping
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path} is not a readable safetensors file ({error}); fetch it again") from None


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"checkpoint {path} cannot be read without executing code in it, or is damaged ({reason[:120]}); "
            "give a safetensors file, or a torch file of tensors only"
        ) from None
    return _tensors(content, path)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the state inside the usual wrappers."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"checkpoint {path} holds no tensors by name, expected them under 'model' or 'state_dict'")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def file_sha256(path: Path) -> str:
    """Hash a file of any size in constant memory; hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
