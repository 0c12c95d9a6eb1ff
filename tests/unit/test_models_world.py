"""A single process is a world of one; what several need is checked before any of them waits for another."""

import pytest
import torch

from models.world import SLURM_NAMES, World

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in (*SLURM_NAMES, *SLURM_NAMES.values()):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_a_process_is_alone():
    with World.join("cpu") as world:
        assert (world.rank, world.size, world.device) == (0, 1, CPU)
        assert world.is_first


def test_the_names_of_torchrun_come_before_those_of_slurm(monkeypatch):
    joined = []
    monkeypatch.setattr("torch.distributed.init_process_group", joined.append)
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert (World.join("cpu").rank, World.join("cpu").size) == (3, 4)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    world = World.join("cpu")
    assert (world.rank, world.size, world.is_first) == (0, 2, True)
    assert set(joined) == {"gloo"}


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match="--device cuda for local rank 1, but there are 1 GPUs; use --device cpu"):
        World.join("cuda")


def test_alone_nothing_is_exchanged():
    rows = {"text": torch.ones(3, 2, requires_grad=True)}
    negatives = ALONE.gather_rows(rows)
    assert negatives.first_row == 0
    assert torch.equal(negatives.features["text"], rows["text"])
    assert not negatives.features["text"].requires_grad
    assert ALONE.sum(torch.tensor(3.0)).item() == 3
    assert ALONE.share_text("straße") == "straße"
    ALONE.barrier()  # nobody to wait for
