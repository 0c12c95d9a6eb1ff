"""Embeds folders of files into one safetensors file, piece by piece, so that an interrupted run goes on."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint.load import save_state
from models.embedding import Embedder
from models.modalities import load_modality
from models.modalities.audio import SAMPLE_RATE_HZ

EXTENSIONS = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"),
}
PIECE = 64  # sources embedded between two files on disk


@dataclass(frozen=True)
class Windows:
    """How long sounds are cut before they are embedded."""

    length_s: float
    hop_s: float

    def cut(self, samples: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Give each window with its start and end in seconds; the last one may be shorter than the others."""
        length, hop = round(self.length_s * SAMPLE_RATE_HZ), round(self.hop_s * SAMPLE_RATE_HZ)
        for start in range(0, max(len(samples) - length + hop, 1), hop):
            window = samples[start : start + length]
            first, last = start / SAMPLE_RATE_HZ, (start + len(window)) / SAMPLE_RATE_HZ
            yield f"#t={first:g},{last:g}", window


def list_files(folder: Path, name: str) -> tuple[Path, ...]:
    """List the files of a modality in a folder and below, in the order of their names; a file stands for itself.

    Raises:
        FileNotFoundError: no such folder, or no such files in it.
    """
    if folder.is_file():
        return (folder,)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; name a folder of {name} files, or one file")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS[name])
    if not files:
        raise FileNotFoundError(f"no {name} files in {folder}; expected names ending in {', '.join(EXTENSIONS[name])}")
    return tuple(files)


def embed_files(
    embedder: Embedder,
    sources: Mapping[str, Sequence[str | Path]],
    out: Path,
    *,
    windows: Windows | None = None,
    model_name: str,
    progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Embed sentences and files by modality, and write one safetensors file.

    A tensor (vectors, dim), float32, for each modality; `ids` in the header says by modality what each row is: the
    sentence, the path as given, and for windows `#t=start,end` in seconds behind it. What is done so far stands in a
    folder beside the file and is taken up by the next call with the same arguments.

    Args:
        embedder: the model.
        sources: sentences for `text`, paths for the others.
        out: file to write.
        windows: cut sounds; None embeds each file's beginning, as long as the model takes.
        model_name: goes into the header, and keeps the pieces of two models apart.
        progress: called with sources done and sources in all.

    Returns:
        Vectors by modality.

    Raises:
        FileNotFoundError, ValueError: a source that is not there or cannot be read; what is done so far stays.
    """
    plan = json.dumps([model_name, {name: list(map(str, items)) for name, items in sources.items()}, str(windows)])
    pieces = out.with_name(f".{out.name}.{hashlib.sha256(plan.encode()).hexdigest()[:12]}")
    pieces.mkdir(parents=True, exist_ok=True)
    total, done = sum(len(items) for items in sources.values()), 0
    for name, items in sources.items():
        for start in range(0, len(items), PIECE):
            part = items[start : start + PIECE]
            path = pieces / f"{name}-{start:08d}.safetensors"
            if not path.is_file():
                ids, vectors = _embed_part(embedder, name, part, windows)
                save_state({name: vectors}, path, metadata={"ids": json.dumps(ids)})
            done += len(part)
            progress(done, total)
    counts = _join(pieces, tuple(sources), out, model_name=model_name)
    shutil.rmtree(pieces)
    return counts


def _embed_part(
    embedder: Embedder, name: str, part: Sequence[str | Path], windows: Windows | None
) -> tuple[list[str], Tensor]:
    """Embed some sources of one modality, and say what each row is."""
    if name == "text":
        return [str(item) for item in part], embedder.embed_text([str(item) for item in part])
    if name == "image":
        return [str(item) for item in part], embedder.embed_image(list(part))
    if windows is None:
        return [str(item) for item in part], embedder.embed_audio(list(map(Path, part)))
    cut = [
        (f"{item}{label}", window)
        for item in part
        for label, window in windows.cut(load_modality("audio").read(Path(item)))
    ]
    return [label for label, _ in cut], embedder.embed_audio([window for _, window in cut])


def _join(pieces: Path, names: Sequence[str], out: Path, *, model_name: str) -> dict[str, int]:
    """Put the pieces together in order."""
    tensors, ids = {}, {}
    for name in names:
        paths = sorted(pieces.glob(f"{name}-*.safetensors"))
        tensors[name] = torch.cat([load_file(path)[name] for path in paths])
        ids[name] = [label for path in paths for label in _read_ids(path)]
    save_state(tensors, out, metadata={"model": model_name, "ids": json.dumps(ids)})
    return {name: len(rows) for name, rows in ids.items()}


def _read_ids(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        labels: list[str] = json.loads(file.metadata()["ids"])
    return labels
