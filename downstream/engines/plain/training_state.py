"""The state of an unfinished fine-tuning: one safetensors file, the same for any number of processes."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from models.adamw import SCALES
from models.checkpoint.load import save_state
from models.world import World

STATE_FILE = "state.safetensors"
PROGRESS_KEY = "progress"
MODEL, OPTIMIZER, MEAN = "model/", "optimizer/", "mean/"


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    step: int
    """Updates made."""
    best_step: int | None = None
    """Of the weights that are kept so far."""
    best_value: float | None = None


class RunningMean:
    """An exponential moving mean of trained weights, spread over the processes as they are.

    Args:
        module: whose weights it begins with.
        decay: share of the mean that each step keeps.

    Source: reference one_peace_vision/classification (timm's ModelEmaV2): no warm-up of the decay.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
        self.values = {name: each.detach().clone() for name, each in self.parameters.items()}

    def update(self) -> None:
        """Take in the weights as they are now."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.values[name].lerp_(parameter.detach(), 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the mean instead of its weights; afterwards it has them back."""
        kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(kept)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])


@dataclass(frozen=True)
class TrainingState:
    """What is trained, and what trains it."""

    module: nn.Module
    optimizer: Optimizer
    world: World
    mean: RunningMean | None = None
    """Of the weights, where one is kept."""

    def collect(self) -> dict[str, Tensor]:
        """Bring the whole model together on the CPU of the first process; all call it, the others get nothing."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state: dict[str, Any] = get_model_state_dict(self.module, options=options)
        return {name: value.detach().clone() for name, value in state.items()}

    def save(self, folder: Path, progress: Progress) -> None:
        """Write all that a resumed training needs; a kill leaves the last state or this one."""
        model, moments, means = self.collect(), self._collect_moments(), self._collect_means()
        if self.world.is_first:
            tensors = {f"{MODEL}{name}": value for name, value in model.items()}
            tensors |= {f"{OPTIMIZER}{name}": value for name, value in moments.items()}
            tensors |= {f"{MEAN}{name}": value for name, value in means.items()}
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
            self._restore_means(_part(tensors, MEAN))
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"{path} does not fit the model ({str(error).splitlines()[0]}); remove it") from None
        return progress

    def _collect_moments(self) -> dict[str, Tensor]:
        """Bring what the optimiser keeps together, `<parameter>/<key>`; what never had a gradient has nothing."""
        moments = {}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                whole = _bring_together(value)
                if self.world.is_first:
                    moments[f"{name}/{key}"] = whole
        return moments

    def _collect_means(self) -> dict[str, Tensor]:
        values = {} if self.mean is None else self.mean.values
        return {name: _bring_together(value) for name, value in values.items()}

    def _restore_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Give the optimiser what it had, spread as its parameters are."""
        parameters = dict(self.module.named_parameters())
        state: dict[str, dict[str, Tensor]] = {}
        for place, value in moments.items():
            name, _, key = place.rpartition("/")
            spread = _spread_like(parameters[name], value, by_rows=key.endswith(SCALES))
            state.setdefault(name, {})[key] = spread
        if not state:
            raise KeyError("nothing of the optimiser")
        self.optimizer.state.clear()
        for name, kept in state.items():
            self.optimizer.state[parameters[name]] = kept

    def _restore_means(self, means: Mapping[str, Tensor]) -> None:
        for name, value in ({} if self.mean is None else self.mean.values).items():
            value.copy_(_spread_like(self.mean.parameters[name], means[name]))  # type: ignore[union-attr]


def _bring_together(value: Tensor) -> Tensor:
    """Copy a whole tensor to the CPU."""
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    return whole.detach().cpu().clone()


def _spread_like(parameter: nn.Parameter, value: Tensor, *, by_rows: bool = False) -> Tensor:
    """Bring a whole tensor to where a parameter is; a count of steps is the same everywhere.

    Args:
        parameter: where to.
        value: shaped alike.
        by_rows: it need only have as many rows.
    """
    shapes = [tuple(each.shape[:1] if by_rows else each.shape) for each in (value, parameter)]
    if value.ndim and shapes[0] != shapes[1]:
        raise RuntimeError(f"it has {tuple(value.shape)} for a parameter of {tuple(parameter.shape)}")
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
