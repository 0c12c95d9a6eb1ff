"""The state of an unfinished fine-tuning comes back to the last bit, or is refused in one line."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from downstream.engines.plain.training_state import STATE_FILE, Progress, TrainingState
from models.checkpoint.load import save_state
from models.world import World

CPU = World(0, 1, torch.device("cpu"))


class Net(nn.Module):
    """Has a parameter without gradient and one of a single number."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 2)
        self.unused = nn.Linear(2, 5)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.relu(self.first(x))) * self.scale
        return out


def make(*, seed: int = 0, width: int = 4, is_fused: bool = True) -> TrainingState:
    torch.manual_seed(seed)
    net = Net(width)
    return TrainingState(net, torch.optim.AdamW(net.parameters(), lr=0.01, fused=is_fused), CPU)


def train(state: TrainingState, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(step))
        state.module(x).square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(folder / STATE_FILE, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("is_fused", [True, False])
def test_a_training_goes_on_as_if_nothing_had_happened(tmp_path: Path, is_fused: bool) -> None:
    whole, begun, resumed = make(is_fused=is_fused), make(is_fused=is_fused), make(seed=1, is_fused=is_fused)
    train(whole, 0, 7)
    train(begun, 0, 4)
    begun.save(tmp_path, Progress(4, 2, 61.5))
    assert resumed.load(tmp_path) == Progress(4, 2, 61.5)
    train(resumed, 4, 7)
    after = resumed.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in whole.module.state_dict().items())


def test_nothing_there_is_the_beginning(tmp_path: Path) -> None:
    state = make()
    before = copy.deepcopy(state.module.state_dict())
    assert state.load(tmp_path) == Progress(0)
    assert all(torch.equal(value, before[name]) for name, value in state.module.state_dict().items())


def test_what_never_had_a_gradient_has_nothing_to_keep(tmp_path: Path) -> None:
    state = make()
    train(state, 0, 1)
    state.save(tmp_path, Progress(1))
    tensors, told = read(tmp_path)
    kept = {name.split("/")[1] for name in tensors if name.startswith("optimizer/")}
    assert kept == {"first.weight", "first.bias", "second.weight", "second.bias", "scale"}
    assert {name.removeprefix("model/") for name in tensors if name.startswith("model/")} == set(
        state.module.state_dict()
    )
    assert json.loads(told["progress"]) == {"step": 1, "best_step": None, "best_value": None}


def test_what_is_saved_does_not_change_with_the_training(tmp_path: Path) -> None:
    state = make()
    train(state, 0, 1)
    collected = state.collect()
    before = {name: value.clone() for name, value in collected.items()}
    train(state, 1, 3)
    assert all(torch.equal(value, before[name]) for name, value in collected.items())


@pytest.mark.parametrize(
    "damage", ["torn", "no progress", "no json", "unknown progress", "no optimiser", "a moment's shape"]
)
def test_a_damaged_state_is_one_line_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    state = make()
    train(state, 0, 1)
    state.save(tmp_path, Progress(1))
    path = tmp_path / STATE_FILE
    tensors, told = read(tmp_path)
    if damage == "no optimiser":
        tensors = {name: value for name, value in tensors.items() if not name.startswith("optimizer/")}
    if damage == "a moment's shape":
        tensors["optimizer/first.weight/exp_avg"] = torch.zeros(3, 4)
    changed = {"no progress": {}, "no json": {"progress": "{"}, "unknown progress": {"progress": '{"steps": 1}'}}
    save_state(tensors, path, metadata=changed.get(damage, told))
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="remove it") as caught:
        make().load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    state = make()
    train(state, 0, 1)
    state.save(tmp_path, Progress(1))
    with pytest.raises(ValueError, match="does not fit the model"):
        make(width=5).load(tmp_path)
