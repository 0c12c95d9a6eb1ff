"""The state of an unfinished fine-tuning comes back to the last bit, or is refused in one line."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from downstream.engines.plain.training_state import STATE_FILE, Progress, RunningMean, TrainingState
from models.adamw import LeanAdamW
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


def make(
    *, seed: int = 0, width: int = 4, is_fused: bool = True, decay: float | None = None, is_lean: bool = False
) -> TrainingState:
    torch.manual_seed(seed)
    net = Net(width)
    mean = None if decay is None else RunningMean(net, decay)
    if is_lean:
        groups = [{"params": list(net.parameters())}]
        lean = LeanAdamW(groups, lr=0.01, betas=(0.9, 0.98), eps=1e-8, state="int8", smallest=1)
        return TrainingState(net, lean, CPU, mean)
    return TrainingState(net, torch.optim.AdamW(net.parameters(), lr=0.01, fused=is_fused), CPU, mean)


def train(state: TrainingState, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(step))
        state.module(x).square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        if state.mean is not None:
            state.mean.update()


def read(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(folder / STATE_FILE, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize(
    "settings", [{}, {"is_fused": False}, {"decay": 0.9}, {"is_lean": True}], ids=["fused", "plain", "mean", "int8"]
)
def test_a_training_goes_on_as_if_nothing_had_happened(tmp_path: Path, settings: dict[str, Any]) -> None:
    whole, begun, resumed = (make(seed=seed, **settings) for seed in (0, 0, 1))
    train(whole, 0, 7)
    train(begun, 0, 4)
    begun.save(tmp_path, Progress(4, 2, 61.5))
    assert resumed.load(tmp_path) == Progress(4, 2, 61.5)
    train(resumed, 4, 7)
    after = resumed.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in whole.module.state_dict().items())
    if whole.mean is not None and resumed.mean is not None:
        assert all(torch.equal(value, resumed.mean.values[name]) for name, value in whole.mean.values.items())


def test_a_running_mean_is_what_is_computed_by_hand() -> None:
    net = Net()
    net.unused.weight.requires_grad_(False)
    mean, begun = RunningMean(net, 0.75), net.first.weight.detach().clone()
    for shift in (1.0, -3.0):
        with torch.no_grad():
            net.first.weight.copy_(begun + shift)
        mean.update()
    torch.testing.assert_close(mean.values["first.weight"], begun + 0.75 * 0.25 * 1.0 + 0.25 * -3.0)
    torch.testing.assert_close(mean.values["second.weight"], net.second.weight.detach())
    assert set(mean.values) == set(net.state_dict()) - {"unused.weight"}, "what is trained"


def test_a_mean_stands_in_for_the_weights_and_gives_them_back_whatever_happens() -> None:
    state = make(decay=0.5)
    train(state, 0, 3)
    assert state.mean is not None
    trained = copy.deepcopy(state.module.state_dict())

    def look(mean: RunningMean) -> None:
        with mean.in_place():
            assert all(torch.equal(value, mean.values[name]) for name, value in state.module.state_dict().items())
            assert not torch.equal(state.collect()["first.weight"], trained["first.weight"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(state.mean)
    assert all(torch.equal(value, trained[name]) for name, value in state.module.state_dict().items())


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
    "damage",
    [
        "torn",
        "no progress",
        "no json",
        "unknown progress",
        "no optimiser",
        "a moment's shape",
        "no mean",
        "a mean's shape",
    ],
)
def test_a_damaged_state_is_one_line_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    state = make(decay=0.5)
    train(state, 0, 1)
    state.save(tmp_path, Progress(1))
    path = tmp_path / STATE_FILE
    tensors, told = read(tmp_path)
    if damage in (lacking := {"no optimiser": "optimizer/", "no mean": "mean/"}):
        tensors = {name: value for name, value in tensors.items() if not name.startswith(lacking[damage])}
    if damage in (
        wrong := {"a moment's shape": "optimizer/first.weight/exp_avg", "a mean's shape": "mean/first.weight"}
    ):
        tensors[wrong[damage]] = torch.zeros(3, 4)
    changed = {"no progress": {}, "no json": {"progress": "{"}, "unknown progress": {"progress": '{"steps": 1}'}}
    save_state(tensors, path, metadata=changed.get(damage, told))
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match="remove it") as caught:
        make(decay=0.5).load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    state = make()
    train(state, 0, 1)
    state.save(tmp_path, Progress(1))
    with pytest.raises(ValueError, match="does not fit the model"):
        make(width=5).load(tmp_path)
