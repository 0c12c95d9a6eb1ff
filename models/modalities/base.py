"""What a modality is to the rest of the model."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.config import ModelConfig


class Modality(Protocol):
    """One kind of input: a name, and how its adapter is built.

    An adapter is a module that turns the modality's input into `Tokens` for the encoder.
    """

    @property
    def name(self) -> str:
        """The released weights' word for it."""
        ...

    def build_adapter(self, options: Mapping[str, Any], config: ModelConfig) -> nn.Module:
        """Build the adapter from this modality's block of a size, checked here.

        Raises:
            ValueError: an unknown or unfit option.
        """
        ...

    def resize(self, name: str, stored: Tensor, shape: torch.Size) -> Tensor | None:
        """Bring a stored parameter of the adapter to another resolution.

        Args:
            name: the parameter's name inside the adapter.
            stored: its value in a checkpoint.
            shape: what the adapter wants instead.

        Returns:
            The resized value, or None where a different shape means a different model.

        Raises:
            ValueError: it could be resized, but not this far.
        """
        ...
