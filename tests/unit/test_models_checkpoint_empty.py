"""A model to load into is the model that training begins with, without its numbers."""

import pytest
import torch

from models.checkpoint.empty import build_empty
from models.config import list_sizes, load_config
from models.onepeace import OnePeace


@pytest.mark.parametrize("size", list_sizes())
def test_names_shapes_and_types_are_those_of_a_model_that_is_drawn(size: str) -> None:
    config = load_config(size)
    with torch.device("meta"):
        drawn = OnePeace(config)
    empty = build_empty(config)
    told = [
        [
            (name, value.shape, value.dtype, value.device, value.requires_grad)
            for name, value in model.named_parameters()
        ]
        for model in (empty, drawn)
    ]
    assert told[0] == told[1]
    assert list(empty.state_dict()) == list(drawn.state_dict())
    assert [type(module) for module in empty.modules()] == [type(module) for module in drawn.modules()]


def test_the_callers_random_state_and_device_stay_as_they_were() -> None:
    before = torch.get_rng_state()
    build_empty(load_config("tiny"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.randn(2).device.type == "cpu"
    assert torch.nn.Embedding(3, 4).weight.any(), "drawn as ever"
