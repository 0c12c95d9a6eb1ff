"""Training checkpoints: whole or not there, exact, and strict."""

import errno
import json
import os
import re
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import filesystem

from models.adamw import LeanAdamW
from pretrain.saving import PROGRESS_FILE, Saver, find_latest, list_checkpoints, load

PROGRESS = {"lanes": {"0": {"epoch": 1, "position": 17}}, "guard": {"losses": [2.5, 0.1]}, "seen": 640}


class Net(nn.Module):
    """Has a parameter of no dimension, a buffer, a frozen layer, and one that never gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.frozen = nn.Linear(7, 7).requires_grad_(requires_grad=False)
        self.unused = nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("offset", torch.randn(7))

    def forward(self, x):
        return (self.frozen(self.first(x)) * self.scale + self.offset).square().mean()


def make(seed: int = 0, state: str = "float32") -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = Net()
    trained = [p for p in model.parameters() if p.requires_grad]
    if state == "float32":
        return model, torch.optim.AdamW(trained, lr=0.01)
    settings = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-8, "smallest": 20}
    return model, LeanAdamW([{"params": trained}], state=state, **settings)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        loss = model(x)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return [value.clone() for value in (*model.state_dict().values(), *moments)]


def is_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def save(folder: Path, step: int, *, keep: int = 9, seed: int = 0) -> Path:
    model, optimizer = make(seed)
    train(model, optimizer, range(3))
    saver = Saver(folder, keep=keep)
    return saver.save(step, model=model, optimizer=optimizer, progress=PROGRESS, wait=True).path


@pytest.mark.parametrize("state", ["float32", "bfloat16", "int8"])
def test_a_resumed_training_goes_on_to_the_last_digit(tmp_path, state):
    model, optimizer = make(state=state)
    train(model, optimizer, range(5))
    path = Saver(tmp_path, keep=2).save(5, model=model, optimizer=optimizer, progress=PROGRESS, wait=True).path
    uninterrupted = train(model, optimizer, range(5, 9))
    other, its_optimizer = make(seed=1, state=state)
    train(other, its_optimizer, range(2))  # state that has to go
    assert load(path, model=other, optimizer=its_optimizer) == PROGRESS
    assert train(other, its_optimizer, range(5, 9)) == uninterrupted
    assert is_same(snapshot(model, optimizer), snapshot(other, its_optimizer))


def test_later_steps_do_not_leak_into_a_checkpoint_that_is_being_written(tmp_path, monkeypatch):
    model, optimizer = make()
    train(model, optimizer, range(3))
    before = snapshot(model, optimizer)
    write, may_write = filesystem.FileSystemWriter._write_data, threading.Event()

    def write_late(self, *args):
        assert may_write.wait(10)
        return write(self, *args)

    monkeypatch.setattr(filesystem.FileSystemWriter, "_write_data", write_late)
    saver = Saver(tmp_path, keep=2)
    pending = saver.save(3, model=model, optimizer=optimizer, progress=PROGRESS)
    train(model, optimizer, range(3, 6))
    assert find_latest(tmp_path) is None
    may_write.set()
    other, its_optimizer = make(seed=1)
    load(pending.finish(), model=other, optimizer=its_optimizer)
    assert is_same(before, snapshot(other, its_optimizer))


def test_nothing_saved_can_be_executed_and_nothing_else_is_saved(tmp_path):
    names = sorted(path.name for path in save(tmp_path, 3).iterdir())
    assert names == [PROGRESS_FILE, "shard-00001-model-00001-of-00001.safetensors"]


def test_a_parameter_without_a_gradient_has_no_state_afterwards(tmp_path):
    path = save(tmp_path, 3)
    model, optimizer = make(seed=1)
    load(path, model=model, optimizer=optimizer)
    assert model.unused.weight not in optimizer.state
    assert optimizer.state[model.scale]["step"].item() == 3


def test_the_last_ones_are_kept_and_found(tmp_path):
    assert find_latest(tmp_path / "nowhere") is None
    model, optimizer = make()
    saver = Saver(tmp_path, keep=2)
    for step in (9, 10, 100):
        saver.save(step, model=model, optimizer=optimizer, progress={})
    saver.finish()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000010", "step-00000100"]
    assert find_latest(tmp_path) == tmp_path / "step-00000100"


def test_leftovers_of_a_killed_run_are_not_found_and_are_removed(tmp_path):
    path = save(tmp_path, 3)
    leftover = tmp_path / "step-00000007.partial"
    leftover.mkdir()
    (leftover / PROGRESS_FILE).write_text("{}")
    assert find_latest(tmp_path) == path
    model, optimizer = make()
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        load(leftover, model=model, optimizer=optimizer)
    Saver(tmp_path, keep=1)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("point", ["shards", "progress"])
def test_a_full_disk_is_one_line_and_leaves_the_older_checkpoints(tmp_path, monkeypatch, point):
    path = save(tmp_path, 3)
    model, optimizer = make()
    saver = Saver(tmp_path, keep=1)
    sync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == (1 if point == "shards" else 2):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    pending = saver.save(4, model=model, optimizer=optimizer, progress=PROGRESS)
    with pytest.raises(OSError, match=r"the disk is full; the last complete one is step-00000003; free") as told:
        pending.finish()
    assert "\n" not in str(told.value)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    load(path, model=model, optimizer=optimizer)


def test_the_next_save_tells_of_the_one_before_that_failed(tmp_path, monkeypatch):
    model, optimizer = make()
    saver = Saver(tmp_path, keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        saver.save(4, model=model, optimizer=optimizer, progress={})
        with pytest.raises(OSError, match="there is no earlier one"):
            saver.save(5, model=model, optimizer=optimizer, progress={})
    saver.save(5, model=model, optimizer=optimizer, progress={}, wait=True)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000005"]


def test_a_step_is_written_once(tmp_path):
    save(tmp_path, 3)
    with pytest.raises(ValueError, match="step-00000003 cannot be written: it already exists"):
        save(tmp_path, 3)


@pytest.mark.parametrize("progress", [{"lanes": {0: 1}}, {"pair": (1, 2)}])
def test_progress_that_json_would_change_is_refused(tmp_path, progress):
    model, optimizer = make()
    with pytest.raises(ValueError, match="is not the same after JSON"):
        Saver(tmp_path, keep=1).save(1, model=model, optimizer=optimizer, progress=progress)


class Wider(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)


class Extended(Net):
    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Linear(1, 2, bias=False)


class Shortened(Net):
    def __init__(self) -> None:
        super().__init__()
        del self.unused, self.offset


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Wider, r"model\.first\.weight is torch\.float32 \(7, 5\), expected torch\.float32 \(8, 5\)"),
        (Extended, r"4 missing \(model\.more\.weight, optimizer\.more\.weight\.exp_avg, "),
        (Shortened, r"3 unexpected \(model\.offset, model\.unused\.bias, model\.unused\.weight\)"),
        (lambda: Net().double(), r"expected torch\.float64"),
    ],
)
def test_another_model_is_refused_in_one_line_and_stays_as_it_was(tmp_path, kind, message):
    path = save(tmp_path, 3)
    model = kind()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=message) as told:
        load(path, model=model, optimizer=optimizer)
    assert "\n" not in str(told.value)
    assert is_same(before, snapshot(model, optimizer))


def test_another_optimiser_is_refused(tmp_path):
    path = save(tmp_path, 3)
    model, _ = make()
    optimizer = torch.optim.AdamW([model.scale])
    with pytest.raises(ValueError, match=re.escape("6 unexpected (optimizer.first.bias.exp_avg, ")):
        load(path, model=model, optimizer=optimizer)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("float32", "int8", "2 missing (optimizer.first.weight.exp_avg_scales, "),
        ("int8", "float32", "missing (optimizer.first.bias.exp_avg_scales, "),
        ("bfloat16", "float32", "optimizer.first.weight.exp_avg is torch.bfloat16 (7, 5), expected torch.float32"),
        ("float32", "bfloat16", "optimizer.first.weight.exp_avg is torch.float32 (7, 5), expected torch.bfloat16"),
    ],
)
def test_moments_kept_in_another_way_are_refused(tmp_path, before, after, message):
    model, optimizer = make(state=before)
    train(model, optimizer, range(2))
    path = Saver(tmp_path, keep=1).save(2, model=model, optimizer=optimizer, progress={}, wait=True).path
    model, optimizer = make(seed=1, state=after)
    unchanged = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=re.escape(message)):
        load(path, model=model, optimizer=optimizer)
    assert is_same(unchanged, snapshot(model, optimizer))


@pytest.mark.parametrize("damage", ["truncated", "gone", "no json", "no layout"])
def test_a_damaged_checkpoint_is_one_line_and_changes_nothing(tmp_path, damage):
    path = save(tmp_path, 3)
    shard, record = next(path.glob("*.safetensors")), path / PROGRESS_FILE
    match damage:
        case "truncated":
            os.truncate(shard, shard.stat().st_size - 100)
        case "gone":
            shard.unlink()
        case "no json":
            record.write_text("{")
        case "no layout":
            record.write_text(json.dumps({"progress": {}}))
    model, optimizer = make(seed=1)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=r"is damaged|missing") as told:
        load(path, model=model, optimizer=optimizer)
    assert "\n" not in str(told.value)
    assert is_same(before, snapshot(model, optimizer))


def test_a_single_process_is_not_told_that_it_is_one(tmp_path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        path = save(tmp_path, 3)
        model, optimizer = make()
        load(path, model=model, optimizer=optimizer)
    assert not told
