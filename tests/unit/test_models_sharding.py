"""A model is placed and sharded as its config says; gradients are measured, averaged and clipped together."""

import math

import pytest
import torch
from torch import nn

from models.config import load_config
from models.onepeace import build_model
from models.sharding import clip_gradients, measure_gradients, reduce_numbers, spread
from models.training import ParallelConfig
from models.world import World

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


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


def test_without_a_largest_norm_nothing_is_clipped():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([30.0, 40.0])
    clip_gradients([parameter], norm=measure_gradients([parameter]), largest=None)
    assert parameter.grad.tolist() == [30, 40]


def test_a_gradient_that_is_not_finite_is_told_by_the_norm():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, float("nan")])
    assert math.isnan(measure_gradients([parameter]))


def test_a_model_is_spread_as_its_config_says():
    model = build_model(load_config("tiny"), seed=0)
    config = ParallelConfig(recompute="layer", state_dtype="bfloat16")
    spread(model, [model.encoder], config=config, world=ALONE)
    assert model.encoder.recompute == "layer"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_groups_that_do_not_divide_the_ranks_are_refused():
    model = build_model(load_config("tiny"), seed=0)
    config = ParallelConfig(shard="hybrid", shard_size=4)
    with pytest.raises(ValueError, match="shard_size 4 does not divide 6 ranks"):
        spread(model, [model.encoder], config=config, world=World(0, 6, CPU))


def test_gradients_of_single_numbers_alone_are_averaged_over_the_ranks(monkeypatch):
    monkeypatch.setattr("torch.distributed.all_reduce", lambda gradient: gradient.add_(5.0))  # the other rank's
    number, unused, vector = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(1))
    number.grad, vector.grad = torch.tensor(3.0), torch.tensor([3.0])
    reduce_numbers([number, unused, vector], World(0, 2, CPU))
    assert number.grad.item() == 4
    assert vector.grad.item() == 3
    assert unused.grad is None
