"""The tensors of a training by name: of a model and its optimiser to a checkpoint, and back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.optim import Optimizer

from models.adamw import LeanAdamW

MODEL = "model."
OPTIMIZER = "optimizer."
COUNTER = "step"  # torch's name for the one entry of an optimiser that is a single number


@dataclass(frozen=True)
class StateLayout:
    """Which tensors an optimiser had when it was saved."""

    state_keys: tuple[str, ...]
    """What it keeps for each parameter: `exp_avg`, `step` and the like."""
    without_state: tuple[str, ...]
    """Parameters it was given that had had no gradient yet."""

    def to_json(self) -> dict[str, list[str]]:
        """Give what JSON can hold."""
        return {"state_keys": list(self.state_keys), "without_state": list(self.without_state)}

    @classmethod
    def from_json(cls, values: Mapping[str, Iterable[str]]) -> "StateLayout":
        """Read what `to_json` gave.

        Raises:
            KeyError: a part is missing.
        """
        return cls(tuple(values["state_keys"]), tuple(values["without_state"]))


@dataclass(frozen=True)
class LoadedState:
    """Values read from a checkpoint, not yet in place."""

    model: Mapping[str, Tensor]
    """By the model's names."""
    optimizer: Mapping[str, Mapping[str, Tensor]]
    """By parameter, then by the optimiser's key."""


def flatten_state(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], StateLayout]:
    """Name every tensor of a training; the tensors are the live ones, not copies.

    Returns:
        `model.<name>` and `optimizer.<parameter>.<key>`, shards where the model is sharded; the optimiser's layout.

    Raises:
        ValueError: the optimiser has a parameter that is not the model's, or keeps something that is no tensor.
    """
    state = _tensors_of(model)
    tensors = {f"{MODEL}{name}": value.detach() for name, value in state.items()}
    keys: dict[str, None] = {}
    without = []
    for name, parameter in _trained(state, optimizer).items():
        kept = optimizer.state.get(parameter, {})
        if not kept:
            without.append(name)
        keys.update(dict.fromkeys(kept))
        for key, value in kept.items():
            if not isinstance(value, Tensor):
                raise ValueError(f"the optimiser keeps {key} of {name} as {type(value).__name__}, expected a tensor")
            tensors[f"{OPTIMIZER}{name}.{key}"] = value.detach()
    return tensors, StateLayout(tuple(keys), tuple(without))


def read_state(path: Path, *, layout: StateLayout, model: nn.Module, optimizer: Optimizer) -> LoadedState:
    """Read the shards of a checkpoint into new tensors, sharded as the model is now.

    Raises:
        ValueError: a shard is missing or damaged, or a name, shape or type is not that of the model; one line.
    """
    state = _tensors_of(model)
    stored = _stored(path)
    moments = _make_room(optimizer, _trained(state, optimizer), layout)
    rooms = {f"{OPTIMIZER}{name}.{key}": room for name, kept in moments.items() for key, room in kept.items()}
    _refuse_misfit(path, stored, wanted={**{f"{MODEL}{name}": value for name, value in state.items()}, **rooms})
    targets = {f"{MODEL}{name}": torch.empty_like(value.detach()) for name, value in state.items()} | rooms
    try:
        is_single = not (dist.is_available() and dist.is_initialized())
        load(targets, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=is_single)
    except CheckpointException as error:
        raise _damaged(path, first_failure(error)[1]) from None
    return LoadedState({name: targets[f"{MODEL}{name}"] for name in state}, moments)


def apply_state(loaded: LoadedState, *, model: nn.Module, optimizer: Optimizer) -> None:
    """Put read values in place: the model's are copied, the optimiser's state is replaced."""
    state = _tensors_of(model)
    trained = _trained(state, optimizer)
    with torch.no_grad():
        for name, value in loaded.model.items():
            state[name].copy_(value)
    optimizer.state.clear()
    for name, moments in loaded.optimizer.items():
        optimizer.state[trained[name]] = dict(moments)


