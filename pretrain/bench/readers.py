"""Reading shards of any number of samples, to see what it keeps in memory."""

import io
import tarfile
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from pretrain.data.config import SourceConfig
from pretrain.data.sources import open_source

SAMPLES_PER_SHARD: Final = 500
CLIP_SAMPLES: Final = 16_000


def write_shards(folder: Path, count: int) -> SourceConfig:
    """Write so many samples, a caption and a second of noise each, in shards of 500."""
    clip = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, CLIP_SAMPLES)
    soundfile.write(clip, noise, CLIP_SAMPLES, format="FLAC")
    num_shards = count // SAMPLES_PER_SHARD
    for shard in range(num_shards):
        with tarfile.open(folder / f"noise-{shard:06d}.tar", "w") as archive:
            for sample in range(SAMPLES_PER_SHARD):
                _add(archive, f"{shard:06d}{sample:03d}.txt", b"noise")
                _add(archive, f"{shard:06d}{sample:03d}.flac", clip.getvalue())
    pattern = str(folder / f"noise-{{000000..{num_shards - 1:06d}}}.tar")
    return SourceConfig(kind="shards", path=pattern, fields={"text": "txt", "audio": "flac"})


def read_all(config: SourceConfig) -> int:
    """Read every sample of every shard, and count the bytes."""
    source = open_source(config, say=lambda line: None)  # noqa: ARG005
    total = 0
    for number in range(len(source.shards)):
        shard = source.open(number)
        for ordinal in range(len(shard)):
            sample = shard.read(ordinal)
            total += sum(len(content) for content in sample.fields.values() if isinstance(content, bytes))
        shard.close()
    return total


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
