"""Pictures with sentences that mean one thing each, in the layouts of RefCOCO, RefCOCO+ and RefCOCOg.

`refcoco/`, `refcoco_plus/` and `refcocog/`, from `write_refcoco`, `write_refcoco_plus` and `write_refcocog`; `<set>` is
`refcoco`, `refcoco+` and `refcocog`:

    <set>/refs(unc).p                   pickled list of ref_id, ann_id, image_id, category_id, file_name, split,
                                        sent_ids, sentences; of RefCOCOg: refs(umd).p
    <set>/instances.json                images, annotations, categories in the form of COCO
    images/mscoco/images/train2014/     COCO_train2014_<image_id, 12 digits>.jpg
    <set>_<split>.tsv                   the authors' tables: uniq_id image text region_coord; of RefCOCO+: refcocoplus_

Sentences of RefCOCO+ have no words for places, those of RefCOCOg are long. testA asks for people and animals, testB for
other things; a picture of the training split may hold one thing alone. A thing of which no sentence would be clear is
in `instances.json` only.
"""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from miniworld.concepts import THINGS
from miniworld.orders import Order, make_order
from miniworld.pairs import Mix, draw_pair_scene
from miniworld.places import is_well_seen
from miniworld.referring import STYLES, refer
from miniworld.samples import encode_picture, pair_seed
from miniworld.scene import Scene, Thing
from miniworld.sentence import begin_sentence
from miniworld.tables import Files, format_json, format_table
from miniworld.tree import write_tree

SIDE_PX: Final = 72
MIX: Final = Mix({2: 0.8, 3: 0.2}, twin_share=0.35)  # many twins: a kind alone seldom says enough
TRAIN_MIX: Final = Mix({1: 0.2, 2: 0.6, 3: 0.2}, twin_share=0.35)  # where one thing stands alone, its box is learned
NUM_SENTENCES: Final = (2, 3)
IMAGE_FOLDER: Final = "images/mscoco/images/train2014"
REGION_COLUMNS: Final = ("uniq_id", "image", "text", "region_coord")
EVERY_WRITTEN: Final = 3  # one in so many raw sentences begins with a large letter and ends in a full stop
SPLITS: Final = {"train": "num_train", "val": "num_val", "testA": "num_test_a", "testB": "num_test_b"}
LONG_SPLITS: Final = {"train": "num_train", "val": "num_val", "test": "num_test"}
LIVING: Final = frozenset({"person", "sheep", "cow", "dog", "bird"})
ONLY_LIVING: Final = {"testA": True, "testB": False}  # other splits ask for everything
CATEGORIES: Final = {concept.name: number for number, concept in enumerate(THINGS, start=1)}
GROUPS: Final = {
    "person": "person",
    **dict.fromkeys(("sheep", "cow", "dog", "bird"), "animal"),
    **dict.fromkeys(("boat", "car", "airplane"), "vehicle"),
}


@dataclass(frozen=True)
class _Layout:
    """What differs between the three: names, and how many pictures of which split are counted by which parameter."""

    folder: str
    refs: str
    table: str
    splits: Mapping[str, str]


LAYOUTS: Final = {
    "refcoco": _Layout("refcoco", "refs(unc).p", "refcoco", SPLITS),
    "refcoco_plus": _Layout("refcoco+", "refs(unc).p", "refcocoplus", SPLITS),
    "refcocog": _Layout("refcocog", "refs(umd).p", "refcocog", LONG_SPLITS),
}


@dataclass(frozen=True, eq=False)
class ReferredPicture:
    """A picture, and what is said of which of its things."""

    scene: Scene
    said: Mapping[Thing, tuple[str, ...]]


@dataclass(frozen=True)
class _Listed:
    """A picture as the lists have it."""

    number: int
    split: str
    picture: ReferredPicture

    @property
    def stem(self) -> str:
        return f"COCO_train2014_{self.number:012d}"

    def number_thing(self, thing: Thing) -> int:
        """Give the id of its annotation."""
        return 10 * self.number + thing.instance


def write_refcoco(
    root: Path,
    *,
    seed: int = 0,
    num_train: int = 700,
    num_val: int = 60,
    num_test_a: int = 60,
    num_test_b: int = 60,
    scale: float = 1.0,
) -> Path:
    """Write `refcoco` below `root`; the layout stands at the top of this module.

    Args:
        root: folder that receives the data set's own folder.
        seed: everything follows from it.
        num_train: training pictures; what is drawn for a smaller number is the same.
        num_val: validation pictures.
        num_test_a: test pictures in which people and animals are meant.
        num_test_b: test pictures in which other things are meant.
        scale: multiplies every count.

    Returns:
        The folder `refcoco`; a complete one from the same arguments is kept as it is.

    Raises:
        ValueError: a number makes no sense, or other files stand where the folder belongs.
    """
    counts = {"num_train": num_train, "num_val": num_val, "num_test_a": num_test_a, "num_test_b": num_test_b}
    return _write(root, make_order("refcoco", seed, counts=counts, scale=scale))


def write_refcoco_plus(
    root: Path,
    *,
    seed: int = 0,
    num_train: int = 1400,
    num_val: int = 60,
    num_test_a: int = 60,
    num_test_b: int = 60,
    scale: float = 1.0,
) -> Path:
    """Write `refcoco_plus` below `root`, with the arguments and errors of `write_refcoco`.

    It has more training pictures: without words for places there is more to learn.
    """
    counts = {"num_train": num_train, "num_val": num_val, "num_test_a": num_test_a, "num_test_b": num_test_b}
    return _write(root, make_order("refcoco_plus", seed, counts=counts, scale=scale))


