"""Where the tokens of several passes stand when all of them go through a layer as rows, without padding.

A pass is a batch of sequences that attend within themselves. Rows stand modality by modality, within it pass by pass
and sample by sample, so that every feed-forward sees one unbroken block, however many passes there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from models.layers.rows import place_rows, take_rows

CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Block:
    """The rows of one modality in one pass."""

    start: int
    """Its first row among all."""
    batch: int
    length: int
    """Tokens of the longest sample."""
    places: Tensor | None
    """(rows,) int64 on the CPU: where each row stands in (batch * length); None where nothing is padded."""
    device: torch.device
    """Where the rows are."""

    @cached_property
    def _places_there(self) -> Tensor | None:
        """`places` on the device, brought there once."""
        return None if self.places is None else self.places.to(self.device)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.batch * self.length if self.places is None else len(self.places)

    def unpack(self, rows: Tensor) -> Tensor:
        """Give (batch, length, ...) of its rows, (rows, ...), with zeros for padding."""
        if self._places_there is not None:
            rows = place_rows(rows, self._places_there, self.batch * self.length)
        return rows.view(self.batch, self.length, *rows.shape[1:])

    def pack(self, tokens: Tensor) -> Tensor:
        """Give the rows of (batch, length, ...)."""
        flat = tokens.reshape(-1, *tokens.shape[2:])
        return flat if self._places_there is None else take_rows(flat, self._places_there)

    def list_samples(self) -> Tensor:
        """Give the sample that each row belongs to, (rows,) int64."""
        if self.places is None:
            return torch.arange(self.batch).repeat_interleave(self.length)
        return self.places.div(self.length, rounding_mode="floor")

    def keep(self, samples: Tensor, start: int) -> "Block":
        """Give the block of some samples, (kept,) int64, ascending, that begins at another row."""
        if self.places is None:
            return replace(self, start=start, batch=len(samples))
        number = torch.full((self.batch,), -1)
        number[samples] = torch.arange(len(samples))
        owner = number[self.list_samples()]
        places = owner * self.length + self.places % self.length
        return replace(self, start=start, batch=len(samples), places=places[owner >= 0])

    def find_classes(self) -> Tensor:
        """Give the row of every sample's first token among all, (batch,) int64."""
        if self.places is None:
            return self.start + torch.arange(self.batch) * self.length
        return self.start + (self.places % self.length == 0).nonzero()[:, 0]


@dataclass(frozen=True)
class Layout:
    """All blocks of a call.

    Attributes:
        passes: by pass and modality; each pass in the model's order of modalities.
    """

    passes: tuple[Mapping[str, Block], ...]

    @property
    def counts(self) -> dict[str, int]:
        """By modality, how many rows it has, in the order that they stand in."""
        found: dict[str, int] = {}
        for number, name in self.ordered():
            found[name] = found.get(name, 0) + self.passes[number][name].count
        return found

    def split(self, rows: Tensor) -> list[dict[str, Tensor]]:
        """Give by pass and modality its rows of all, (rows, ...); at once, so that gradients come back at once, too."""
        order = self.ordered()
        parts = rows.split([self.passes[number][name].count for number, name in order])
        found = dict(zip(order, parts, strict=True))
        return [{name: found[number, name] for name in blocks} for number, blocks in enumerate(self.passes)]

    def unpack(self, rows: Tensor) -> list[dict[str, Tensor]]:
        """Give by pass and modality (batch, length, ...) of all rows, (rows, ...), with zeros for padding."""
        return [
            {name: block.unpack(own[name]) for name, block in blocks.items()}
            for blocks, own in zip(self.passes, self.split(rows), strict=True)
        ]

    def ordered(self) -> list[tuple[int, str]]:
        """Give pass and modality of every block, in the order of their rows."""
        places = [(number, name) for number, blocks in enumerate(self.passes) for name in blocks]
        return sorted(places, key=lambda place: self.passes[place[0]][place[1]].start)

    def keep(self, kept: Sequence[Tensor]) -> tuple["Layout", Tensor]:
        """Leave samples out.

        Args:
            kept: by pass, (batch,) bool on the CPU.

        Returns:
            The layout of what is left, and its rows' numbers in this one, ascending, on the device.
        """
        passes: list[dict[str, Block]] = [{} for _ in self.passes]
        numbers, start = [], 0
        for number, name in self.ordered():
            block, keeps = self.passes[number][name], kept[number]
            left = block.keep(keeps.nonzero()[:, 0], start)
            passes[number][name] = left
            numbers.append(block.start + keeps[block.list_samples()].nonzero()[:, 0])
            start += left.count
        return _in_order(passes, self.passes), self._there(numbers)

    def take_classes(self) -> tuple["Layout", Tensor]:
        """Leave all tokens out but the class of every modality and sample, which stands first; returns as `keep`."""
        passes: list[dict[str, Block]] = [{} for _ in self.passes]
        numbers, start = [], 0
        for number, name in self.ordered():
            block = self.passes[number][name]
            passes[number][name] = replace(block, start=start, length=1, places=None)
            numbers.append(block.find_classes())
            start += block.batch
        return _in_order(passes, self.passes), self._there(numbers)

    def _there(self, numbers: Sequence[Tensor]) -> Tensor:
        """Bring rows' numbers to where the rows are."""
        return torch.cat(list(numbers)).to(next(iter(self.passes[0].values())).device)


def lay_out(
    shapes: Sequence[Mapping[str, tuple[int, int]]],
    paddings: Sequence[Mapping[str, Tensor | None]],
    *,
    device: torch.device = CPU,
) -> Layout:
    """Lay the sequences of several passes out as rows.

    Args:
        shapes: by pass and modality, batch and tokens.
        paddings: by pass and modality, (batch, tokens) bool, True is padding; None where nothing is padded.
        device: where the rows will be.
    """
    order = list(dict.fromkeys(name for shape in shapes for name in shape))
    passes: list[dict[str, Block]] = [{} for _ in shapes]
    start = 0
    for name in order:
        for number, shape in enumerate(shapes):
            if name not in shape:
                continue
            block = Block(start, *shape[name], _find_places(paddings[number][name]), device)
            passes[number][name] = block
            start += block.count
    return _in_order(passes, shapes)


def _in_order(passes: Sequence[Mapping[str, Block]], like: Sequence[Mapping[str, object]]) -> Layout:
    """Put the modalities of every pass into the order that they have there."""
    return Layout(tuple({name: found[name] for name in part} for found, part in zip(passes, like, strict=True)))


def _find_places(padding: Tensor | None) -> Tensor | None:
    """Number what is no padding, (rows,) int64; None where all is."""
    if padding is None:
        return None
    is_real = ~padding.cpu().flatten()
    return None if is_real.all() else is_real.nonzero()[:, 0]