def first_failure(error: CheckpointException) -> tuple[int, BaseException]:
    """Give the first rank on which an exchange with the disk failed, and why."""
    rank, (cause, _) = min(error.failures.items(), key=lambda item: item[0])
    return rank, cause


def _damaged(path: Path, cause: BaseException) -> ValueError:
    told = " ".join(str(cause).split())[:200]
    return ValueError(f"{path} is damaged ({type(cause).__name__}: {told}); take an older checkpoint")


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Give parameters and buffers by name; the parameters themselves, so that the optimiser's can be told."""
    return dict(model.state_dict(keep_vars=True))


def _trained(state: Mapping[str, Tensor], optimizer: Optimizer) -> dict[str, Tensor]:
    """Name the optimiser's parameters, in its own order."""
    names = {value: name for name, value in reversed(list(state.items()))}  # the first name of a shared parameter
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strangers = [tuple(parameter.shape) for parameter in parameters if parameter not in names]
    if strangers:
        raise ValueError(f"the optimiser has a parameter of shape {strangers[0]} that the model does not have")
    return {names[parameter]: parameter for parameter in parameters}


def _stored(path: Path) -> dict[str, TensorStorageMetadata]:
    """Read names, shapes and types from the headers, and see that the shards of each tensor are all there."""
    try:
        found = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _damaged(path, error) from None
    stored = {name: entry for name, entry in found.items() if isinstance(entry, TensorStorageMetadata)}
    for name, entry in stored.items():
        held = sum(chunk.sizes.numel() for chunk in entry.chunks)
        if held != entry.size.numel():
            raise ValueError(
                f"{path} holds {held} of the {entry.size.numel()} values of {name}: a shard is missing; take an "
                "older checkpoint"
            )
    return stored


def _refuse_misfit(path: Path, stored: Mapping[str, TensorStorageMetadata], *, wanted: Mapping[str, Tensor]) -> None:
    """Compare a checkpoint's names, shapes and types with what the model and the optimiser want."""
    problems = []
    for word, odd in (("missing", wanted.keys() - stored.keys()), ("unexpected", stored.keys() - wanted.keys())):
        if odd:
            problems.append(f"{len(odd)} {word} ({', '.join(sorted(odd)[:3])}{', ...' if len(odd) > 3 else ''})")
    for name, value in wanted.items():
        entry = stored.get(name)
        if entry is not None and (entry.size != value.shape or entry.properties.dtype != value.dtype):
            problems.append(
                f"{name} is {entry.properties.dtype} {tuple(entry.size)}, expected {value.dtype} {tuple(value.shape)}"
            )
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"{path} does not fit this training: {'; '.join(problems[:3])}{more}; nothing was loaded, resume with the "
            "config it was made with"
        )


def _make_room(
    optimizer: Optimizer, trained: Mapping[str, Tensor], layout: StateLayout
) -> dict[str, dict[str, Tensor]]:
    """Give tensors for what the optimiser keeps, by parameter and key; torch's keep numbers like the parameter's."""
    stateless = set(layout.without_state)
    names = {parameter: name for name, parameter in trained.items() if name not in stateless}
    rooms = {}
    for group in optimizer.param_groups:
        is_beside = bool(group.get("fused")) or bool(group.get("capturable"))  # then kernels read the count of steps
        for parameter in group["params"]:
            if parameter not in names:
                continue
            if isinstance(optimizer, LeanAdamW):
                rooms[names[parameter]] = optimizer.empty_state(parameter)
                continue
            place = parameter.device if is_beside else torch.device("cpu")
            rooms[names[parameter]] = {
                key: torch.empty((), dtype=torch.float32, device=place)
                if key == COUNTER
                else torch.empty_like(parameter.detach())
                for key in layout.state_keys
            }
    return rooms
