"""RefCOCO, RefCOCO+ and RefCOCOg: `<set>/refs(...).p`, `instances.json`, COCO's pictures; or the authors' tables."""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from downstream.formats.authors import find_media
from downstream.formats.base import Listing, Referred
from downstream.formats.pickles import read_pickle
from downstream.formats.places import DataSet, Source, find_source, make_listing, plain_name
from downstream.formats.tables import Place, Row, make_row, make_rows, read_json, read_table, show

Box = tuple[float, float, float, float]

SPLITS: Final = ("train", "val", "testA", "testB")
SPLITS_G: Final = ("train", "val", "test")
IMAGES: Final = "images/mscoco/images/train2014"
OTHER_IMAGES: Final = ("train2014", "../train2014")
COLUMNS: Final = ("image", "text", "region_coord")
ID_COLUMN: Final = "uniq_id"
MAX_OUTSIDE_PX: Final = 1.0  # what rounding may move a box beyond its picture


def _make_set(name: str, refs: str, *, splits: tuple[str, ...], own: tuple[str, ...]) -> DataSet:
    """Make a set from its names; the authors call a table `<own>/<split>.tsv`, others put the set into its name."""
    return DataSet(
        name=name,
        folders=(*own, "refcoco") if "refcoco" not in own else own,  # one folder may hold all three
        lists=dict.fromkeys(splits, (refs,)),
        tables={split: (*(f"{folder}_{split}" for folder in own), split) for split in splits},
    )


REFCOCO: Final = _make_set("RefCOCO", "refcoco/refs(unc).p", splits=SPLITS, own=("refcoco", "RefCOCO"))
REFCOCO_PLUS: Final = _make_set(
    "RefCOCO+",
    "refcoco+/refs(unc).p",
    splits=SPLITS,
    own=("refcoco+", "refcoco_plus", "refcocoplus", "RefCOCO+"),
)
REFCOCOG: Final = _make_set("RefCOCOg", "refcocog/refs(umd).p", splits=SPLITS_G, own=("refcocog", "RefCOCOg"))


def read_refcoco(root: Path, split: str) -> Listing[Referred]:
    """Read RefCOCO's sentences of a split, each with its picture and box.

    Args:
        root: see `find_source`; the pictures lie in `images/mscoco/images/train2014`, or in `train2014` there or one
            level up.
        split: `train`, `val`, `testA` or `testB`.

    Returns:
        A sample a sentence, in the order of the list; its id is the makers' `sent_id`, in a table `uniq_id`. The
        published tables have no such column; there it is the row, from 0, as in the authors' own code.

    Raises:
        MissingDataError: a list or a picture is missing.
        ValueError: faulty content; the message names the list and the ref, counted from 1, or the line.

    Source: reference one_peace/data/vl_data/refcoco_dataset.py.
    """
    return _read(REFCOCO, root, split=split)


def read_refcoco_plus(root: Path, split: str) -> Listing[Referred]:
    """Read RefCOCO+'s sentences of a split, as `read_refcoco`."""
    return _read(REFCOCO_PLUS, root, split=split)


def read_refcocog(root: Path, split: str) -> Listing[Referred]:
    """Read RefCOCOg's sentences in the splits of UMD, `train`, `val` and `test`, as `read_refcoco`."""
    return _read(REFCOCOG, root, split=split)


def _read(data_set: DataSet, root: Path, *, split: str) -> Listing[Referred]:
    source = find_source(data_set, root, split=split)
    if source.layout == "authors' table":
        _check_table(data_set, source.path)
        rows = read_table(source.path, COLUMNS)
        return make_listing((_take_row(row, index, source) for index, row in enumerate(rows)), source)
    instances = source.path.with_name("instances.json")
    known = _read_instances(instances, _stamp(instances))
    refs = [row for row in _read_refs(source.path, _stamp(source.path)) if _take_split(row, data_set) == split]
    return make_listing(_list_sentences(refs, source, known=known), source, vocabularies=[instances])


def _check_table(data_set: DataSet, path: Path) -> None:
    """Refuse the table of another of the three; only its folder tells where its name is but a split."""
    stem = path.stem.removesuffix("_new")
    for other in (REFCOCO, REFCOCO_PLUS, REFCOCOG):
        own = _own_folders(other)
        is_bare = any(stem == split for split in other.lists) and path.resolve().parent.name in own
        is_named = any(
            stem.startswith(f"{folder}_") and stem.removeprefix(f"{folder}_") in other.lists for folder in own
        )
        if other is not data_set and (is_bare or is_named):
            raise ValueError(f"{path} is a table of {other.name}, expected one of {data_set.name}; name another folder")


def _own_folders(data_set: DataSet) -> tuple[str, ...]:
    return tuple(name for name in data_set.folders if name != "refcoco" or data_set is REFCOCO)


def _take_row(row: Row, index: int, source: Source) -> Referred:
    parts = row.text("region_coord").split(",")
    try:
        box = [float(part) for part in parts]
    except ValueError:
        box = []
    if len(box) != 4:
        shown = show(row.text("region_coord"))
        raise row.place.error(f"region_coord is {shown}, expected left, top, right and bottom, joined by commas")
    return Referred(
        row.text(ID_COLUMN) if ID_COLUMN in row.values else str(index),
        find_media(row.text("image"), source.path),
        row.text("text"),
        _check_box((box[0], box[1], box[2], box[3]), row.place, size=None),
        row.place.seen_from(source.tree),
    )


