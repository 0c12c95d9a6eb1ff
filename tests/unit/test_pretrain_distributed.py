"""A single process is a world of one; what several need is checked before any of them waits for another."""

import math

import pytest
import torch
from torch import nn

from pretrain.config import ParallelConfig, load_stage
from pretrain.distributed import SLURM_NAMES, World, clip_gradients, measure_gradients, reduce_scale, spread
from pretrain.stages import build_objective

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


def test_the_gradient_norm_is_of_all_parameters_together_and_clipping_keeps_directions():
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(()))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0, 12.0])
    norm = measure_gradients(parameters)
    assert norm.item() == pytest.approx(13)
    clip_gradients(parameters, norm=norm, largest=1.3)
    assert parameters[1].grad.tolist() == pytest.approx([0, 0.4, 1.2], rel=1e-5)
    clip_gradients(parameters, norm=measure_gradients(parameters), largest=5.0)
    assert parameters[0].grad.tolist() == pytest.approx([0.3, 0], rel=1e-5)
    assert parameters[2].grad is None


def test_a_gradient_that_is_not_finite_is_told_by_the_norm():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, float("nan")])
    assert math.isnan(measure_gradients([parameter]))


def test_a_model_is_spread_as_its_config_says():
    config = load_stage("stage1", "tiny")
    objective = build_objective(config)
    assert objective.decoder is not None
    parallel = ParallelConfig(has_checkpointing=True, state_dtype="bfloat16")
    spread(objective, parallel, ALONE)
    assert objective.model.encoder.is_checkpointed
    assert objective.decoder.encoder.is_checkpointed
    assert {parameter.dtype for parameter in objective.parameters()} == {torch.bfloat16}
    reduce_scale(objective, ALONE)  # no gradient, nothing to average


def test_groups_that_do_not_divide_the_ranks_are_refused():
    objective = build_objective(load_stage("stage1", "tiny", assignments=["objective.terms={}"]))
    parallel = ParallelConfig(shard="hybrid", shard_size=4)
    with pytest.raises(ValueError, match="shard_size 4 does not divide 6 ranks"):
        spread(objective, parallel, World(0, 6, CPU))
