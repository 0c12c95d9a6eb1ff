"""What a modality is to the rest of the model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.config import ModelConfig


class Modality(Protocol):
    """One kind of input: a name, how it is read, prepared and batched, and how its adapter is built.

    An adapter is a module that turns the modality's input into `Tokens` for the encoder.
    """

    @property
    def name(self) -> str:
        """The released weights' word for it."""
        ...

    @property
    def transforms(self) -> Mapping[str, Callable[..., Tensor]]:
        """By protocol name, what makes a tensor of one example as `read` gives it; see the functions' arguments."""
        ...

    def read(self, source: Any) -> Any:
        """Decode one example from a path or what this modality takes besides.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it cannot be decoded; one line that names it.
        """
        ...

    def collate(self, examples: Sequence[Tensor], options: Mapping[str, Any]) -> Any:
        """Make the adapter's input of transformed examples.

        Args:
            examples: at least one, as the transforms give them.
            options: this modality's block of a size.

        Raises:
            ValueError: no example, or examples that do not go together.
        """
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
