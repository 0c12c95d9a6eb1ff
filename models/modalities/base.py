"""What a modality is to the rest of the model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.batch import Embedded, Tokens, Units
from models.config import ModelConfig


class Adapter(nn.Module):
    """One modality's input to tokens, in two steps, so that several passes over one input share its stem."""

    def embed(self, inputs: Any) -> Embedded:
        """Run the stem: all that does not depend on what a pass keeps."""
        raise NotImplementedError

    def place(self, embedded: Embedded, kept: Tensor | None = None) -> Tokens:
        """Add class, positions and bias, and keep what a pass sees.

        Args:
            embedded: from `embed`.
            kept: (batch, kept) int64, numbers of the tokens to keep, class 0 first, padded with -1; None keeps all.

        Returns:
            The tokens, the class first; padding is masked and zero.
        """
        raise NotImplementedError

    def forward(self, inputs: Any) -> Tokens:
        """Turn a batch of inputs into tokens, all of them kept."""
        return self.place(self.embed(inputs))


def keep_tokens(tokens: Tokens, kept: Tensor | None) -> Tokens:
    """Keep some tokens of each sample, with their positions and their part of the bias.

    Args:
        tokens: of whole sequences, positions added.
        kept: (batch, kept) int64, padded with -1; None keeps all.

    Source: reference one_peace/models/adapter/text.py, preserve_ids.
    """
    if kept is None:
        return tokens
    slots, is_empty = kept.clamp(min=0), kept < 0
    features = tokens.features.gather(1, slots[..., None].expand(-1, -1, tokens.features.shape[-1]))
    return Tokens(
        features=features.masked_fill(is_empty[..., None], 0),
        padding_mask=is_empty if is_empty.any() else None,
        bias=None if tokens.bias is None else tokens.bias.keep(slots),
    )


class Modality(Protocol):
    """One kind of input: a name, how it is read, prepared and batched, and how its adapter is built.

    An adapter turns the modality's input into `Tokens` for the encoder.
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

    def find_units(self, inputs: Any, options: Mapping[str, Any]) -> Units:
        """Say which tokens a batch has, and which of them a masked pass may hide.

        Args:
            inputs: a batch as `collate` gives it.
            options: this modality's block of a size.
        """
        ...

    def count_positions(self, options: Mapping[str, Any]) -> int:
        """Count the absolute positions that a sequence may need, the class's included."""
        ...

    def build_adapter(self, options: Mapping[str, Any], config: ModelConfig) -> Adapter:
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
