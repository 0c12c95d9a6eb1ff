"""A model whose parameters have shapes and no numbers yet, for loading."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from models.config import ModelConfig
from models.onepeace import OnePeace


class _DrawNothing(TorchFunctionMode):
    """Leaves out drawing and scaling a model's first numbers.

    There is no memory to draw them into. Torch would nevertheless work out the shapes of the results, and imports its
    compiler for that: more than a second in every process that loads a model.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        if func is torch.Tensor.mul and isinstance(args[-1], int | float):
            return args[0]
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return (*args, *kwargs.values())[0]  # all of them take a tensor first, and give it back
        return func(*args, **kwargs)


def build_empty(config: ModelConfig) -> OnePeace:
    """Build a model on torch's `meta` device: every parameter has its shape and type, and takes no memory."""
    with torch.device("meta"), _DrawNothing():
        return OnePeace(config)
