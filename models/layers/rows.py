"""Taking some rows of a tensor and adding to some, each row once, with gradients as cheap as that.

The library's own operations allow a row to be taken several times, and so must add up in the backward pass.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(x)
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.count, *grad.shape[1:]).index_copy_(0, index, grad), None


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(index)
        return rows.new_zeros(count, *rows.shape[1:]).index_copy_(0, index, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return grad.index_select(0, index), None, None


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, branch: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        summed = x.index_select(0, index) + branch
        return x.to(summed.dtype).index_copy(0, index, summed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        (index,) = ctx.saved_tensors
        return grad, None, grad.index_select(0, index)


def join(parts: Sequence[Tensor], *, dim: int = 0) -> Tensor:
    """Put tensors side by side; a single one stays as it is, without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """Take rows of (rows, ...) by their numbers, (taken,) int64, none of them twice."""
    taken: Tensor = _Take.apply(x, index)  # type: ignore[no-untyped-call]
    return taken


def place_rows(rows: Tensor, index: Tensor, count: int) -> Tensor:
    """Put rows, (placed, ...), at some of `count` places, (placed,) int64, none of them twice; the others are zero."""
    placed: Tensor = _Place.apply(rows, index, count)  # type: ignore[no-untyped-call]
    return placed


def add_rows(x: Tensor, index: Tensor, branch: Tensor) -> Tensor:
    """Add a branch, (taken, dim), to the rows of (rows, dim) that it was computed from, none of them twice."""
    out: Tensor = _Add.apply(x, index, branch)  # type: ignore[no-untyped-call]
    return out
