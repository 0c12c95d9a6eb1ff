"""A training's state comes back bit for bit, or is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LinearLR, PolynomialLR

from downstream.engines.openmmlab.state import RANDOM_KEY, Training


def make_training(seed: int = 0) -> Training:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2))
    groups = [
        {"params": model[0].parameters(), "lr": 0.1},
        {"params": [*model[1].parameters(), *model[3].parameters()]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01, fused=True)
    schedulers = (LinearLR(optimizer, total_iters=3), PolynomialLR(optimizer, total_iters=9))
    return Training(model, optimizer, schedulers)


def train(training: Training, first: int, last: int) -> None:
    """Steps that depend on their number, the state, and torch's random numbers."""
    for number in range(first, last):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(number))
        training.model(x).square().mean().backward()
        training.optimizer.step()
        training.optimizer.zero_grad()
        for scheduler in training.schedulers:
            scheduler.step()


def saved(path: Path) -> Training:
    training = make_training()
    torch.manual_seed(11)
    train(training, 0, 4)
    training.save(path, iteration=4)
    return training


@pytest.fixture(autouse=True)
def _keep_random_state():
    with torch.random.fork_rng():
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.safetensors"


def test_a_resumed_training_goes_on_bit_for_bit(path: Path) -> None:
    straight = saved(path)
    train(straight, 4, 9)
    resumed = make_training(seed=1)
    iteration, random_state = resumed.load(path)
    torch.set_rng_state(random_state)
    train(resumed, iteration, 9)
    for (name, ours), theirs in zip(
        resumed.model.state_dict().items(), straight.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_model_optimizer_schedulers_and_random_numbers_come_back(path: Path) -> None:
    before = saved(path)
    random_state = torch.get_rng_state()
    after = make_training(seed=1)
    assert torch.equal(after.load(path)[1], random_state)
    ours, theirs = after.optimizer.state_dict(), before.optimizer.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index, moments in theirs["state"].items():
        for name, value in moments.items():
            assert torch.equal(ours["state"][index][name], value), (index, name)
            assert ours["state"][index][name].dtype == value.dtype
    for our_scheduler, their_scheduler in zip(after.schedulers, before.schedulers, strict=True):
        assert our_scheduler.state_dict() == their_scheduler.state_dict()


def test_the_file_holds_tensors_and_json_only(path: Path) -> None:
    saved(path)
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["training"])
    assert set(values) == {"iteration", "lr", "schedulers"}
    assert values["iteration"] == 4
    assert set(load_file(path)) > {RANDOM_KEY, "model.0.weight", "optimizer.0.exp_avg", "optimizer.0.step"}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_loading_draws_no_random_numbers_and_sets_none(path: Path) -> None:
    saved(path)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    make_training().load(path)
    assert torch.equal(before, torch.get_rng_state())


def refused(training: Training, path: Path) -> str:
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    with pytest.raises(ValueError, match=path.name) as caught:
        training.load(path)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in training.model.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.2, 0.7, 0.999])
def test_a_cut_off_file_is_refused(path: Path, share: float) -> None:
    saved(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "is damaged" in refused(make_training(), path)


@pytest.mark.parametrize("metadata", [None, {"other": "x"}, {"training": "{"}])
def test_a_file_of_something_else_is_refused(path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": torch.zeros(2)}, path, metadata=metadata)
    assert "remove it and start anew" in refused(make_training(), path)
