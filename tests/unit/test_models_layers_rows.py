"""Rows are taken, placed and added with the gradients of the library's own operations."""

import pytest
import torch
from torch import Tensor

from models.layers.rows import add_rows, place_rows, take_rows

INDEX = torch.tensor([4, 0, 3])


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def check(ours: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(ours)
    found, wanted = (torch.autograd.grad((y * weights).sum(), leaves) for y in (ours, expected))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 2, 3)])
def test_taking_is_indexing(shape: tuple[int, ...]) -> None:
    x = leaf(*shape)
    check(take_rows(x, INDEX), x[INDEX], [x])


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 3)])
def test_placing_leaves_zeros_elsewhere(shape: tuple[int, ...]) -> None:
    rows = leaf(*shape)
    check(place_rows(rows, INDEX, 6), rows.new_zeros(6, *shape[1:]).index_add(0, INDEX, rows), [rows])


def test_adding_is_an_addition_at_the_index() -> None:
    x, branch = leaf(5, 2), leaf(3, 2)
    before = x.detach().clone()
    check(add_rows(x, INDEX, branch), x.index_add(0, INDEX, branch), [x, branch])
    assert torch.equal(x.detach(), before), "what is added to stays as it is"


def test_no_rows_at_all_give_gradients_of_zero() -> None:
    x, branch, none = leaf(5, 2), leaf(0, 2), torch.empty(0, dtype=torch.int64)
    check(add_rows(x, none, branch), x * 1, [x])
    assert torch.autograd.grad(take_rows(x, none).sum(), x)[0].count_nonzero() == 0


def test_a_wider_branch_widens_the_sum() -> None:
    x = torch.randn(5, 2, dtype=torch.bfloat16, requires_grad=True)
    out = add_rows(x, INDEX, torch.ones(3, 2))
    assert out.dtype == torch.float32
    assert torch.autograd.grad(out.sum(), x)[0].dtype == torch.bfloat16