def _check_box(box: Box, place: Place, *, size: tuple[int, int] | None) -> Box:
    """See that a box is one, and inside its picture as far as the size of that is known."""
    left, top, right, bottom = box
    if not all(map(math.isfinite, box)) or right <= left or bottom <= top:
        raise place.error(f"the box {_spell(box)} has no area, expected left < right and top < bottom, in pixels")
    if fault := _find_outside(box, size):
        raise place.error(fault)
    return box


def _find_outside(box: Box, size: tuple[int, int] | None) -> str | None:
    """Say how far a box is outside its picture; None where it is inside."""
    left, top, right, bottom = box
    width, height = size or (math.inf, math.inf)
    outside = max(-left, -top, right - width, bottom - height)
    if outside <= MAX_OUTSIDE_PX:
        return None
    expected = f"one inside its {width} x {height} pixels" if size else "no side below 0"
    return f"the box {_spell(box)} is {outside:g} pixels outside its picture, expected {expected}"


def _spell(box: Box) -> str:
    return ", ".join(f"{side:g}" for side in box)


def check_boxes(samples: Iterable[Referred], sizes: Mapping[Path, tuple[int, int]]) -> None:
    """See that boxes are inside their pictures, whose true sizes nobody knows before they are opened.

    Args:
        samples: of any split.
        sizes: width and height in pixels, by picture.

    Raises:
        ValueError: one is not; the message names the list and its row.
    """
    for sample in samples:
        if fault := _find_outside(sample.box, sizes[sample.media]):
            raise ValueError(f"{sample.origin}: {fault}")


@dataclass(frozen=True)
class _Instances:
    """What is needed of `instances.json`, by id."""

    path: Path
    images: Mapping[int, Row]
    annotations: Mapping[int, Row]


def _stamp(path: Path) -> tuple[int, int]:
    """Tell a file from a later one of the same name; of one that is not there, nothing."""
    if not path.is_file():
        return 0, 0
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=1)  # seconds to read, and the same for every split
def _read_instances(path: Path, _stamp: tuple[int, int]) -> _Instances:
    content = make_row(Place(path, 1), read_json(path))
    images = make_rows(path, content.items("images"), unit="image")
    annotations = make_rows(path, content.items("annotations"), unit="annotation")
    return _Instances(
        path,
        _by_id(images, ("file_name", "width", "height")),
        _by_id(annotations, ("bbox", "image_id")),
    )


def _by_id(rows: Iterable[Row], names: tuple[str, ...]) -> dict[int, Row]:
    """Keep of each object what is needed; the outlines of things are most of the file."""
    kept: dict[int, Row] = {}
    for row in rows:
        key = row.whole("id")
        if key in kept:
            raise row.place.error(f"the id {key} is that of {kept[key].place.unit} {kept[key].place.number} already")
        kept[key] = Row(row.place, {name: row.values[name] for name in names if name in row.values})
    return kept


@functools.lru_cache(maxsize=1)
def _read_refs(path: Path, _stamp: tuple[int, int]) -> tuple[Row, ...]:
    return make_rows(path, read_pickle(path), unit="ref")


def _take_split(row: Row, data_set: DataSet) -> str:
    split = row.text("split")
    if split not in data_set.lists:
        raise row.place.error(f"split is {show(split)}, expected one of {', '.join(data_set.lists)}")
    return split


def _list_sentences(refs: Iterable[Row], source: Source, *, known: _Instances) -> Iterator[Referred]:
    """Give a sample for each sentence of each ref; `file_name` of a ref is no file, that of its image is."""
    folder = _find_images(source.tree)
    for row in refs:
        image = _look_up(row, "image_id", known.images, known.path)
        media = folder / plain_name(image.text("file_name"), image.place)
        box = _take_box(row, image, known)
        for sentence in _take_sentences(row):
            key, text = str(sentence.whole("sent_id")), sentence.text("sent")
            yield Referred(key, media, text, box, row.place.seen_from(source.tree))


def _find_images(tree: Path) -> Path:
    folders = (tree / IMAGES, *(tree / name for name in OTHER_IMAGES))
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _look_up(row: Row, name: str, known: Mapping[int, Row], path: Path) -> Row:
    key = row.whole(name)
    if key not in known:
        raise row.place.error(f"{name} is {key}, which is not in {path}; expected the files of one release")
    return known[key]


def _take_box(row: Row, image: Row, known: _Instances) -> Box:
    annotation = _look_up(row, "ann_id", known.annotations, known.path)
    if annotation.whole("image_id") != row.whole("image_id"):
        raise row.place.error(
            f"image_id is {row.whole('image_id')}, that of its annotation {row.whole('ann_id')} in {known.path} is "
            f"{annotation.whole('image_id')}; expected one picture"
        )
    sides: list[Any] = annotation.items("bbox")
    if len(sides) != 4 or not all(type(side) in (int, float) for side in sides):
        raise row.place.error(f"its bbox in {known.path} is {show(sides)}, expected left, top, width and height")
    left, top, width, height = map(float, sides)
    has_size = "width" in image.values and "height" in image.values
    size = (image.whole("width"), image.whole("height")) if has_size else None
    return _check_box((left, top, left + width, top + height), row.place, size=size)


def _take_sentences(row: Row) -> list[Row]:
    sentences = [make_row(row.place, sentence) for sentence in row.items("sentences")]
    if not sentences:
        raise row.place.error("sentences is empty, expected a sentence or more")
    return sentences
