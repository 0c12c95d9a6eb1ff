"""Karpathy's splits of MSCOCO and Flickr30K, `dataset_{coco,flickr30k}.json`, or the authors' tables."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from downstream.formats.authors import PICTURE, read_captioned
from downstream.formats.base import Captioned, Listing
from downstream.formats.places import DataSet, Source, find_source, is_file, make_listing, plain_name
from downstream.formats.tables import Place, Row, make_row, make_rows, read_json, read_text, show

SPLITS: Final = ("train", "val", "test")
SPLIT_OF: Final = {"train": "train", "restval": "train", "val": "val", "test": "test"}  # restval is COCO's alone
COCO_FOLDERS: Final = ("train2014", "val2014")
FLICKR30K_FOLDER: Final = "flickr30k-images"
TOKEN_FILE: Final = "results_20130124.token"  # noqa: S105 - the makers' captions, no secret

COCO: Final = DataSet(
    name="MSCOCO in Karpathy's splits",
    folders=("coco", "mscoco", "MSCOCO"),
    lists=dict.fromkeys(SPLITS, ("dataset_coco.json",)),
    tables={split: (split,) for split in SPLITS},
)
FLICKR30K: Final = DataSet(
    name="Flickr30K in Karpathy's splits",
    folders=("flickr30k", "Flickr30k", "Flickr30K"),
    lists=dict.fromkeys(SPLITS, ("dataset_flickr30k.json",)),
    tables={split: (f"flickr_{split}", split) for split in SPLITS},
)


def read_coco(root: Path, split: str) -> Listing[Captioned]:
    """Read MSCOCO's pictures of a split with all their captions, as written.

    Args:
        root: see `find_source`; the pictures lie in `train2014` and `val2014`.
        split: `train`, which takes in `restval`; `val` or `test`.

    Raises:
        MissingDataError: a list or a picture is missing.
        ValueError: faulty content; the message names the list and the image, counted from 1.
    """
    source = find_source(COCO, root, split=split)
    if source.layout == "authors' table":
        return read_captioned(source, split, columns=PICTURE)
    return make_listing(_list_coco(source, split), source)


def _list_coco(source: Source, split: str) -> Iterator[Captioned]:
    for row in _take_images(source, split):
        folder = row.text("filepath")
        if folder not in COCO_FOLDERS:
            raise row.place.error(f"filepath is {show(folder)}, expected {' or '.join(COCO_FOLDERS)}")
        media = source.tree / folder / plain_name(row.text("filename"), row.place)
        yield Captioned(str(row.whole("cocoid")), media, _take_captions(row), row.place.seen_from(source.tree))


def read_flickr30k(root: Path, split: str) -> Listing[Captioned]:
    """Read Flickr30K's pictures of a split with all their captions, as written.

    Where the makers' `results_20130124.token` lies beside the json, it has to hold the same captions for these
    pictures, in whatever order.

    Args:
        root: see `find_source`; the pictures lie in `flickr30k-images`.
        split: `train`, `val` or `test`.

    Raises:
        MissingDataError: a list or a picture is missing.
        ValueError: faulty content; the message names the list and the image, counted from 1.
    """
    source = find_source(FLICKR30K, root, split=split)
    if source.layout == "authors' table":
        return read_captioned(source, split, columns=PICTURE)
    samples = tuple(_list_flickr30k(source, split))
    tokens = source.tree / TOKEN_FILE
    has_tokens = is_file(tokens)
    if has_tokens:
        _compare_captions(samples, tokens)
    return make_listing(samples, source, vocabularies=[tokens] if has_tokens else [])


def _list_flickr30k(source: Source, split: str) -> Iterator[Captioned]:
    for row in _take_images(source, split):
        name = plain_name(row.text("filename"), row.place)
        media = source.tree / FLICKR30K_FOLDER / name
        yield Captioned(media.stem, media, _take_captions(row), row.place.seen_from(source.tree))


def _take_images(source: Source, split: str) -> Iterator[Row]:
    content = make_row(Place(source.path, 1), read_json(source.path))
    for row in make_rows(source.path, content.items("images"), unit="image"):
        if row.text("split") not in SPLIT_OF:
            raise row.place.error(f"split is {show(row.text('split'))}, expected one of {', '.join(SPLIT_OF)}")
        if SPLIT_OF[row.text("split")] == split:
            yield row


def _take_captions(row: Row) -> tuple[str, ...]:
    captions = tuple(make_row(row.place, sentence).text("raw") for sentence in row.items("sentences"))
    if not captions:
        raise row.place.error("sentences is empty, expected a caption or more")
    return captions


def _compare_captions(samples: Sequence[Captioned], path: Path) -> None:
    """Hold the captions to the makers' own, whatever blanks either has."""
    theirs: dict[str, list[str]] = {}
    for name, caption in read_tokens(path):
        theirs.setdefault(name, []).append(caption)
    for sample in samples:
        ours, own = _count(sample.captions), _count(theirs.get(sample.media.name, ()))
        for caption in (ours - own) | (own - ours):
            which = "not in" if caption in ours else "only in"
            raise ValueError(
                f"{sample.origin}: a caption of {sample.media.name} is {which} {path}: {show(caption)}; "
                "expected the same captions in both"
            )


def _count(captions: Iterable[str]) -> Counter[str]:
    return Counter(" ".join(caption.split()) for caption in captions)


def read_tokens(path: Path) -> Iterator[tuple[str, str]]:
    """Read the makers' captions, `<name>.jpg#<n>`, a tab and the caption a line: file names with captions.

    Raises:
        MissingDataError: no such file.
        ValueError: a line of another form.
    """
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        key, tab, caption = line.removesuffix("\r").partition("\t")
        name, sign, index = key.rpartition("#")
        if not (tab and sign and name and index.isdigit()):
            raise Place(path, number).error(f"{show(line)}, expected <name>.jpg#<number>, a tab and the caption")
        yield name, caption
