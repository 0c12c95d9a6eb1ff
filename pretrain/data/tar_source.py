"""A data set of tar shards: the files of a brace pattern, and how many samples each holds."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from braceexpand import braceexpand
from numpy.typing import NDArray

from pretrain.data.config import SourceConfig
from pretrain.data.tar_shards import TarShard

SIZES_FILE = "sizes.json"


class TarSource:
    """The shards of one brace pattern.

    Counts come from `sizes.json` ({file name: samples}) beside the shards; without it every shard's headers are read.

    Args:
        config: of kind `shards`.
        say: told what takes long.

    Raises:
        FileNotFoundError: no such shards.
        ValueError: `sizes.json` is faulty or leaves a shard out.
    """

    def __init__(self, config: SourceConfig, *, say: Callable[[str], None]) -> None:
        self._config = config
        self._paths = [str(path) for path in braceexpand(config.path)]
        _require_files(self._paths)
        self._counts = self._count_all(say)

    @property
    def shards(self) -> Sequence[str]:
        """The files' names."""
        return _Names(self._paths)

    def count(self, shard: int) -> int:
        """Count the samples of a shard; see `Source.count`."""
        return int(self._counts[shard])

    def open(self, shard: int) -> TarShard:
        """Open a shard; see `Source.open`."""
        return TarShard(Path(self._paths[shard]), self._config, self.count(shard))

    def _count_all(self, say: Callable[[str], None]) -> NDArray[np.int64]:
        told = {folder: _read_sizes(folder) for folder in {Path(path).parent for path in self._paths}}
        missing = [folder for folder, sizes in told.items() if sizes is None]
        if missing:
            say(f"no {SIZES_FILE} in {missing[0]}: the samples of {len(self._paths)} shards are counted")
        counts = np.zeros(len(self._paths), np.int64)
        for index, path in enumerate(map(Path, self._paths)):
            sizes = told[path.parent]
            counts[index] = _count_shard(path, self._config) if sizes is None else _look_up(path, sizes)
        return counts


class _Names(Sequence[str]):
    """The last parts of paths, made when asked for."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        return Path(self._paths[index]).name


def _require_files(paths: Sequence[str]) -> None:
    """Check that all shards are there; one look into each folder instead of one for each shard."""
    here = {folder: _list_folder(folder) for folder in {Path(path).parent for path in paths}}
    missing = [path for path in paths if Path(path).name not in here[Path(path).parent]]
    if missing:
        raise FileNotFoundError(f"no shard at {missing[0]}; {len(missing)} of {len(paths)} are missing")
    if len(set(paths)) < len(paths):
        raise ValueError(f"{len(paths)} shards, but {len(set(paths))} different ones; name each once")


def _list_folder(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def _read_sizes(folder: Path) -> Mapping[str, int] | None:
    path = folder / SIZES_FILE
    if not path.is_file():
        return None
    try:
        sizes = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} is no json: {error}; write it anew, or delete it to have the shards counted"
        ) from None
    if not isinstance(sizes, dict) or not all(type(size) is int and size >= 0 for size in sizes.values()):
        raise ValueError(f"{path} is no object of whole numbers by shard, such as {{'pictures-000000.tar': 1000}}")
    return sizes


def _look_up(path: Path, sizes: Mapping[str, int]) -> int:
    if path.name not in sizes:
        raise ValueError(f"{SIZES_FILE} beside {path} leaves it out; write it anew, or delete it")
    return sizes[path.name]


def _count_shard(path: Path, config: SourceConfig) -> int:
    shard = TarShard(path, config, None)
    shard.close()
    return len(shard)
