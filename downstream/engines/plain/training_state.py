"""The state of an unfinished fine-tuning: one safetensors file, the same for any number of processes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
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
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, flatten_optimizer_state_dict=True)
        model = self.collect()
        flat: dict[str, Any] = get_optimizer_state_dict(self.module, self.optimizer, options=options)
        moments = {name: value for name, value in flat.items() if isinstance(value, Tensor)}
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
        options = StateDictOptions(full_state_dict=True, flatten_optimizer_state_dict=True)
        try:
            set_model_state_dict(self.module, _part(tensors, MODEL), options=options)
            flat: dict[str, Any] = get_optimizer_state_dict(self.module, self.optimizer, options=options)
            kept = {name: value for name, value in flat.items() if not isinstance(value, Tensor)}
            set_optimizer_state_dict(
                self.module, self.optimizer, {**kept, **_part(tensors, OPTIMIZER)}, options=options
            )
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"{path} does not fit the model ({str(error).splitlines()[0]}); remove it") from None
        return progress


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], Progress]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, safe_open is no mapping
            return tensors, Progress(**json.loads(file.metadata()[PROGRESS_KEY]))
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and start anew") from None
