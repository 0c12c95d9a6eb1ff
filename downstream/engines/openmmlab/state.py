"""A training's state on disk: tensors and plain values only, so that nothing in it can be executed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from models.checkpoint.load import save_state

STATE_FILE = "training_state.safetensors"
RANDOM_KEY = "random_state"
VALUE_KEYS = ("iteration", "lr", "schedulers")


@dataclass(frozen=True)
class Training:
    """The parts of a training that have a state."""

    model: nn.Module
    optimizer: Optimizer
    schedulers: tuple[Any, ...]
    """mmengine's parameter schedulers."""

    def save(self, path: Path, *, iteration: int) -> None:
        """Write all that a resumed run needs; a kill leaves the last state or this one."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()})
        values = {
            "iteration": iteration,
            "lr": [group["lr"] for group in self.optimizer.param_groups],
            "schedulers": [_plain(scheduler.state_dict()) for scheduler in self.schedulers],
        }
        tensors[RANDOM_KEY] = torch.get_rng_state()
        save_state(tensors, path, metadata={"training": json.dumps(values)})

    def load(self, path: Path) -> tuple[int, Tensor]:
        """Take the training up where its state was written.

        Returns:
            Iterations done, and the state of torch's random numbers at that point.

        Raises:
            ValueError: the file is damaged.
        """
        tensors, values = _read(path)
        if _part(tensors, "model.").keys() != self.model.state_dict().keys():
            raise ValueError(f"{path} holds other parameters than the model; remove it and start anew")
        self.model.load_state_dict(_part(tensors, "model."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimizer.").items():
            index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        for group, lr in zip(self.optimizer.param_groups, values["lr"], strict=True):
            group["lr"] = lr
        for scheduler, state in zip(self.schedulers, values["schedulers"], strict=True):
            scheduler.load_state_dict(state)
        return int(values["iteration"]), tensors[RANDOM_KEY]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Keep what JSON can hold: mmengine's schedulers keep numbers, names and lists of numbers."""
    return {key: value for key, value in state.items() if isinstance(value, bool | int | float | str | list | None)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, safe_open is no mapping
            values = json.loads(file.metadata()["training"])
            return {RANDOM_KEY: tensors[RANDOM_KEY], **tensors}, {key: values[key] for key in VALUE_KEYS}
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and start anew") from None