def write_refcocog(
    root: Path, *, seed: int = 0, num_train: int = 700, num_val: int = 60, num_test: int = 100, scale: float = 1.0
) -> Path:
    """Write `refcocog` below `root`, with the arguments and errors of `write_refcoco`, but one test split."""
    counts = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
    return _write(root, make_order("refcocog", seed, counts=counts, scale=scale))


def draw_referred_picture(seed: int, layout: str, *, split: str, index: int) -> ReferredPicture:
    """Draw one picture with two or three sentences for each thing that a split asks for and that can be told apart."""
    own_seed = pair_seed(seed, f"{layout}-{split}", index=index)
    mix = TRAIN_MIX if split == "train" else MIX
    scene = draw_pair_scene(own_seed, width_px=SIDE_PX, height_px=SIDE_PX, mix=mix)
    rng = np.random.default_rng([own_seed, 1])
    said = {}
    for thing in scene.things:
        if _is_asked_for(thing, split) and is_well_seen(thing, scene):
            said[thing] = refer(
                thing,
                scene.things,
                style=STYLES[layout],
                width_px=SIDE_PX,
                rng=rng,
                num_sentences=int(rng.choice(NUM_SENTENCES)),
            )
    return ReferredPicture(scene, {thing: sentences for thing, sentences in said.items() if sentences})


def _is_asked_for(thing: Thing, split: str) -> bool:
    return split not in ONLY_LIVING or ONLY_LIVING[split] == (thing.name in LIVING)


def _write(root: Path, order: Order) -> Path:
    return write_tree(root / order.layout, order.recipe, files=_make_files(order))


def _make_files(order: Order) -> Files:
    layout = LAYOUTS[order.layout]
    listed: list[_Listed] = []
    for place, (split, count) in enumerate(layout.splits.items()):
        for turn, picture in zip(range(order.counts[count]), _draw_all(order, split), strict=False):
            each = _Listed(57 + 83 * (len(layout.splits) * turn + place), split, picture)
            yield f"{IMAGE_FOLDER}/{each.stem}.jpg", encode_picture(picture.scene.image)
            listed.append(each)
    listed.sort(key=lambda each: each.number)
    refs = _list_refs(listed)
    yield f"{layout.folder}/{layout.refs}", pickle.dumps(refs, protocol=2)
    yield f"{layout.folder}/instances.json", format_json(_list_instances(listed), indent=None)
    yield from _make_tables(layout, listed, refs=refs)


def _draw_all(order: Order, split: str) -> Iterator[ReferredPicture]:
    """Draw pictures without end, leaving out those in which nothing is meant."""
    index = 0
    while True:
        picture = draw_referred_picture(order.seed, order.layout, split=split, index=index)
        index += 1
        if picture.said:
            yield picture


def _list_refs(listed: Sequence[_Listed]) -> list[dict[str, Any]]:
    refs: list[dict[str, Any]] = []
    num_sentences = 0
    for each in listed:
        for thing, said in each.picture.said.items():
            sentences = [_list_sentence(sent, num_sentences + turn) for turn, sent in enumerate(said)]
            num_sentences += len(said)
            refs.append(
                {
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                    "file_name": f"{each.stem}_{thing.instance}.jpg",
                    "ann_id": each.number_thing(thing),
                    "ref_id": len(refs),
                    "image_id": each.number,
                    "split": each.split,
                    "sentences": sentences,
                    "category_id": CATEGORIES[thing.name],
                }
            )
    return refs


def _list_sentence(sent: str, sent_id: int) -> dict[str, Any]:
    raw = sent if sent_id % EVERY_WRITTEN else f"{begin_sentence(sent)}."
    return {"tokens": sent.split(), "raw": raw, "sent_id": sent_id, "sent": sent}


def _list_instances(listed: Sequence[_Listed]) -> dict[str, Any]:
    return {
        "info": {"description": "miniworld"},
        "images": [
            {"file_name": f"{each.stem}.jpg", "height": SIDE_PX, "width": SIDE_PX, "id": each.number} for each in listed
        ],
        "annotations": [_list_annotation(each, thing) for each in listed for thing in each.picture.scene.things],
        "categories": [
            {"supercategory": GROUPS.get(name, "outdoor"), "id": number, "name": name}
            for name, number in CATEGORIES.items()
        ],
    }


def _list_annotation(each: _Listed, thing: Thing) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(side) for side in thing.box_px)
    return {
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "image_id": each.number,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "category_id": CATEGORIES[thing.name],
        "id": each.number_thing(thing),
    }


def _make_tables(layout: _Layout, listed: Sequence[_Listed], *, refs: Sequence[Mapping[str, Any]]) -> Files:
    boxes = {
        each.number_thing(thing): ",".join(str(float(side)) for side in thing.box_px)
        for each in listed
        for thing in each.picture.said
    }
    images = {each.number: f"{IMAGE_FOLDER}/{each.stem}.jpg" for each in listed}
    for split in layout.splits:
        rows = [
            (str(sentence["sent_id"]), images[ref["image_id"]], sentence["sent"], boxes[ref["ann_id"]])
            for ref in refs
            if ref["split"] == split
            for sentence in ref["sentences"]
        ]
        yield f"{layout.table}_{split}.tsv", format_table(REGION_COLUMNS, rows)
