"""Strict loading with an account of every name, and saving."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.modalities import load_modality

_TABLE = re.compile(r"(.*adapters\.\w+\.bias\.tables\.)(\d+)")
_ADAPTER = re.compile(r"(?:.*\.)?adapters\.(\w+)\.(.+)")


@dataclass(frozen=True)
class LoadReport:
    """What became of every name in a checkpoint and in a model."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    """In the model, not in the file; they keep the values they had."""
    unexpected: tuple[str, ...]
    """In the file, not in the model."""
    reshaped: tuple[str, ...]
    """Loaded after a change of resolution, or copied to every layer."""

    def __str__(self) -> str:
        """Count the names, and show the first ones that did not fit."""
        text = f"{len(self.loaded)} loaded ({len(self.reshaped)} reshaped)"
        for word, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            shown = f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
            text += f", {len(names)} {word}{shown}"
        return text


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, may_miss: Collection[str] = ()) -> LoadReport:
    """Load a state by our names into a model, all or nothing.

    Positions and relative tables of another resolution are resized, a shared relative table is copied to every layer
    of a model that has one for each.

    Args:
        model: any module that holds adapters and an encoder of ours.
        state: tensors by the model's own names.
        may_miss: prefixes of parameters that the file need not have, such as a head that is about to be trained.

    Raises:
        ValueError: a name is missing or unexpected, or a shape differs; the model is unchanged then.
    """
    wanted = model.state_dict()
    fitted, reshaped = {}, []
    for name, value in _spread_tables(state, wanted).items():
        is_other_shape = name in wanted and value.shape != wanted[name].shape
        fitted[name] = _resize(name, value, wanted[name].shape) if is_other_shape else value
        if is_other_shape or name not in state:
            reshaped.append(name)
    report = LoadReport(
        loaded=tuple(name for name in fitted if name in wanted),
        missing=tuple(name for name in wanted if name not in fitted),
        unexpected=tuple(name for name in fitted if name not in wanted),
        reshaped=tuple(reshaped),
    )
    forbidden = [name for name in report.missing if not name.startswith(tuple(may_miss))]
    if forbidden or report.unexpected:
        raise ValueError(f"the checkpoint does not fit the model: {report}; nothing was loaded")
    model.load_state_dict({**wanted, **fitted})
    return report


def _spread_tables(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Copy a single relative table to the names of all layers, where the model has one for each."""
    spread = dict(state)
    for name in wanted:
        if (match := _TABLE.fullmatch(name)) and f"{match[1]}1" not in state and f"{match[1]}0" in state:
            spread.setdefault(name, state[f"{match[1]}0"])
    return spread


def _resize(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Ask the modality to bring a stored parameter of its adapter to this model's resolution."""
    match = _ADAPTER.fullmatch(name)
    resized = load_modality(match[1]).resize(match[2], value, shape) if match else None
    if resized is None:
        raise ValueError(f"{name} has shape {tuple(value.shape)} in the checkpoint, expected {tuple(shape)}")
    return resized


def save_state(state: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write tensors and their provenance to a safetensors file; a kill leaves the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    contiguous = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(contiguous, partial, metadata=dict(metadata))
    partial.chmod(0o644)  # the library leaves files that nobody else may read
    partial.replace(path)
