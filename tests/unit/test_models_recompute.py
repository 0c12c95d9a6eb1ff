"""Recomputing changes what is kept, never what is computed."""

from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.batch import Tokens
from models.config import load_config
from models.layers.recompute import recompute
from models.onepeace import OnePeace, build_model
from models.training import Recompute

CHOICES: tuple[Recompute, ...] = get_args(Recompute)


class Mixed(nn.Module):
    """Counts its runs, draws random numbers, and has products, attention and what lies between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 24), nn.Linear(8, 8, bias=False)
        self.norm = nn.LayerNorm(8)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        q, k, v = self.first(self.norm(x)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = x + nn.functional.dropout(nn.functional.gelu(self.second(mixed)), 0.5)
        return out


def gradients(choice: Recompute) -> tuple[dict[str, Tensor], int]:
    """Give the gradients of two layers of dropout, and how often the last one ran."""
    torch.manual_seed(0)
    layers = [Mixed(), Mixed()]
    x = torch.randn(3, 5, 8, requires_grad=True)
    out = x
    for layer in layers:
        out = recompute(layer, out, choice=choice)
    out.square().sum().backward()
    found = {f"{number}.{name}": p.grad for number, one in enumerate(layers) for name, p in one.named_parameters()}
    return {name: value for name, value in {**found, "x": x.grad}.items() if value is not None}, layers[-1].runs


@pytest.mark.parametrize("choice", CHOICES)
def test_gradients_are_the_same_to_the_last_bit_with_the_same_random_numbers(choice: Recompute) -> None:
    expected, _ = gradients("none")
    found, runs = gradients(choice)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert runs == (1 if choice == "none" else 2)


def model_gradients(model: OnePeace) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(3)
    features = torch.randn(6, 17, model.config.embed_dim, requires_grad=True)
    padding = torch.zeros(6, 17, dtype=torch.bool)
    padding[2, 9:] = True
    model.encoder({"image": Tokens(features, padding)})["image"].features.square().mean().backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert features.grad is not None
    return {**found, "features": features.grad}


@pytest.mark.parametrize("choice", ["cheap", "layer"])
def test_the_models_layers_give_the_same_gradients_with_drop_path(choice: Recompute) -> None:
    model = build_model(load_config("tiny").model_copy(update={"drop_path_rate": 0.5}), seed=0).train()
    expected = model_gradients(model)
    for layer in model.encoder.layers:
        layer.forward = partial(recompute, layer.forward, choice=choice)
    found = model_gradients(model)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


class Counter(TorchDispatchMode):
    """Counts how often each operation is really computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def test_cheap_computes_norms_again_but_neither_products_nor_attention() -> None:
    found = {}
    for choice in CHOICES:
        torch.manual_seed(0)
        layer, x = Mixed(), torch.randn(3, 5, 8, requires_grad=True)
        with Counter() as counter:
            recompute(layer, x, choice=choice).sum().backward()
        found[choice] = counter.counts
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    assert [found[choice]["native_layer_norm"] for choice in ("none", "cheap", "layer")] == [1, 2, 2]
    assert [found[choice][attention] for choice in ("none", "cheap", "layer")] == [1, 1, 2]
    assert [found[choice]["addmm"] for choice in ("none", "cheap", "layer")] == [1, 1, 2]
    assert found["cheap"]["mm"] == found["none"]["mm"] < found["layer"]["mm"]


@pytest.mark.parametrize("choice", CHOICES)
def test_without_gradients_nothing_is_prepared(choice: Recompute) -> None:
    layer = Mixed()
    with torch.no_grad():
        assert recompute(layer, torch.randn(2, 3, 8), choice=choice).grad_fn is None
    assert layer.runs == 1
