"""Shards as webdataset writes them: tar files whose members of one name, up to the first dot, are one sample."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pretrain.data.base import RawSample, SampleError
from pretrain.data.config import SourceConfig
from pretrain.data.facts import parse_object, pick_facts

FACTS_MEMBER = "json"
BLOCK_BYTES = tarfile.BLOCKSIZE


@dataclass
class Members:
    """The members of one sample inside a tar file."""

    key: str
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By extension, the offset of the content and its length, both in bytes."""
    doubled: str | None = None
    """An extension that occurs twice; such a sample is refused."""

    def add(self, extension: str, place: tuple[int, int]) -> None:
        """Take one more member."""
        if extension in self.places:
            self.doubled = extension
        self.places[extension] = place


@dataclass(frozen=True)
class Contents:
    """What the headers of a tar file tell."""

    samples: list[Members]
    is_whole: bool
    """The end mark is there; without it the file was cut, or a header in it is damaged."""


def list_contents(stream: BinaryIO) -> Contents:
    """Group the members of a tar file by key, as webdataset does: neighbours of the same name up to the first dot.

    Members without an extension, folders and names in double underscores are no part of a sample.
    """
    samples: list[Members] = []
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in _walk(archive):
                found = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member.name)
                if found is None or not member.isreg() or re.fullmatch(r"__.*__", member.name):
                    continue
                if not samples or samples[-1].key != found[1]:
                    samples.append(Members(found[1]))
                samples[-1].add(found[2].lower(), (member.offset_data, member.size))
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError):  # damaged headers raise many kinds
        return Contents(samples, is_whole=False)
    stream.seek(end)
    return Contents(samples, is_whole=stream.read(BLOCK_BYTES) == bytes(BLOCK_BYTES))


def _walk(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Go through the headers without keeping them."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        yield member


class TarShard:
    """One open tar file; its headers are read once, its samples by their offsets.

    Args:
        path: the file.
        config: which extensions are which modality.
        expected: how many samples it was counted with; None: as many as are found.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is whole and holds another number.
    """

    def __init__(self, path: Path, config: SourceConfig, expected: int | None) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"no shard at {path}")
        self._path, self._config = path, config
        self._stream = path.open("rb")
        self._contents = list_contents(self._stream)
        self._length = self._count(expected)

    def _count(self, expected: int | None) -> int:
        """Count the samples; those that a cut file has lost count too, and where that is unknown, as one."""
        found, is_whole = len(self._contents.samples), self._contents.is_whole
        if expected is None:
            return found if is_whole or self._is_last_cut() else found + 1
        if found > expected or (found < expected and is_whole):
            self.close()
            raise ValueError(
                f"{self._path} holds {found} samples, expected the {expected} of sizes.json beside it, or of the "
                "count at the start; write sizes.json anew, or delete it to have the shards counted"
            )
        return expected

    def _is_last_cut(self) -> bool:
        """Tell whether the last sample stands for the cut by itself, because its content goes beyond the file."""
        num_bytes = self._path.stat().st_size
        places = self._contents.samples[-1].places.values() if self._contents.samples else ()
        return any(offset + length > num_bytes for offset, length in places)

    def __len__(self) -> int:
        return self._length

    def read(self, ordinal: int) -> RawSample:
        """Read one sample; see `Shard.read`."""
        if ordinal >= len(self._contents.samples):
            raise SampleError("truncated", "it is lost: the shard is cut off or damaged before it", key=f"#{ordinal}")
        sample = self._contents.samples[ordinal]
        if sample.doubled is not None:
            raise SampleError("doubled member", f"two members .{sample.doubled}", key=sample.key)
        fields = {name: self._read_any(sample, extensions) for name, extensions in self._config.fields.items()}
        return RawSample(sample.key, fields, self._read_facts(sample))

    def _read_any(self, sample: Members, extensions: str) -> bytes:
        """Read the first of some extensions that the sample has."""
        for extension in extensions.lower().split(";"):
            if extension in sample.places:
                return self._read_member(sample, extension)
        wanted = " or ".join(f".{extension}" for extension in extensions.split(";"))
        raise SampleError("missing member", f"no {wanted}, only {', '.join(sample.places)}", key=sample.key)

    def _read_member(self, sample: Members, extension: str) -> bytes:
        offset, length = sample.places[extension]
        self._stream.seek(offset)
        content = self._stream.read(length)
        if len(content) < length:
            message = f".{extension} has {len(content)} of {length} bytes: the shard is cut off"
            raise SampleError("truncated", message, key=sample.key)
        return content

    def _read_facts(self, sample: Members) -> dict[str, float]:
        if not self._config.facts:
            return {}
        values = parse_object(self._read_any(sample, FACTS_MEMBER), sample.key)
        return pick_facts(values, self._config.facts, key=sample.key)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
