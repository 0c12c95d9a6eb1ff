"""Linear maps give what torch's give, whichever library multiplies, with the same gradients and no more kept."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from models.layers import linear as module
from models.layers.linear import MIN_ROWS, MIN_WIDTH, Linear, gate, linear

WIDE = MIN_WIDTH + 24

needs_onednn = pytest.mark.skipif(
    module.ONEDNN is None, reason="needs a torch with oneDNN, as the locked one is: run by `make test`"
)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def calls(monkeypatch):
    """The calls of oneDNN's operation, by what is done to a product."""
    real, found = module.ONEDNN, []

    def spy(*arguments):
        found.append(arguments[4] if isinstance(arguments[4], str) else arguments[3])
        return real(*arguments)

    monkeypatch.setattr(module, "ONEDNN", spy)
    return found


SHAPES = [(WIDE, WIDE), (MIN_WIDTH, 2 * WIDE), (2 * WIDE, MIN_WIDTH)]
LEADS = [(MIN_ROWS,), (3, MIN_ROWS), (2, 2, 50)]


@needs_onednn
@pytest.mark.parametrize(("width", "out"), SHAPES)
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_large_product_and_its_gradients_are_torchs(width, out, lead, has_bias, calls):
    x, weight, grad = draw(*lead, width, seed=0), draw(out, width, seed=1), draw(*lead, out, seed=2)
    bias = draw(out, seed=3) if has_bias else None

    def run(function, dtype):
        leaves = [part.to(dtype).requires_grad_() for part in (x, weight, bias) if part is not None]
        product = function(*leaves)
        product.backward(grad.to(dtype))
        return [product.detach(), *(leaf.grad for leaf in leaves)]

    exact = run(functional.linear, torch.float64)
    found = run(linear, torch.float32)
    assert calls[:2] == ["none", "none"]
    with torch.no_grad():
        found.append(linear(x, weight, bias))
    for ours, true in zip(found, [*exact, exact[0]], strict=True):
        assert (ours - true).abs().max() <= 2e-6 * true.abs().max()


@needs_onednn
def test_the_gate_is_geglu_with_and_without_gradient(calls):
    x, first, second = draw(MIN_ROWS, WIDE, seed=0), draw(2 * WIDE, WIDE, seed=1), draw(2 * WIDE, WIDE, seed=2)
    exact = functional.gelu(x.double() @ first.double().t()) * (x.double() @ second.double().t())
    with torch.no_grad():
        fused = gate(x, first, second)
    assert calls == ["gelu", "mul"]
    learning = gate(x, first.requires_grad_(), second)
    for found in (fused, learning.detach()):
        assert (found - exact).abs().max() <= 2e-6 * exact.abs().max()
    learning.sum().backward()
    assert first.grad is not None
    assert second.grad is None


@needs_onednn
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (draw(MIN_ROWS - 1, WIDE, seed=0), draw(WIDE, WIDE, seed=1)),
        (draw(MIN_ROWS, MIN_WIDTH - 1, seed=0), draw(WIDE, MIN_WIDTH - 1, seed=1)),
        (draw(MIN_ROWS, WIDE, seed=0).double(), draw(WIDE, WIDE, seed=1).double()),
        (draw(MIN_ROWS, WIDE, seed=0).bfloat16(), draw(WIDE, WIDE, seed=1).bfloat16()),
    ],
    ids=["few rows", "narrow", "float64", "bfloat16"],
)
def test_other_products_are_torchs_own(x, weight, calls):
    assert torch.equal(linear(x, weight), functional.linear(x, weight))
    expected = functional.gelu(functional.linear(x, weight)) * functional.linear(x, weight)
    assert torch.equal(gate(x, weight, weight), expected)
    assert not calls


def test_autocast_still_decides_the_type():
    x, weight = draw(MIN_ROWS, WIDE, seed=0), draw(WIDE, WIDE, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, weight).dtype == gate(x, weight, weight).dtype == torch.bfloat16


def test_without_onednn_torch_multiplies(monkeypatch):
    monkeypatch.setattr(module, "ONEDNN", None)
    x, weight = draw(MIN_ROWS, WIDE, seed=0), draw(WIDE, WIDE, seed=1)
    assert torch.equal(linear(x, weight), functional.linear(x, weight))


@pytest.mark.parametrize(("learns_weight", "learns_input", "kept"), [(True, False, 1), (False, True, 0)])
def test_what_no_gradient_asks_for_is_not_kept(learns_weight, learns_input, kept):
    x = draw(MIN_ROWS, WIDE, seed=0).requires_grad_(learns_input)
    layer = Linear(WIDE, WIDE).requires_grad_(learns_weight)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        layer(x).sum().backward()
    assert sum(t.data_ptr() == x.data_ptr() for t in saved) == kept
    assert (layer.weight.grad is not None) is learns_weight
    assert (x.grad is not None) is learns_input


def test_a_checkpoint_runs_it_again_to_the_same_gradients():
    x, layer = draw(MIN_ROWS, WIDE, seed=0), Linear(WIDE, WIDE)
    grads = []
    for run in (layer, lambda value: checkpoint(layer, value, use_reentrant=False)):
        layer.zero_grad()
        run(x).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in layer.parameters()])
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


def test_it_has_the_weights_of_torchs_linear():
    assert list(Linear(3, 2).state_dict()) == list(nn.Linear(3, 2).state_dict())
