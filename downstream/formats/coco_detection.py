"""COCO's detection data: `annotations/instances_{train,val}2017.json`, pictures in `{train,val}2017/`."""

import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from downstream.formats.base import MissingDataError
from downstream.formats.places import plain_name
from downstream.formats.tables import Place, Row, make_row, make_rows, on_one_line, read_json, show

FOLDERS: Final = ("coco", "coco2017", "mscoco2017", "COCO")
"""What its folder may be called where the root is the folder above."""
SPLITS: Final = {"train": "train2017", "val": "val2017"}
MAX_OUTSIDE_PX: Final = 2.0  # what rounding may move a box beyond its picture
NUM_COORDINATES: Final = 6  # of the smallest polygon


@dataclass(frozen=True)
class Picture:
    """A picture that things were marked in."""

    id: int
    image: Path
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Instances:
    """One split: its pictures, its categories, and the marked things as the file has them."""

    path: Path
    pictures: tuple[Picture, ...]
    """By ascending id, as pycocotools lists them."""
    categories: Mapping[int, str]
    """Names by id, ascending; a class number is the place in this order, from 0."""
    annotations: Mapping[int, tuple[Mapping[str, Any], ...]]
    """By picture id, the objects of the file; a picture without things has none."""

    def select(self, pictures: Sequence[Picture]) -> dict[str, Any]:
        """Give some of the pictures with their things in the form that pycocotools takes."""
        return {
            "images": [{"id": each.id, "width": each.width_px, "height": each.height_px} for each in pictures],
            "annotations": [dict(one) for each in pictures for one in self.annotations.get(each.id, ())],
            "categories": [{"id": number, "name": name} for number, name in self.categories.items()],
        }


def find_tree(data_root: Path) -> Path:
    """Find the folder that holds `annotations/`, at or below a path.

    Raises:
        MissingDataError: it is in neither place.
    """
    for candidate in (data_root, *(data_root / name for name in FOLDERS)):
        if (candidate / "annotations").is_dir():
            return candidate
    raise MissingDataError(f"no COCO in {data_root}: expected annotations/instances_val2017.json and val2017/ in it")


def find_split(tree: Path, split: str) -> tuple[Path, Path]:
    """Find the list of a split and the folder of its pictures, without opening either.

    Args:
        tree: the folder that holds `annotations/`.
        split: `train` or `val`.

    Raises:
        MissingDataError: one of them is not there.
    """
    name = SPLITS[split]
    path, folder = tree / "annotations" / f"instances_{name}.json", tree / name
    if not path.is_file():
        raise MissingDataError(f"{path} is missing; unpack annotations_trainval2017.zip there")
    if not folder.is_dir():
        raise MissingDataError(f"{folder} is missing; unpack {name}.zip there")
    return path, folder


def read_instances(tree: Path, split: str) -> Instances:
    """Read one split and check everything that a judgement or a training takes from it.

    Args:
        tree: the folder that holds `annotations/`.
        split: `train` or `val`.

    Raises:
        MissingDataError: the list, the folder or a picture is not there.
        ValueError: faulty content; the message names the list and the object in it, counted from 1.
    """
    path, folder = find_split(tree, split)
    content = make_row(Place(path, 1), read_json(path))
    categories = _take_categories(make_rows(path, content.items("categories"), unit="category"))
    pictures = _take_pictures(make_rows(path, content.items("images"), unit="image"), folder)
    annotations = content.items("annotations")
    rows = make_rows(path, annotations, unit="annotation") if annotations else ()
    return Instances(
        path,
        tuple(pictures[key] for key in sorted(pictures)),
        dict(sorted(categories.items())),
        _take_annotations(rows, pictures, categories),
    )


def _take_categories(rows: Sequence[Row]) -> dict[int, str]:
    taken: dict[int, str] = {}
    for row in rows:
        key, name = row.whole("id"), row.text("name")
        if key in taken or name in taken.values():
            raise row.place.error(f"the category {key}, {show(name)}, stands there twice, expected once")
        taken[key] = name
    return taken


def _take_pictures(rows: Sequence[Row], folder: Path) -> dict[int, Picture]:
    there = {path.name for path in folder.iterdir()}
    taken: dict[int, Picture] = {}
    for row in rows:
        key, name = row.whole("id"), plain_name(row.text("file_name"), row.place)
        if key in taken:
            raise row.place.error(f"the id {key} is that of another image already, expected each once")
        if name not in there:
            raise MissingDataError(on_one_line(f"{folder / name} is missing; {row.place} lists it"))
        width, height = row.whole("width"), row.whole("height")
        if not (width and height):
            raise row.place.error(f"{width} x {height} pixels, expected at least one")
        taken[key] = Picture(key, folder / name, width, height)
    return taken


