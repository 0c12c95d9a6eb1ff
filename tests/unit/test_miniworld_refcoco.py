"""The layouts of RefCOCO, RefCOCO+ and RefCOCOg: boxes and sentences are true, and lists and tables agree."""

import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniworld.benchmarks import WRITERS
from miniworld.refcoco import LAYOUTS, LIVING, draw_referred_picture
from miniworld.samples import encode_picture
from miniworld.scene import Thing

COUNTS = {
    "refcoco": {"num_train": 12, "num_val": 2, "num_test_a": 3, "num_test_b": 3},
    "refcoco_plus": {"num_train": 12, "num_val": 2, "num_test_a": 3, "num_test_b": 3},
    "refcocog": {"num_train": 12, "num_val": 2, "num_test": 3},
}
NOUN = r"(?:(?P<colour>\w+) )?(?P<name>\w+)"
FORMS = (
    r"(?:the )?(?P<side>left|right) " + NOUN,
    r"(?:the )?(?P<name>\w+) that is (?P<colour>(?!left|right|on)\w+)",
    r"(?:the )?" + NOUN + r" (?:that is|which is|that we see|)(?: ?on)(?: the)? (?P<side>left|right)"
    r"(?: side)?(?: of the (?:picture|image))?",
    r"(?:the )?"
    + NOUN
    + r"(?: (?:that is|which is|that we see))?(?: to the| on the)? (?P<beside>left|right)(?: side)? of (?:the )?"
    r"(?:(?P<other_colour>\w+) )?(?P<other>\w+)",
    r"(?:the )?" + NOUN,
)


@dataclass(frozen=True)
class Tree:
    name: str
    path: Path

    @property
    def folder(self) -> Path:
        return self.path / LAYOUTS[self.name].folder

    @property
    def refs(self) -> list[dict[str, Any]]:
        refs: list[dict[str, Any]] = pickle.loads((self.folder / LAYOUTS[self.name].refs).read_bytes())
        return refs

    @property
    def instances(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "instances.json").read_text())
        return content


@pytest.fixture(scope="module", params=list(COUNTS))
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(request.param, WRITERS[request.param](tmp_path_factory.mktemp("world"), **COUNTS[request.param]))


