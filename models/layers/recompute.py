"""Computing parts of a layer once more in the backward pass, instead of keeping what they gave."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from models.layers.linear import ONEDNN
from models.training import Recompute

_ATEN: Final = torch.ops.aten
KEPT_OPERATIONS: Final = frozenset(
    {
        *([ONEDNN.default] if ONEDNN is not None else []),
        _ATEN.mm.default,
        _ATEN.addmm.default,
        _ATEN.linear.default,
        _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
        _ATEN._scaled_dot_product_flash_attention.default,
        _ATEN._scaled_dot_product_efficient_attention.default,
        _ATEN._scaled_dot_product_cudnn_attention.default,
        _ATEN._scaled_dot_product_fused_attention_overrideable.default,
    }
)
"""What `cheap` keeps the results of: products of tokens with weights, and attention in one kernel. Attention that is
spelled out is computed again: its scores are larger than all that would be saved."""


def recompute(function: Callable[..., Tensor], *args: Any, choice: Recompute) -> Tensor:
    """Run a layer, and leave for the backward pass what a choice says.

    Args:
        function: the layer. It is run again in the backward pass, with the same random numbers.
        args: what it takes.
        choice: `none` keeps whatever autograd wants; `layer` keeps the arguments, and runs all of it again; `cheap`
            keeps the results of `KEPT_OPERATIONS` besides, so that norms, GELU and sums alone are computed again.

    Source: torch.utils.checkpoint; what is kept, arXiv 2205.05198 the other way round: there attention is what is
        recomputed, as its scores were large; fused kernels do not keep them.
    """
    if choice == "none" or not torch.is_grad_enabled():
        return function(*args)
    if choice == "layer":
        out: Tensor = checkpoint(function, *args, use_reentrant=False)
        return out
    contexts = partial(create_selective_checkpoint_contexts, _choose)
    kept: Tensor = checkpoint(function, *args, use_reentrant=False, context_fn=contexts)
    return kept


def _choose(context: SelectiveCheckpointContext, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    """Say whether the result of an operation stays."""
    del context
    return CheckpointPolicy.MUST_SAVE if operation in KEPT_OPERATIONS else CheckpointPolicy.PREFER_RECOMPUTE
