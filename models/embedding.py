"""Texts, pictures and sounds to vectors that can be compared with each other."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.batch import move
from models.checkpoint.describe import describe
from models.checkpoint.load import load_branches, parse_dtype
from models.checkpoint.reader import open_checkpoint
from models.config import WIDTHS, find_size, list_sizes, load_config, unknown_name
from models.inference import BATCH_SIZES
from models.modalities import load_modality
from models.modalities.audio import SAMPLE_RATE_HZ, mix_channels, resample
from models.modalities.image import ImageAdapter, ImageSource
from models.onepeace import OnePeace, build_model
from models.tokenizer import Tokenizer
from models.vocabulary import find_vocabulary

WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"
PROTOCOLS = {"text": "text-api", "image": "image-square", "audio": "audio"}  # what the authors' own API does

AudioSource = str | Path | NDArray[np.floating[Any]] | tuple[NDArray[np.floating[Any]], int]
"""A file; or samples at 16 kHz, (samples,) or (samples, channels); or samples and their rate in Hz."""


class Embedder:
    """A model that embeds, with everything that comes before it.

    A vector depends on its source alone: neither on what else is embedded with it nor on the batch size.

    Args:
        model: with projections.
        tokenizer: needed for texts.
    """

    def __init__(self, model: OnePeace, tokenizer: Tokenizer | None = None) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer

    def embed_text(
        self, texts: Sequence[str], *, batch_size: int = BATCH_SIZES["text"], protocol: str = PROTOCOLS["text"]
    ) -> Tensor:
        """Embed sentences; (texts, dim) unit vectors, float32, on the CPU.

        Args:
            texts: as written.
            batch_size: how many at a time.
            protocol: how a sentence is prepared; the reference's data path, and so every published retrieval number,
                takes `text`.

        Raises:
            ValueError: no vocabulary, a text that cannot be encoded, or an unknown protocol.
        """
        if self.tokenizer is None:
            raise ValueError("this model has no vocabulary; load it by a path or size that has one")
        decoded = map(load_modality("text").read, texts)
        return self._embed("text", decoded, self.tokenizer, batch_size=batch_size, protocol=protocol)

    def embed_image(self, images: Sequence[ImageSource], *, batch_size: int = BATCH_SIZES["image"]) -> Tensor:
        """Embed pictures, given as files or opened; (images, dim) unit vectors, float32, on the CPU.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file that is no picture.
        """
        self._require("image")
        size_px = cast("ImageAdapter", self.model.adapters["image"]).image_size_px
        return self._embed("image", map(load_modality("image").read, images), size_px, batch_size=batch_size)

    def embed_audio(self, clips: Sequence[AudioSource], *, batch_size: int = BATCH_SIZES["audio"]) -> Tensor:
        """Embed sounds, given as files or samples; (clips, dim) unit vectors, float32, on the CPU.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file that is no sound, or samples that are no finite numbers.
        """
        return self._embed("audio", map(_open_clip, clips), batch_size=batch_size)

    def _embed(
        self, name: str, decoded: Iterable[Any], *arguments: Any, batch_size: int, protocol: str | None = None
    ) -> Tensor:
        """Transform what is decoded one by one, batch by length, embed, and give the vectors back in order."""
        self._require(name)
        modality = load_modality(name)
        wanted = protocol or PROTOCOLS[name]
        if wanted not in modality.transforms:
            raise ValueError(unknown_name(f"protocol of {name}", wanted, modality.transforms))
        transform = modality.transforms[wanted]
        examples = [transform(example, *arguments) for example in decoded]
        vectors = torch.empty(len(examples), self.model.config.embed_dim)
        for indices in _batch_by_length(examples, batch_size):
            batch = modality.collate([examples[index] for index in indices], self.model.config.modalities[name])
            with torch.inference_mode():
                vectors[indices] = self.model.embed({name: self._move(batch)})[name].float().cpu()
        return vectors

    def _require(self, name: str) -> None:
        if name not in self.model.adapters:
            raise ValueError(f"this model has no branch {name!r}, only {', '.join(self.model.adapters)}")

    def _move(self, batch: Any) -> Any:
        """Bring a batch to the model's device, and its floating numbers to the model's type."""
        like = next(self.model.parameters())
        return move(batch, like.device, dtype=like.dtype)


def _open_clip(clip: AudioSource) -> NDArray[np.float32]:
    """Give one channel at 16 kHz."""
    if isinstance(clip, str | Path):
        samples: NDArray[np.float32] = load_modality("audio").read(clip)
        return samples
    values, rate = clip if isinstance(clip, tuple) else (clip, SAMPLE_RATE_HZ)
    return resample(mix_channels(np.asarray(values), where="a clip"), rate)


def _batch_by_length(examples: Sequence[Tensor], batch_size: int) -> Iterator[list[int]]:
    """Cut the examples' numbers into batches of neighbours in length, so that little is padded."""
    order = sorted(range(len(examples)), key=lambda index: examples[index].shape[-1])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def combine(vectors: Iterable[Tensor]) -> Tensor:
    """Make one query of several modalities: the sum of their unit vectors, again of unit length.

    Args:
        vectors: each (dim,) or (queries, dim), all of one shape.

    Raises:
        ValueError: no vectors.

    Source: the authors' demonstration, issues 4, 39 and 46 of the reference repository.
    """
    parts = list(vectors)
    if not parts:
        raise ValueError("nothing to combine, expected one vector or more")
    return functional.normalize(torch.stack(parts).sum(dim=0), dim=-1)