def _take_annotations(
    rows: Sequence[Row], pictures: Mapping[int, Picture], categories: Mapping[int, str]
) -> dict[int, tuple[Mapping[str, Any], ...]]:
    seen: set[int] = set()
    taken: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        key, picture = row.whole("id"), row.whole("image_id")
        if key in seen:
            raise row.place.error(f"the id {key} is that of another annotation already, expected each once")
        if picture not in pictures:
            raise row.place.error(f"image_id is {picture}, which is no image of the file")
        if row.whole("category_id") not in categories:
            raise row.place.error(f"category_id is {row.whole('category_id')}, which is no category of the file")
        _check_thing(row, pictures[picture])
        seen.add(key)
        taken.setdefault(picture, []).append(row.values)
    return {key: tuple(values) for key, values in taken.items()}


def _check_thing(row: Row, picture: Picture) -> None:
    """See that a box, an area and an outline are what they should be."""
    is_crowd = row.whole("iscrowd", stop=2)
    left, top, width, height = _take_numbers(row, "bbox", row.items("bbox"), exactly=4)
    outside = max(-left, -top, left + width - picture.width_px, top + height - picture.height_px)
    if width < 0 or height < 0 or outside > MAX_OUTSIDE_PX:
        shown = f"left {left:g}, top {top:g}, width {width:g}, height {height:g}"
        raise row.place.error(
            f"the box of {shown} is none inside {picture.width_px} x {picture.height_px} pixels; fetch the file again"
        )
    (area,) = _take_numbers(row, "area", [row.values.get("area")], exactly=1)
    if area < 0:
        raise row.place.error(f"area is {area:g}, expected 0 or more")
    outline = row.values.get("segmentation")
    if isinstance(outline, dict):
        _check_runs(row, outline, picture)
    elif is_crowd or not isinstance(outline, list) or not outline:
        expected = "runs of pixels, as every crowd has" if is_crowd else "polygons or runs of pixels"
        raise row.place.error(f"segmentation is {show(outline)}, expected {expected}")
    else:
        for polygon in outline:
            _check_polygon(row, polygon)


def _check_polygon(row: Row, polygon: object) -> None:
    numbers = _take_numbers(row, "segmentation", polygon if isinstance(polygon, list) else [polygon])
    if len(numbers) < NUM_COORDINATES or len(numbers) % 2:
        raise row.place.error(f"a polygon of {len(numbers)} numbers, expected an even one of at least 6")


def _check_runs(row: Row, runs: Mapping[str, Any], picture: Picture) -> None:
    if runs.get("size") != [picture.height_px, picture.width_px]:
        expected = [picture.height_px, picture.width_px]
        raise row.place.error(f"runs of size {show(runs.get('size'))}, expected height and width {expected}")
    counts = runs.get("counts")
    if isinstance(counts, str) and counts:
        return  # packed; pycocotools reads it
    numbers = _take_numbers(row, "counts", counts if isinstance(counts, list) else [counts])
    if any(number < 0 for number in numbers) or sum(numbers) != picture.width_px * picture.height_px:
        raise row.place.error(
            f"runs over {sum(numbers):g} pixels, expected the picture's {picture.width_px * picture.height_px}"
        )


def _take_numbers(row: Row, name: str, values: Sequence[Any], *, exactly: int | None = None) -> tuple[float, ...]:
    good = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not good or not all(map(math.isfinite, values)) or (exactly is not None and len(values) != exactly):
        expected = "numbers" if exactly is None else f"{exactly} number{'s' if exactly > 1 else ''}"
        raise row.place.error(f"{name} is {show(row.values.get(name, values))}, expected {expected}")
    return tuple(float(value) for value in values)


def check_pictures(pictures: Sequence[Picture], *, num_threads: int = 4) -> str:
    """Open every picture once before anything is computed.

    Returns:
        A digest of names and contents, hexadecimal.

    Raises:
        ValueError: one that cannot be read, or of another size than the list says; the file is named.
    """
    with ThreadPoolExecutor(num_threads) as pool:
        digests = list(pool.map(_check_picture, pictures))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _check_picture(picture: Picture) -> str:
    content = picture.image.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            image.load()  # a half-transferred one must not get past this point
            size = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = on_one_line(str(error))
        raise ValueError(f"{picture.image} is not a readable picture ({reason}); fetch it again") from None
    if size != (picture.width_px, picture.height_px):
        raise ValueError(
            f"{picture.image} is {size[0]} x {size[1]} pixels, the list says {picture.width_px} x {picture.height_px}; "
            "fetch it again"
        )
    return f"{picture.image.name} {hashlib.sha256(content).hexdigest()}\n"
