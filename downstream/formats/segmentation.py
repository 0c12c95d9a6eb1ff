"""Pictures whose every pixel has a class: `images/<split>/<name>.jpg`, `annotations/<split>/<name>.png`. No torch."""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from downstream.formats.base import MissingDataError

IMAGES, LABELS = "images", "annotations"
SUFFIXES: Final = {IMAGES: ".jpg", LABELS: ".png"}
LABEL_MODES: Final = ("L", "P", "I;16", "I")
IGNORED: Final = 255
"""Number of what has no class and is not judged."""


@dataclass(frozen=True)
class LabelledSet:
    """How a data set's makers publish it."""

    name: str
    folders: tuple[str, ...]
    """What its folder is called where the root is a folder above; the makers' own name first."""
    splits: Mapping[str, str]
    """The folder of `train` and of `val`."""
    example: str
    """A file's name without its ending."""
    names: str
    """Which files are the data set's own, without their endings; a regular expression."""
    archives: Mapping[str, str]
    """What is unpacked into `images` and into `annotations`."""
    values: tuple[int, ...]
    """What a label file says for each class, by class number from 0."""
    unlabelled: int
    """What it says for everything else."""
    library_name: str
    """The data set of MMSegmentation that names and colours the classes."""

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.values)


@dataclass(frozen=True)
class Pair:
    """A picture and its label file."""

    id: str
    """File name without extension: `ADE_val_00000001`."""
    image: Path
    label: Path


def find_tree(data: LabelledSet, data_root: Path) -> Path:
    """Find the folder that holds `images` and `annotations`, at or below a path.

    Raises:
        MissingDataError: it is in no place.
    """
    for candidate in (*(data_root / folder for folder in data.folders), data_root):
        if (candidate / IMAGES).is_dir() or (candidate / LABELS).is_dir():
            return candidate
    own = data.folders[0]
    raise MissingDataError(f"no {data.name} in {data_root}: expected {own}/{IMAGES} and {own}/{LABELS} in it")


def find_pairs(data: LabelledSet, tree: Path, split: str) -> tuple[Pair, ...]:
    """List the pictures of a split in the order of their names, each with its label.

    Args:
        data: what to look for.
        tree: the folder that holds `images` and `annotations`.
        split: `train` or `val`.

    Raises:
        MissingDataError: a folder is missing or empty, or a file has no partner.
    """
    folders = {kind: tree / kind / data.splits[split] for kind in SUFFIXES}
    files = {kind: _list_files(data, folder, kind=kind) for kind, folder in folders.items()}
    images, labels = files[IMAGES], files[LABELS]
    for stem in sorted(images.keys() ^ labels.keys()):
        lacking, what = (LABELS, "label") if stem in images else (IMAGES, "picture")
        raise MissingDataError(f"{stem} has no {what}: {folders[lacking] / stem}{SUFFIXES[lacking]}")
    return tuple(Pair(stem, images[stem], labels[stem]) for stem in sorted(images))


def _list_files(data: LabelledSet, folder: Path, *, kind: str) -> dict[str, Path]:
    extension, advice = SUFFIXES[kind], f"unpack {data.archives[kind]} there"
    if not folder.is_dir():
        raise MissingDataError(f"{folder} is missing; {advice}")
    name = re.compile(data.names)
    files = {
        path.stem: path for path in folder.iterdir() if path.suffix.lower() == extension and name.fullmatch(path.stem)
    }
    if not files:
        raise MissingDataError(f"{folder} holds no {extension} files, such as {data.example}{extension}; {advice}")
    return files


def check_pairs(data: LabelledSet, pairs: Sequence[Pair], *, num_threads: int = 4) -> str:
    """Open every file once before anything is computed.

    Returns:
        A digest of names and contents, hexadecimal.

    Raises:
        ValueError: an unreadable picture or label, two sizes, or a label that is no class; the file is named.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        digests = list(pool.map(lambda pair: _check_pair(data, pair), pairs))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _check_pair(data: LabelledSet, pair: Pair) -> str:
    with _open(pair.image) as image:
        size = image.size
    with _open(pair.label) as label:
        if label.format != "PNG":
            raise ValueError(f"label {pair.label} is {label.format} inside, expected PNG, which keeps every value")
        if label.mode not in LABEL_MODES:
            raise ValueError(f"label {pair.label} has mode {label.mode}, expected one 8-bit channel")
        if label.size != size:
            raise ValueError(
                f"label {pair.label} is {label.size[0]} x {label.size[1]} pixels, its picture "
                f"{size[0]} x {size[1]}; expected the same size"
            )
        found = np.unique(np.asarray(label)).tolist()
    known = {*data.values, data.unlabelled}
    if wrong := [value for value in found if value not in known]:
        raise ValueError(f"label {pair.label} holds the value {wrong[-1]}, expected {_tell_values(known)}")
    contents = hashlib.sha256(pair.image.read_bytes() + pair.label.read_bytes()).hexdigest()
    return f"{pair.id} {contents}\n"


def _tell_values(values: Iterable[int]) -> str:
    """Write numbers as runs: `0 to 10, 12 to 24`."""
    steps = count()
    runs = [list(run) for _, run in groupby(sorted(values), key=lambda value: value - next(steps))]
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _open(path: Path) -> Image.Image:
    """Decode a file fully; a half-transferred one must not get past this point."""
    try:
        image = Image.open(io.BytesIO(path.read_bytes()))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable picture ({error}); fetch it again") from None
    return image


def class_table(data: LabelledSet) -> NDArray[np.uint8]:
    """Give the class number of every value that a label file may hold: (256,), `IGNORED` where there is none."""
    table = np.full(256, IGNORED, dtype=np.uint8)
    table[list(data.values)] = np.arange(data.num_classes)
    return table


def read_classes(data: LabelledSet, pair: Pair) -> NDArray[np.uint8]:
    """Read a label file as the benchmark counts it: (height, width), class numbers from 0, else `IGNORED`."""
    with Image.open(pair.label) as file:
        classes: NDArray[np.uint8] = class_table(data)[np.asarray(file)]
    return classes


def write_classes(data: LabelledSet, classes: NDArray[np.integer], path: Path) -> None:
    """Write class numbers (height, width) as the data set writes its labels."""
    Image.fromarray(np.array(data.values, dtype=np.uint8)[classes]).save(path)
