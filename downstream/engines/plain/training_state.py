"""The state of an unfinished fine-tuning: one safetensors file, the same for any number of processes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from models.checkpoint.load import save_state
from models.world import World

STATE_FILE = "state.safetensors"
PROGRESS_KEY = "progress"
MODEL, OPTIMIZER = "model/", "optimizer/"


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    step: int
    """Updates made."""
    best_step: int | None = None
    """Of the weights that are kept so far."""
    best_value: float | None = None


@dataclass(frozen=True)
class TrainingState:
    """What is trained, and what trains it."""

    module: nn.Module
    optimizer: Optimizer
    world: World

    def collect(self) -> dict[str, Tensor]:
        """Bring the whole model together on the CPU of the first process; all call it, the others get nothing."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Any] = get_model_state_dict(self.module, options=options)
        return {name: value.detach().clone() for name, value in state.items()}

    def save(self, folder: Path, progress: Progress) -> None:
        """Write all that a resumed training needs; a kill leaves the last state or this one."""
        model, moments = self.collect(), self._collect_moments()
        if self.world.is_first:
            tensors = {f"{MODEL}{name}": value for name, value in model.items()}
            tensors |= {f"{OPTIMIZER}{name}": value for name, value in moments.items()}
            values = {"step": progress.step, "best_step": progress.best_step, "best_value": progress.best_value}
            save_state(tensors, folder / STATE_FILE, metadata={PROGRESS_KEY: json.dumps(values)})
        self.world.barrier()

    def load(self, folder: Path) -> Progress:
        """Take a training up where its state was written; nothing there is its beginning.

        Raises:
            ValueError: the file is damaged, or of another model.
        """
        path = folder / STATE_FILE
        if not path.is_file():
            return Progress(0)
        tensors, progress = _read(path)
        try:
            options = StateDictOptions(full_state_dict=True)
            set_model_state_dict(self.module, _part(tensors, MODEL), options=options)
            self._restore_moments(_part(tensors, OPTIMIZER))
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"{path} does not fit the model ({str(error).splitlines()[0]}); remove it") from None
        return progress

    def _collect_moments(self) -> dict[str, Tensor]:
        """Bring what the optimiser keeps together, `<parameter>/<key>`; what never had a gradient has nothing."""
        moments = {}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                whole = value.full_tensor() if isinstance(value, DTensor) else value
                if self.world.is_first:
                    moments[f"{name}/{key}"] = whole.detach().cpu().clone()
        return moments

    def _restore_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Give the optimiser what it had, spread as its parameters are."""
        parameters = dict(self.module.named_parameters())
        state: dict[str, dict[str, Tensor]] = {}
        for place, value in moments.items():
            name, _, key = place.rpartition("/")
            state.setdefault(name, {})[key] = _spread_like(parameters[name], value)
        if not state:
            raise KeyError("nothing of the optimiser")
        self.optimizer.state.clear()
        for name, kept in state.items():
            self.optimizer.state[parameters[name]] = kept


def _spread_like(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Bring a whole tensor to where a parameter is; a count of steps is the same everywhere."""
    if value.ndim and value.shape != parameter.shape:
        raise RuntimeError(f"the optimiser has {tuple(value.shape)} for a parameter of {tuple(parameter.shape)}")
    if value.ndim and isinstance(parameter, DTensor):
        return distribute_tensor(
            value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    return value.to(parameter.device)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], Progress]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, safe_open is no mapping
            return tensors, Progress(**json.loads(file.metadata()[PROGRESS_KEY]))
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and start anew") from None
