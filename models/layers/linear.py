"""Linear maps: on a CPU and in float32, large ones as oneDNN computes them instead of the BLAS that torch takes.

oneDNN's products need 0.6 to 1.0 of the time there, and it applies GELU and the gate's factor to each part of a product
while that is still in the caches. Torch reaches it from compiled graphs; the same operation is called here directly.
Small products gain nothing, and stay torch's.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

MIN_ROWS: Final = 96
MIN_WIDTH: Final = 320
"""Products of fewer rows or narrower sides take as long, or longer, than torch's own: measured on two cores."""

ONEDNN: Final = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
"""The operation, or None in a build of torch without it."""


class Linear(nn.Linear):
    """torch's, see `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Give what torch's `functional.linear` gives, up to rounding.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,).

    Returns:
        (..., out).
    """
    if not _takes(x, weight):
        return functional.linear(x, weight, bias)
    if not _learns(x, weight, bias):
        return _multiply(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def gate(x: Tensor, gate_weight: Tensor, up_weight: Tensor) -> Tensor:
    """Give GELU(x @ gate_weight.t()) * (x @ up_weight.t()), GeGLU.

    Args:
        x: (..., in).
        gate_weight: (out, in).
        up_weight: (out, in).

    Source: arXiv 2002.05202.
    """
    if _learns(x, gate_weight, up_weight):
        return functional.gelu(linear(x, gate_weight)) * linear(x, up_weight)
    if not _takes(x, gate_weight):
        return functional.gelu(functional.linear(x, gate_weight)).mul_(functional.linear(x, up_weight))
    assert ONEDNN is not None
    hidden = ONEDNN(x, gate_weight, None, "gelu", [], "none")  # "none": by the error function
    gated: Tensor = ONEDNN(x, hidden, up_weight, None, "mul")
    return gated


def _takes(x: Tensor, weight: Tensor) -> bool:
    """Say whether a product is one that oneDNN computes sooner."""
    return (
        ONEDNN is not None
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= MIN_ROWS * x.shape[-1]
        and min(weight.shape) >= MIN_WIDTH
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _learns(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    assert ONEDNN is not None
    out: Tensor = ONEDNN(x, weight, bias, "none", [], "")
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        to_input, to_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if to_weight else None, weight if to_input else None)
        return _multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_input, to_weight, to_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _multiply(grad, weight.t()) if to_input else None,
            _multiply_columns(rows, x.flatten(0, -2)) if to_weight else None,
            rows.sum(dim=0) if to_bias else None,
        )


def _multiply_columns(a: Tensor, b: Tensor) -> Tensor:
    """Give a.t() @ b of (rows, m) and (rows, n); oneDNN gains where the result is wider than high."""
    if a.shape[1] == b.shape[1]:
        return a.t() @ b
    return _multiply(a.t(), b.t()) if a.shape[1] < b.shape[1] else _multiply(b.t(), a.t()).t()