def find_tokenizer(vocabulary_size: int) -> Tokenizer | None:
    """Find the vocabulary that a model was built with by its size; None where there is none of that size."""
    for name, size in (("mini", 2048), ("published", 50264)):
        if size == vocabulary_size:
            return Tokenizer.read(find_vocabulary(name))
    return None


def load_model(
    source: str | Path,
    *,
    branches: Sequence[str] | None = None,
    dtype: str = "float32",
    device: str | torch.device = "cpu",
    seed: int | None = None,
) -> Embedder:
    """Load a model that embeds.

    Args:
        source: a checkpoint (released, converted, or an index of shards), or the name of a size: its shipped weights,
            or with `seed` fresh ones.
        branches: modalities to load, nothing else of the file is read; default: all that it has.
        dtype: of the weights: `float32`, `bfloat16`, `float16`, or their usual short spellings.
        device: where to compute.
        seed: only with a size: fresh weights that depend on it alone, to try things out.

    Raises:
        FileNotFoundError: no such file, no shipped weights of that size, or a missing vocabulary.
        ValueError: an unknown type or branch, or a file that does not fit.
    """
    kind = parse_dtype(dtype)
    if seed is not None:
        config = load_config(str(source))
        model = build_model(config.branch(*(branches or config.modalities)), seed=seed).to(device, kind)
        return _equip(model)
    path = _find_weights(source)
    names, size = _identify(path)
    model, _ = load_branches(path, size, branches or names, dtype=kind, device=device)
    return _equip(model)


def _equip(model: OnePeace) -> Embedder:
    """Add the tokenizer where the model reads text."""
    text = model.config.modalities.get("text")
    return Embedder(model, find_tokenizer(text["vocabulary_size"]) if text else None)


def _find_weights(source: str | Path) -> Path:
    """Turn a size's name into the file of its shipped weights; a path stays one."""
    if str(source) not in list_sizes():
        return Path(source)
    path = WEIGHTS_DIR / f"{source}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"size {str(source)!r} has no shipped weights; name a checkpoint, or give a seed")
    return path


def _identify(path: Path) -> tuple[tuple[str, ...], str]:
    """Tell a checkpoint's branches with projections, and which size it is.

    Raises:
        ValueError: no size of ours has its widths.
    """
    with open_checkpoint(path) as checkpoint:
        found = describe(checkpoint)
    size = find_size(found.sizes)
    if size is None:
        sizes = ", ".join(f"{width} {found.sizes.get(width)}" for width in WIDTHS)
        raise ValueError(f"{path} has {sizes}, which is no size in models/configs ({', '.join(list_sizes())}); add one")
    return tuple(name for name, branch in found.branches.items() if branch.has_projection), size
