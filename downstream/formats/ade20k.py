"""ADE20K as its makers publish it: `ADEChallengeData2016/{images,annotations}/{training,validation}`."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from downstream.formats.base import MissingDataError

FOLDER = "ADEChallengeData2016"
SPLITS = {"train": "training", "val": "validation"}
MAX_LABEL = 150


@dataclass(frozen=True)
class Pair:
    """A picture and its label file."""

    id: str
    """File name without extension: `ADE_val_00000001`."""
    image: Path
    label: Path


def find_tree(data_root: Path) -> Path:
    """Find the folder `ADEChallengeData2016` at or below a path.

    Raises:
        MissingDataError: it is in neither place.
    """
    for candidate in (data_root / FOLDER, data_root):
        if (candidate / "images").is_dir() or (candidate / "annotations").is_dir():
            return candidate
    raise MissingDataError(f"no ADE20K in {data_root}: expected {FOLDER}/images and {FOLDER}/annotations in it")


def find_pairs(tree: Path, split: str) -> tuple[Pair, ...]:
    """List the pictures of a split in the order of their names, each with its label.

    Args:
        tree: the folder `ADEChallengeData2016`.
        split: `train` or `val`.

    Raises:
        MissingDataError: a folder is missing or empty, or a file has no partner.
    """
    name = SPLITS[split]
    images = _list_files(tree / "images" / name, ".jpg")
    labels = _list_files(tree / "annotations" / name, ".png")
    for stem in sorted(images.keys() ^ labels.keys()):
        lacking = tree / ("annotations" if stem in images else "images") / name
        extension = ".png" if stem in images else ".jpg"
        raise MissingDataError(f"{stem} has no {'label' if stem in images else 'picture'}: {lacking / stem}{extension}")
    return tuple(Pair(stem, images[stem], labels[stem]) for stem in sorted(images))


def _list_files(folder: Path, extension: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise MissingDataError(f"{folder} is missing; unpack ADEChallengeData2016.zip there")
    files = {path.stem: path for path in folder.iterdir() if path.suffix.lower() == extension}
    if not files:
        raise MissingDataError(f"{folder} holds no {extension} files; unpack ADEChallengeData2016.zip there")
    return files


def check_pairs(pairs: Sequence[Pair], *, num_threads: int = 4) -> str:
    """Open every file once before anything is computed.

    Returns:
        A digest of names and contents, hexadecimal.

    Raises:
        ValueError: an unreadable picture or label, two sizes, or a label that is no class; the file is named.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        digests = list(pool.map(_check_pair, pairs))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _check_pair(pair: Pair) -> str:
    with _open(pair.image) as image:
        size = image.size
    with _open(pair.label) as label:
        if label.mode not in ("L", "P", "I;16", "I"):
            raise ValueError(f"label {pair.label} has mode {label.mode}, expected one 8-bit channel")
        if label.size != size:
            raise ValueError(
                f"label {pair.label} is {label.size[0]} x {label.size[1]} pixels, its picture "
                f"{size[0]} x {size[1]}; expected the same size"
            )
        largest = int(np.asarray(label).max())
    if largest > MAX_LABEL:
        raise ValueError(f"label {pair.label} holds the value {largest}, expected 0 to {MAX_LABEL}")
    contents = hashlib.sha256(pair.image.read_bytes() + pair.label.read_bytes()).hexdigest()
    return f"{pair.id} {contents}\n"


def _open(path: Path) -> Image.Image:
    """Decode a file fully; a half-transferred one must not get past this point."""
    try:
        image = Image.open(io.BytesIO(path.read_bytes()))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable picture ({error}); fetch it again") from None
    return image