def _find_meant(sentence: str, things: tuple[Thing, ...]) -> list[Thing]:
    """Read a sentence and find all things it fits, by no rule of the writer's."""
    said = next(found.groupdict() for form in FORMS if (found := re.fullmatch(form, sentence)))

    def fits(thing: Thing, name: str | None, colour: str | None) -> bool:
        return name in (thing.name, "thing") and colour in (None, thing.colour)

    def middle(thing: Thing) -> float:
        return thing.box_px[0] + thing.box_px[2]

    meant = [thing for thing in things if fits(thing, said["name"], said.get("colour"))]
    if said.get("side"):
        meant = [(min if said["side"] == "left" else max)(meant, key=middle)]
        assert (middle(meant[0]) < 72) == (said["side"] == "left")
    if said.get("other"):
        (anchor,) = (thing for thing in things if fits(thing, said["other"], said["other_colour"]))
        sign = 1 if said["beside"] == "right" else -1
        meant = [thing for thing in meant if sign * (middle(thing) - middle(anchor)) > 0]
    return meant


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_sentence_means_its_thing_and_no_other(layout: str) -> None:
    num_read = 0
    for index in range(60):
        picture = draw_referred_picture(0, layout, split="train", index=index)
        for thing, sentences in picture.said.items():
            for sentence in sentences:
                assert _find_meant(sentence, picture.scene.things) == [thing], sentence
                num_read += 1
    assert num_read > 150


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_thing_stands_alone_in_pictures_to_learn_from_only(layout: str) -> None:
    counts = {
        split: {len(draw_referred_picture(0, layout, split=split, index=index).scene.things) for index in range(25)}
        for split in LAYOUTS[layout].splits
    }
    assert counts.pop("train") == {1, 2, 3}
    assert set(map(frozenset, counts.values())) == {frozenset({2, 3})}, "elsewhere there is something to tell apart"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boxes_are_those_of_the_pixels(layout: str) -> None:
    for index in range(5):
        scene = draw_referred_picture(0, layout, split="val", index=index).scene
        for thing in scene.things:
            rows, columns = np.nonzero(scene.instances == thing.instance)
            assert thing.box_px == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_plain_python_values_are_pickled_in_protocol_2(tree: Tree) -> None:
    content = (tree.folder / LAYOUTS[tree.name].refs).read_bytes()
    assert content[:2] == b"\x80\x02"

    class Plain(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            raise AssertionError(f"{module}.{name} is no plain value")

    with (tree.folder / LAYOUTS[tree.name].refs).open("rb") as file:
        assert Plain(file).load() == tree.refs


def test_splits_have_as_many_pictures_as_asked_for(tree: Tree) -> None:
    splits = LAYOUTS[tree.name].splits
    pictures = {split: {ref["image_id"] for ref in tree.refs if ref["split"] == split} for split in splits}
    assert {splits[split]: len(ids) for split, ids in pictures.items()} == COUNTS[tree.name]
    assert len(set().union(*pictures.values())) == len(tree.instances["images"]) == sum(COUNTS[tree.name].values())


def test_every_ref_has_its_box_and_picture(tree: Tree) -> None:
    annotations = {each["id"]: each for each in tree.instances["annotations"]}
    images = {each["id"]: each for each in tree.instances["images"]}
    categories = {each["id"]: each["name"] for each in tree.instances["categories"]}
    assert len(annotations) == len(tree.instances["annotations"])
    assert len(categories) == 15
    for ref in tree.refs:
        annotation, image = annotations[ref["ann_id"]], images[ref["image_id"]]
        assert annotation["image_id"] == ref["image_id"]
        assert annotation["category_id"] == ref["category_id"]
        assert image["file_name"] == f"COCO_train2014_{ref['image_id']:012d}.jpg"
        assert (tree.path / "images/mscoco/images/train2014" / image["file_name"]).is_file()
        assert re.fullmatch(rf"COCO_train2014_{ref['image_id']:012d}_\d+\.jpg", ref["file_name"])
        x, y, width, height = annotation["bbox"]
        assert annotation["area"] == width * height
        assert annotation["segmentation"] == [[x, y, x + width, y, x + width, y + height, x, y + height]]
        assert ref["split"] not in ("testA", "testB") or (categories[ref["category_id"]] in LIVING) == (
            ref["split"] == "testA"
        )


def test_refs_and_sentences_are_numbered_through(tree: Tree) -> None:
    assert [ref["ref_id"] for ref in tree.refs] == list(range(len(tree.refs)))
    sentences = [sentence for ref in tree.refs for sentence in ref["sentences"]]
    assert [sentence["sent_id"] for sentence in sentences] == list(range(len(sentences)))
    for ref in tree.refs:
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        assert 2 <= len(ref["sentences"]) <= 3
    assert all(sentence["tokens"] == sentence["sent"].split() for sentence in sentences)
    assert {sentence["raw"].lower().rstrip(".") == sentence["sent"] for sentence in sentences} == {True}
    assert any(sentence["raw"] != sentence["sent"] for sentence in sentences)


def test_what_is_listed_is_what_was_drawn(tree: Tree) -> None:
    images = {path.read_bytes(): path.name for path in (tree.path / "images").rglob("*.jpg")}
    boxes = {each["id"]: each["bbox"] for each in tree.instances["annotations"]}
    drawn = draw_referred_picture(0, tree.name, split="train", index=0)
    name = images[encode_picture(drawn.scene.image)]
    listed = [ref for ref in tree.refs if ref["file_name"].startswith(name.removesuffix(".jpg"))]
    assert len(listed) == len(drawn.said) > 0
    for ref, (thing, said) in zip(listed, drawn.said.items(), strict=True):
        x0, y0, x1, y1 = thing.box_px
        assert boxes[ref["ann_id"]] == [x0, y0, x1 - x0, y1 - y0]
        assert [sentence["sent"] for sentence in ref["sentences"]] == list(said)


def test_tables_say_what_the_lists_say(tree: Tree) -> None:
    boxes = {each["id"]: each["bbox"] for each in tree.instances["annotations"]}
    for split in LAYOUTS[tree.name].splits:
        table = tree.path / f"{tree.name.replace('_', '')}_{split}.tsv"
        header, *rows = [line.split("\t") for line in table.read_text().splitlines()]
        assert header == ["uniq_id", "image", "text", "region_coord"]
        listed = [
            (str(sentence["sent_id"]), ref["image_id"], sentence["sent"], boxes[ref["ann_id"]])
            for ref in tree.refs
            if ref["split"] == split
            for sentence in ref["sentences"]
        ]
        assert [(row[0], row[2]) for row in rows] == [(each[0], each[2]) for each in listed]
        for row, (_, image_id, _, (x, y, width, height)) in zip(rows, listed, strict=True):
            assert row[1] == f"images/mscoco/images/train2014/COCO_train2014_{image_id:012d}.jpg"
            assert [float(side) for side in row[3].split(",")] == [x, y, x + width, y + height]


def test_sentences_of_refcoco_plus_know_no_places() -> None:
    for index in range(40):
        for sentences in draw_referred_picture(0, "refcoco_plus", split="train", index=index).said.values():
            assert not any({"left", "right", "of", "on"} & set(sentence.split()) for sentence in sentences)


def test_more_training_pictures_leave_the_first_ones_alone(tmp_path: Path) -> None:
    few, many = (WRITERS["refcocog"](tmp_path / str(n), num_train=n, num_val=1, num_test=1) for n in (2, 5))
    names = [path.relative_to(few) for path in few.rglob("*.jpg")]
    assert all((many / name).read_bytes() == (few / name).read_bytes() for name in names)
