"""The weights that a stage ends with: one safetensors file, and how the next stage reads it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from models.checkpoint.load import save_state
from models.checkpoint.reader import open_checkpoint
from models.checkpoint.roles import Part, Role, find_roles
from pretrain.names import our_name
from pretrain.objective import Objective

WEIGHTS_FILE = "weights.safetensors"
_MODEL = "model."


class Weights(Mapping[str, Tensor]):
    """The tensors of a checkpoint by the names of an `Objective`, read one by one as they are asked for.

    Args:
        path: weights of a stage, its run's folder, or a published checkpoint.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = find_weights(path)
        self._checkpoint = open_checkpoint(self.path)
        names = {name: _objective_name(role) for name, role in find_roles(self._checkpoint.names).items()}
        self._stored = {ours: name for name, ours in names.items() if ours is not None}

    def __getitem__(self, name: str) -> Tensor:
        return self._checkpoint.read(self._stored[name], torch.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def find_weights(path: Path) -> Path:
    """Find the weights in a run's folder; a file is taken as it is.

    Raises:
        FileNotFoundError: a folder without weights.
    """
    if path.is_dir() and not (path / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(f"no {WEIGHTS_FILE} in {path}: that run is not finished; go on with it by --run")
    return path / WEIGHTS_FILE if path.is_dir() else path


def _objective_name(role: Role) -> str | None:
    """Give an objective's name for what a checkpoint's entry is; None for what pretraining has no use for."""
    if role.part is Part.ENCODER:
        return _MODEL + role.ours
    if role.part is Part.DECODER:
        return role.ours if role.ours.startswith("decoder.") else our_name(role.ours)
    return None


def collect(objective: Objective, start: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Bring the whole state together on the CPU of the first rank; all ranks call it, the others get nothing.

    Args:
        objective: sharded or not.
        start: what the stage started from; what it holds of other modalities is carried along.

    Returns:
        The encoder under the model's own names, the decoder under `decoder.`.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = cast("dict[str, Tensor]", get_model_state_dict(objective, options=options))
    if not state:
        return {}
    carried = {name: start[name] for name in start if name not in state} if start is not None else {}
    return {name.removeprefix(_MODEL): value for name, value in {**carried, **state}.items()}


def write(state: Mapping[str, Tensor], folder: Path, *, metadata: Mapping[str, str]) -> Path:
    """Write a stage's weights into its run's folder; whole or not at all."""
    path = folder / WEIGHTS_FILE
    save_state(state, path, metadata=metadata)
    return path
