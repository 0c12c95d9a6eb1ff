"""Pictures and sounds of samples, looked up by name in the folders of the data sets."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from reports.record import Record

PICTURES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
SOUNDS: Final = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus"})
LABELS: Final = "annotations"  # a folder of label files, which are named like their pictures
MINIWORLD, MANIFEST = "miniworld", "miniworld.json"  # version of drawn data, and the file that says so
SEED: Final = "seed{}"  # how the folders of drawn data end


class MediaFiles:
    """Finds files by name below the folders that are named as a record names its data.

    Only names are looked up, never paths: a row of predictions cannot lead anywhere else.

    Args:
        roots: folders that hold data sets, at any depth.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(root.resolve() for root in roots if root.is_dir())
        self._folders: tuple[Path, ...] | None = None
        self._indexes: dict[Path, Mapping[str, tuple[Path, ...]]] = {}

    def find(self, name: str, record: Record) -> Path | str:
        """Find a sample's file.

        Args:
            name: of the file, or the id that the file is named after: `322` is `COCO_val2014_000000000322.jpg`.
            record: of the run. It names the data set's folder; it also says whether its data were drawn, and such
                files are never taken for photographed or recorded ones, nor the other way round.

        Returns:
            The file, or in a few words why there is none.
        """
        return self._one(name, record, kinds=PICTURES | SOUNDS, is_label=False)

    def find_label(self, name: str, record: Record) -> Path | str:
        """Find the label file of a picture; as `find`."""
        return self._one(name, record, kinds=frozenset({".png"}), is_label=True)

    def _one(self, name: str, record: Record, *, kinds: frozenset[str], is_label: bool) -> Path | str:
        root_name = record.data.root_name
        folders = self._find_folders(root_name, seed=record.seed, is_drawn=record.data.version == MINIWORLD)
        if not folders:
            return f"no folder {root_name} of this data set is at hand; name the place that holds it with --data-root"
        found = [path for folder in folders for path in self._look_up(folder, name, kinds, is_label=is_label)]
        if len(found) == 1:
            return found[0]
        return f"{len(found) or 'no'} {'files' if found else 'file'} of this name in {root_name}"

    def _look_up(self, folder: Path, name: str, kinds: frozenset[str], *, is_label: bool) -> list[Path]:
        index = self._index(folder)
        named = index.get(name) or (index.get(f"#{int(name)}") if name.isdecimal() else None) or ()
        return [
            path
            for path in named
            if path.suffix.lower() in kinds and (LABELS in path.relative_to(folder).parts) is is_label
        ]

    def _find_folders(self, name: str, *, seed: int, is_drawn: bool) -> list[Path]:
        """Give the folders of a name that lie least deep; of drawn ones those of the seed, if there are any."""
        if self._folders is None:
            walked = (Path(folder) for root in self._roots for folder, _, _ in os.walk(root))
            self._folders = tuple(sorted(set(walked)))
        found = [folder for folder in self._folders if folder.name == name and _is_drawn(folder) is is_drawn]
        least = min((len(folder.parts) for folder in found), default=0)
        nearest = [folder for folder in found if len(folder.parts) == least]
        wanted = SEED.format(seed)
        return [folder for folder in nearest if any(part.endswith(wanted) for part in folder.parts)] or nearest

    def _index(self, folder: Path) -> Mapping[str, tuple[Path, ...]]:
        if folder not in self._indexes:
            index: dict[str, tuple[Path, ...]] = {}
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in PICTURES | SOUNDS and path.is_file():
                    for name in _names(path):
                        index[name] = (*index.get(name, ()), path)
            self._indexes[folder] = index
        return self._indexes[folder]


def _is_drawn(folder: Path) -> bool:
    """Tell whether a data set was drawn: its own folder says so, or one below or above it."""
    near = (folder, *folder.parents, *(path for path in sorted(folder.iterdir()) if path.is_dir()))
    return any((place / MANIFEST).is_file() for place in near)


def _names(path: Path) -> tuple[str, ...]:
    """Give what a file may be asked for by: its name, its stem, and the number that the stem ends in."""
    number = re.fullmatch(r".*_(\d+)", path.stem)
    return (path.name, path.stem, *([f"#{int(number[1])}"] if number else []))
