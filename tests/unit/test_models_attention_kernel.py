"""Our attention with a gradient of the bias is the library's, to the last gradient."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.layers.attention import Scores, attend

BATCH, HEADS, TOKENS, WIDTH = 3, 2, 5, 4


def spelled(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, padding: Tensor | None) -> Tensor:
    scores = q @ k.transpose(2, 3) * WIDTH**-0.5 + bias
    if padding is not None:
        scores = scores.masked_fill(padding[:, None, None], -torch.inf)
    return functional.softmax(scores, dim=-1) @ v


@pytest.mark.parametrize("bias_batch", [1, BATCH])
@pytest.mark.parametrize("has_padding", [False, True])
def test_values_and_gradients_are_those_of_the_formula(bias_batch: int, has_padding: bool) -> None:
    leaves = [torch.randn(BATCH, HEADS, TOKENS, WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(3)] + [
        torch.randn(bias_batch, HEADS, TOKENS, TOKENS, dtype=torch.float64, requires_grad=True)
    ]
    padding = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    padding[1, 3:] = True
    mask = padding if has_padding else None
    ours, expected = attend(*leaves, mask), spelled(*leaves, mask)
    assert "_Attend" in type(ours.grad_fn).__name__
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(ours).masked_fill(padding[:, None, :, None], 0)  # rows of padding mean nothing
    found, wanted = (torch.autograd.grad((y * weights).sum(), leaves) for y in (ours, expected))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_a_gradient_of_the_bias_the_librarys_kernel_gives_the_same() -> None:
    q, k, v = (torch.randn(BATCH, HEADS, TOKENS, WIDTH) for _ in range(3))
    bias = torch.randn(1, HEADS, TOKENS, TOKENS)
    padding = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    padding[0, 4:] = True
    torch.testing.assert_close(attend(q, k, v, bias, padding), spelled(q, k, v, bias, padding))


def test_a_batch_without_samples_is_none() -> None:
    empty = torch.randn(0, HEADS, TOKENS, WIDTH, requires_grad=True)
    bias = torch.randn(1, HEADS, TOKENS, TOKENS, requires_grad=True)
    assert attend(empty, empty, empty, bias, None).shape == empty.shape


def test_what_belongs_to_samples_goes_with_them() -> None:
    bias, mask = torch.randn(BATCH, 1, 2, 2), torch.rand(BATCH, 2) < 0.5
    kept = Scores(bias, mask).keep(torch.tensor([0, 2]))
    assert kept.bias is not None
    assert kept.padding_mask is not None
    assert torch.equal(kept.bias, bias[[0, 2]])
    assert torch.equal(kept.padding_mask, mask[[0, 2]])
    shared = Scores(bias[:1]).keep(torch.tensor([0, 2]))
    assert shared.bias is not None
    assert torch.equal(shared.bias, bias[:1])
