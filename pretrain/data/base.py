"""What every kind of source gives: shards of raw samples, read by their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class RawSample:
    """One sample before filters and decoding."""

    key: str
    """Its name in the source."""
    fields: Mapping[str, "bytes | Path | str"]
    """By modality: the bytes of a file, the path of one, or a text."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What the source tells about it: `score`, `width` and `height` in pixels."""


class SampleError(ValueError):
    """A sample that cannot be had: one of those that are counted, named and passed over.

    Args:
        reason: the kind of fault, two or three words; what is counted under.
        message: what is wrong with this one.
        key: the sample's name, where it is known.
    """

    def __init__(self, reason: str, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.key = key


class Shard(Protocol):
    """Samples that are opened together, in the order in which they are stored."""

    def __len__(self) -> int: ...

    def read(self, ordinal: int) -> RawSample:
        """Read the sample of this number, from 0.

        Raises:
            SampleError: it is missing something or truncated.
        """
        ...

    def close(self) -> None:
        """Give back what the shard holds open."""
        ...


class Source(Protocol):
    """A data set: shards in a fixed order. It holds nothing open and can be sent to another process."""

    @property
    def shards(self) -> Sequence[str]:
        """The shards' names."""
        ...

    def count(self, shard: int) -> int:
        """Count the samples of the shard of this number, corrupt ones included."""
        ...

    def open(self, shard: int) -> Shard:
        """Open the shard of this number.

        Raises:
            FileNotFoundError: it is gone.
            ValueError: it holds another number of samples than it was counted with.
        """
        ...
