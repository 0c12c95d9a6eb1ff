"""Sources found by their kind, and several of them as one."""

from collections.abc import Callable, Sequence

import numpy as np

from pretrain.data.base import Shard, Source
from pretrain.data.config import SourceConfig
from pretrain.data.karpathy import KarpathySource
from pretrain.data.tables import TableSource
from pretrain.data.tar_source import TarSource


def open_source(config: SourceConfig, *, say: Callable[[str], None]) -> Source:
    """Open a source by its kind.

    Args:
        config: where it lies.
        say: told what takes long.

    Raises:
        FileNotFoundError: its files are not there.
        ValueError: they are not of this kind, or lack a column, a split or a count.
    """
    if config.kind == "shards":
        return TarSource(config, say=say)
    return KarpathySource(config) if config.kind == "karpathy" else TableSource(config)


class JoinedSource:
    """Several sources of the same modalities: the shards of the first, then those of the next."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._ends = np.cumsum([len(source.shards) for source in sources])

    @property
    def shards(self) -> Sequence[str]:
        """The names of all shards."""
        return [name for source in self._sources for name in source.shards]

    def count(self, shard: int) -> int:
        """Count the samples of a shard; see `Source.count`."""
        source, own = self._find(shard)
        return source.count(own)

    def open(self, shard: int) -> Shard:
        """Open a shard; see `Source.open`."""
        source, own = self._find(shard)
        return source.open(own)

    def _find(self, shard: int) -> tuple[Source, int]:
        """Find whose shard it is, and its number there."""
        index = int(np.searchsorted(self._ends, shard, side="right"))
        return self._sources[index], shard - int(self._ends[index - 1] if index else 0)


def open_sources(configs: Sequence[SourceConfig], *, say: Callable[[str], None]) -> Source:
    """Open one or more sources as one; see `open_source`."""
    sources = [open_source(config, say=say) for config in configs]
    return sources[0] if len(sources) == 1 else JoinedSource(sources)


def count_epoch(configs: Sequence[SourceConfig], *, say: Callable[[str], None]) -> int:
    """Count the samples of an epoch before filters, corrupt ones included; see `open_source`."""
    source = open_sources(configs, say=say)
    return sum(source.count(shard) for shard in range(len(source.shards)))
