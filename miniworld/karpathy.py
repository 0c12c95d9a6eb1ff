"""Pictures with five sentences each, in the layouts of MSCOCO and Flickr30K after Karpathy.

`mscoco/`, from `write_coco`:

    dataset_coco.json               images of filepath, filename, cocoid, imgid, split, sentids, sentences
    train2014/                      COCO_train2014_<cocoid, 12 digits>.jpg, split train
    val2014/                        COCO_val2014_<cocoid, 12 digits>.jpg, splits restval, val and test

`flickr30k/`, from `write_flickr30k`:

    dataset_flickr30k.json          images of filename, imgid, split, sentids, sentences
    results_20130124.token          <file name>#<number><TAB><sentence>
    flickr30k-images/               <digits>.jpg

Both have the authors' tables beside them: `{train,val,test}_new.tsv` of image_id image caption, a row a sentence, and
`{val,test}_texts.json` of {image_id: [sentences]}. Restval belongs to the table of train. The splits are mixed in the
lists; some pictures of MSCOCO have a sixth sentence, and some of its sentences end in a blank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from miniworld.orders import Order, make_order
from miniworld.samples import PictureSample, make_captioned_picture
from miniworld.sentence import begin_sentence
from miniworld.tables import PICTURE_COLUMNS, Files, format_json, format_table
from miniworld.tree import write_tree

NUM_SENTENCES: Final = 5
SIDE_PX: Final = 72
COCO_FOLDERS: Final = {"train": "train2014", "restval": "val2014", "val": "val2014", "test": "val2014"}
FLICKR_FOLDER: Final = "flickr30k-images"
TABLES: Final[Mapping[str, tuple[str, ...]]] = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}
EVERY_SIXTH_SENTENCE: Final = 7  # one in so many pictures of MSCOCO has six
EVERY_BLANK: Final = 11  # one in so many sentences of MSCOCO ends in a blank


@dataclass(frozen=True)
class _Picture:
    """A picture as lists and tables have it.

    Attributes:
        split: as Karpathy names it.
        number: as its file's name gives it.
        image: relative to the data set's own folder.
        key: its id in the authors' tables.
        captions: as written.
    """

    split: str
    number: int
    image: str
    key: str
    captions: tuple[str, ...]


def write_coco(
    root: Path,
    *,
    seed: int = 0,
    num_train: int = 400,
    num_restval: int = 80,
    num_val: int = 60,
    num_test: int = 200,
    scale: float = 1.0,
) -> Path:
    """Write `mscoco` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: training pictures.
        num_restval: training pictures that lie with those of val.
        num_val: validation pictures.
        num_test: test pictures.
        scale: multiplies every count.

    Returns:
        The folder `mscoco`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"num_train": num_train, "num_restval": num_restval, "num_val": num_val, "num_test": num_test}
    order = make_order("coco", seed, counts=counts, scale=scale)
    return write_tree(root / "mscoco", order.recipe, files=_make_coco(order))


def write_flickr30k(
    root: Path, *, seed: int = 0, num_train: int = 400, num_val: int = 60, num_test: int = 200, scale: float = 1.0
) -> Path:
    """Write `flickr30k` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: training pictures.
        num_val: validation pictures.
        num_test: test pictures.
        scale: multiplies every count.

    Returns:
        The folder `flickr30k`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
    order = make_order("flickr30k", seed, counts=counts, scale=scale)
    return write_tree(root / "flickr30k", order.recipe, files=_make_flickr30k(order))


def _make_coco(order: Order) -> Files:
    pictures = []
    for place, (split, folder) in enumerate(COCO_FOLDERS.items()):
        for index in range(order.counts[f"num_{split}"]):
            has_sixth = index % EVERY_SIXTH_SENTENCE == EVERY_SIXTH_SENTENCE - 1
            drawn = _draw(order, split, index=index, num_sentences=NUM_SENTENCES + has_sixth)
            number = 139 + 61 * (len(COCO_FOLDERS) * index + place)
            image = f"{folder}/COCO_{folder}_{number:012d}.jpg"
            yield image, drawn.jpeg
            pictures.append(_Picture(split, number, image, str(number), _write_as_coco(drawn, index)))
    pictures.sort(key=lambda picture: picture.number)
    images = _list_images(pictures)
    for entry, picture in zip(images, pictures, strict=True):
        entry |= {"filepath": COCO_FOLDERS[picture.split], "cocoid": picture.number}
    yield "dataset_coco.json", format_json({"images": images, "dataset": "coco"}, indent=None)
    yield from _make_tables(pictures)


def _make_flickr30k(order: Order) -> Files:
    pictures = []
    for place, split in enumerate(TABLES):
        for index in range(order.counts[f"num_{split}"]):
            drawn = _draw(order, split, index=index, num_sentences=NUM_SENTENCES)
            number = 36_979 + 4_523_711 * (len(TABLES) * index + place)
            image = f"{FLICKR_FOLDER}/{number}.jpg"
            yield image, drawn.jpeg
            captions = tuple(begin_sentence(caption) for caption in drawn.captions)
            pictures.append(_Picture(split, number, image, str(number), captions))
    pictures.sort(key=lambda picture: picture.image)  # by the letters of its name, as the token file
    yield "dataset_flickr30k.json", format_json({"images": _list_images(pictures), "dataset": "flickr30k"}, indent=None)
    yield "results_20130124.token", _format_tokens(pictures)
    yield from _make_tables(pictures)


def _draw(order: Order, split: str, *, index: int, num_sentences: int) -> PictureSample:
    return make_captioned_picture(
        order.seed, f"{order.layout}-{split}", index=index, side_px=SIDE_PX, num_captions=num_sentences
    )


def _write_as_coco(drawn: PictureSample, index: int) -> tuple[str, ...]:
    """Begin sentences with a large letter, and leave a blank behind some."""
    return tuple(
        begin_sentence(caption) + " " * ((NUM_SENTENCES * index + turn) % EVERY_BLANK == 0)
        for turn, caption in enumerate(drawn.captions)
    )


def _list_images(pictures: Sequence[_Picture]) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = []
    num_sentences = 0
    for imgid, picture in enumerate(pictures):
        sentids = list(range(num_sentences, num_sentences + len(picture.captions)))
        num_sentences += len(sentids)
        images.append(
            {
                "filename": Path(picture.image).name,
                "imgid": imgid,
                "split": picture.split,
                "sentids": sentids,
                "sentences": [
                    {"tokens": split_tokens(caption), "raw": caption, "imgid": imgid, "sentid": sentid}
                    for caption, sentid in zip(picture.captions, sentids, strict=True)
                ],
            }
        )
    return images


def split_tokens(caption: str) -> list[str]:
    """Split a sentence as Karpathy did: small letters, no punctuation."""
    return caption.lower().replace(",", "").split()


def _format_tokens(pictures: Sequence[_Picture]) -> bytes:
    lines = [
        f"{Path(picture.image).name}#{number}\t{caption}\n"
        for picture in pictures
        for number, caption in enumerate(picture.captions)
    ]
    return "".join(lines).encode()


def _make_tables(pictures: Sequence[_Picture]) -> Files:
    for name, splits in TABLES.items():
        listed = [picture for picture in pictures if picture.split in splits]
        rows = [(picture.key, picture.image, caption) for picture in listed for caption in picture.captions]
        yield f"{name}_new.tsv", format_table(PICTURE_COLUMNS, rows)
        if name != "train":
            yield f"{name}_texts.json", format_json({picture.key: list(picture.captions) for picture in listed})
