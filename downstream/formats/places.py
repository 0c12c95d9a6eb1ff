"""Where a data set lies, in which of its two layouts, and which of its pictures or sounds are there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from downstream.formats.base import Layout, Listing, MissingDataError, MissingListError, Sample
from downstream.formats.tables import Place, on_one_line, show
from models.config import unknown_name

S = TypeVar("S", bound=Sample)

SOUND_SUFFIXES: Final = (".wav", ".flac")
OTHER_SUFFIXES: Final = (".mp3", ".ogg", ".opus", ".m4a", ".aac", ".mp4", ".webm")
MAX_NAME_BYTES: Final = 255  # of one file name, on the usual file systems


@dataclass(frozen=True)
class DataSet:
    """What a data set's folder and lists are called."""

    name: str
    folders: tuple[str, ...]
    """What its folder is called where the root is the folder above."""
    lists: Mapping[str, tuple[str, ...]]
    """By split, the makers' list below the folder; of several the first that is there."""
    tables: Mapping[str, tuple[str, ...]]
    """By split, the authors' table without `.tsv`; each may also end in `_new`."""


@dataclass(frozen=True)
class Source:
    """The list of one split."""

    layout: Layout
    tree: Path
    """The folder that paths in the makers' lists start from; of an authors' table its own folder."""
    path: Path
    """The list."""


def find_source(data_set: DataSet, root: Path, *, split: str) -> Source:
    """Find the list of a split; the makers' own goes before the authors' table.

    Args:
        data_set: what to look for.
        root: a folder that holds either layout or, one level below, the data set's folder; or an authors' table.
        split: one of the data set's.

    Raises:
        ValueError: unknown split; a file that is no table, or the table of another split.
        MissingListError: neither list is there.
    """
    if split not in data_set.lists:
        raise ValueError(unknown_name(f"split of {data_set.name}", split, data_set.lists))
    if root.is_file():
        _check_table_name(data_set, root, split=split)
        return Source("authors' table", root.parent, root)
    trees = (root, *(root / folder for folder in data_set.folders))
    lists = [(tree, tree / name) for name in data_set.lists[split] for tree in trees]
    for tree, path in lists:
        if path.is_file():
            return Source("original", tree, path)
    tables = [tree / f"{name}.tsv" for name in _table_names(data_set, split) for tree in trees]
    for path in tables:
        if path.is_file():
            return Source("authors' table", path.parent, path)
    names = " or ".join(path.name for path in tables[:: len(trees)])
    other = f", nor the authors' {names}" if names else "; the authors publish no table of this split"
    raise MissingListError(f"no {data_set.name}, split {split}, in {root}: {lists[0][1]} is missing{other}")


def _table_names(data_set: DataSet, split: str) -> list[str]:
    return [name + ending for name in data_set.tables[split] for ending in ("_new", "")]


def _check_table_name(data_set: DataSet, path: Path, *, split: str) -> None:
    if path.suffix != ".tsv":
        raise ValueError(f"{path} is no authors' table of {data_set.name}; expected a .tsv file or a folder")
    owners = [other for other in data_set.tables if path.stem in _table_names(data_set, other)]
    if owners and split not in owners:
        raise ValueError(f"{path} is the authors' table of split {owners[0]}, expected that of split {split}")


def plain_name(name: str, place: Place) -> str:
    """Take the name of a file out of a list; it must not lead to another folder.

    Raises:
        ValueError: no name of a file.
    """
    if "/" in name or "\0" in name or name in ("", ".", "..") or len(name.encode()) > MAX_NAME_BYTES:
        raise place.error(f"{show(name)} names no file, expected a name without folders")
    return name


@dataclass(frozen=True)
class Sounds:
    """The sounds in some folders, to be found by their names without extension."""

    folders: tuple[Path, ...]
    names: Mapping[str, tuple[Path, ...]]
    """By name without extension."""

    def find(self, stem: str, place: Place) -> Path:
        """Find a sound; where there is none, say where it would be.

        Raises:
            ValueError: two files of that name, or one that is not lossless sound.
        """
        found = self.names.get(plain_name(stem, place), ())
        fit = [path for path in found if path.suffix.lower() in SOUND_SUFFIXES]
        if len(fit) > 1:
            raise place.error(f"two files for one sound, {fit[0]} and {fit[1]}; keep one")
        if found and not fit:
            raise place.error(f"{found[0]} is neither .wav nor .flac; convert it to one of them")
        return fit[0] if fit else self.folders[0] / f"{stem}{SOUND_SUFFIXES[0]}"


def index_sounds(folders: Sequence[Path]) -> Sounds:
    """List the sounds in folders; a folder that is not there holds none."""
    names: dict[str, tuple[Path, ...]] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix.lower() in SOUND_SUFFIXES + OTHER_SUFFIXES:
                names[path.stem] = (*names.get(path.stem, ()), path)
    return Sounds(tuple(folders), names)


def number_classes(count: int) -> tuple[str, ...]:
    """Name classes by their numbers, where nothing beside a table names them."""
    return tuple(f"class {number}" for number in range(count))


def make_listing(
    samples: Iterable[S],
    source: Source,
    *,
    vocabularies: Sequence[Path] = (),
    class_names: tuple[str, ...] = (),
    may_lack: bool = False,
) -> Listing[S]:
    """Make the listing of a split: ids are unique, and it is known which media are there.

    Args:
        samples: all that the list names, with the media that are expected.
        source: their list.
        vocabularies: other lists that were read.
        class_names: by class number.
        may_lack: the data set loses clips with time, so those that are not there are told, not refused.

    Raises:
        ValueError: an id stands twice.
        MissingDataError: nothing is listed, or media are missing.
    """
    listed = tuple(samples)
    if not listed:
        raise MissingDataError(f"{source.path} lists nothing of this split; expected a sample or more")
    _check_unique(listed)
    there = tuple(sample for sample in listed if all(map(is_file, sample.files)))
    present = {sample.id for sample in there}
    lacking = [sample for sample in listed if sample.id not in present]
    if lacking and not (may_lack and there):
        first = next(path for path in lacking[0].files if not is_file(path))
        message = (
            f"{first} is missing, listed in {lacking[0].origin}; {len(lacking)} of {len(listed)} "
            f"files of {source.path} are missing in all; fetch them"
        )
        raise MissingDataError(on_one_line(message))
    absent = tuple(sample.id for sample in lacking)
    return Listing(there, absent, source.layout, (source.path, *vocabularies), class_names)


def is_file(path: Path) -> bool:
    """Tell whether a file is there, whatever a list calls it."""
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system takes
        return False


def _check_unique(listed: Sequence[Sample]) -> None:
    origins: dict[str, str] = {}
    for sample in listed:
        if sample.id in origins:
            raise ValueError(
                f"{sample.origin}: the id {show(sample.id)} stands already in {origins[sample.id]}; expected each once"
            )
        origins[sample.id] = sample.origin
