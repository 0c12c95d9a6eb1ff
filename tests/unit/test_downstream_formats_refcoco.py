"""RefCOCO's three sets are read from the makers' pickles and from the authors' tables alike, faults in one line."""

import gzip
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from downstream.formats import refcoco
from downstream.formats.base import Listing, MissingDataError, Referred
from downstream.formats.refcoco import IMAGES, read_refcoco, read_refcoco_plus, read_refcocog

Read = Callable[[Path, str], Listing[Referred]]
SETS: dict[str, tuple[Read, str, str]] = {
    "refcoco": (read_refcoco, "refcoco/refs(unc).p", "refcoco"),
    "refcoco+": (read_refcoco_plus, "refcoco+/refs(unc).p", "refcocoplus"),
    "refcocog": (read_refcocog, "refcocog/refs(umd).p", "refcocog"),
}
HEADER = "uniq_id\timage\ttext\tregion_coord\n"
ROW = "7\ta.jpg\ta dog\t1,2,3,4.5\n"


def sentence(number: int, text: str = "a dog") -> dict[str, Any]:
    return {"sent_id": number, "sent": text, "raw": text.title(), "tokens": text.split()}


def ref(*sentences: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    common = {"ref_id": 0, "ann_id": 90, "image_id": 5, "category_id": 1, "file_name": "a_90.jpg", "split": "val"}
    return common | {"sentences": [*sentences], "sent_ids": [each["sent_id"] for each in sentences]} | changes


def instances(**changes: Any) -> dict[str, Any]:
    image = {"id": 5, "file_name": "a.jpg", "width": 40, "height": 30}
    annotation = {"id": 90, "image_id": 5, "bbox": [1.5, 2, 10, 20.25], "segmentation": []}
    for owner in (image, annotation):
        owner.update({name: value for name, value in changes.items() if name in owner})
    return {"images": [image | {"id": 4}, image], "annotations": [annotation | {"id": 89}, annotation]}


def write(
    root: Path, refs: object, known: object = None, *, name: str = "refcoco/refs(unc).p", images: str = IMAGES
) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(refs, protocol=2))
    path.with_name("instances.json").write_text(json.dumps(known or instances()))
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / images / "a.jpg").touch()
    return root


@pytest.fixture(params=SETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_sentence_is_a_sample_with_the_picture_of_its_image(tmp_path: Path, name: str) -> None:
    read, refs, _ = SETS[name]
    write(tmp_path, [ref(sentence(3), split="train"), ref(sentence(8), sentence(4, "it "))], name=refs)
    media = tmp_path / IMAGES / "a.jpg"
    listing = read(tmp_path, "val")
    box = (1.5, 2.0, 11.5, 22.25)
    assert listing.samples == (Referred("8", media, "a dog", box), Referred("4", media, "it ", box))
    assert {sample.origin for sample in listing.samples} == {f"{refs}, ref 2"}
    assert listing.sources == (tmp_path / refs, (tmp_path / refs).with_name("instances.json"))


@pytest.mark.parametrize("images", ["train2014", "../train2014"], ids=["beside", "above"])
def test_pictures_may_lie_beside_the_sets_or_above(tmp_path: Path, images: str) -> None:
    root = tmp_path / "refcoco"
    root.mkdir()
    write(root, [ref(sentence(3))], images=images)
    (sample,) = read_refcoco(root, "val").samples
    assert sample.media.resolve() == (root / images / "a.jpg").resolve()
    assert read_refcoco(tmp_path, "val").samples == (sample,)


def test_a_list_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, [ref(sentence(3))])
    assert len(read_refcoco(tmp_path, "val").samples) == 1
    write(tmp_path, [ref(sentence(3), sentence(4))], instances(bbox=[0, 0, 1, 1]))
    assert [sample.box for sample in read_refcoco(tmp_path, "val").samples] == [(0, 0, 1, 1)] * 2


def test_a_split_is_read_from_lists_that_were_read_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [ref(sentence(3)), ref(sentence(4), split="testA")])
    read_refcoco(tmp_path, "val")
    for reader in ("read_pickle", "read_json"):
        monkeypatch.setattr(refcoco, reader, None)
    assert [sample.id for sample in read_refcoco(tmp_path, "testA").samples] == ["4"]


def test_a_box_may_stand_out_by_a_pixel(tmp_path: Path) -> None:
    write(tmp_path, [ref(sentence(3))], instances(bbox=[-0.5, -1, 41.5, 32]))
    assert read_refcoco(tmp_path, "val").samples[0].box == (-0.5, -1, 41, 31)


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    header, row = HEADER.removeprefix("uniq_id\t"), ROW.removeprefix("7\t")
    (tmp_path / "refcoco_val.tsv").write_text(header + row + row)
    samples = read_refcoco(tmp_path, "val").samples
    assert samples[1] == Referred("1", tmp_path / "a.jpg", "a dog", (1, 2, 3, 4.5))
    assert [sample.id for sample in samples] == ["0", "1"]


TABLES = {
    "refcoco": ("refcoco_val", "refcoco_val_new", "refcoco/val"),
    "refcoco+": ("refcocoplus_val", "refcoco+_val", "refcoco_plus_val", "refcoco+/val", "refcoco_plus/val"),
    "refcocog": ("refcocog_val", "refcocog/val", "refcocog/refcocog_val"),
}


@pytest.mark.parametrize(("name", "stem"), [(name, stem) for name, stems in TABLES.items() for stem in stems])
def test_tables_are_found_by_their_names(tmp_path: Path, name: str, stem: str) -> None:
    path = tmp_path / f"{stem}.tsv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER + ROW)
    (path.parent / "a.jpg").touch()
    assert read_of(name)(tmp_path, "val").sources == (path,)
    assert [sample.id for sample in read_of(name)(path, "val").samples] == ["7"]
    for other in set(SETS) - {name}:
        with pytest.raises(ValueError, match=r"is a table of RefCOCO.*, expected one of"):
            read_of(other)(path, "val")


def read_of(name: str) -> Read:
    return SETS[name][0]


@dataclass(frozen=True)
class Fault:
    """A list with one thing wrong."""

    refs: object = ()
    known: object = None
    table: str = ""
    error: type[Exception] = ValueError
    place: str = "refs(unc).p, ref 1"
    says: str = ""


def table(coordinates: str, says: str, *, row: str = "7\ta.jpg\ta dog\t{}\n") -> Fault:
    return Fault(table=HEADER + row.format(coordinates), place="refcoco_val.tsv, line 2", says=says)


def box(bbox: object, says: str) -> Fault:
    return Fault([ref(sentence(3))], instances(bbox=bbox), says=says)


FAULTS = {
    "no list": Fault({"a": 1}, place="refs(unc).p", says="expected a list of objects, one for each ref"),
    "class in the pickle": Fault([Path("x")], place="refs(unc).p", says="which is not data"),
    "unknown split": Fault([ref(sentence(3), split="test")], says="split is 'test', expected one of train"),
    "no annotation": Fault([ref(sentence(3), ann_id=91)], says="ann_id is 91, which is not in"),
    "no image": Fault([ref(sentence(3), image_id=6)], says="image_id is 6, which is not in"),
    "annotation of another image": Fault([ref(sentence(3), image_id=4)], says="that of its annotation 90 in"),
    "sent_id twice": Fault(
        [ref(sentence(3)), ref(sentence(3))], place="refs(unc).p, ref 2", says="the id '3' stands already in"
    ),
    "no sentences": Fault([ref()], says="sentences is empty"),
    "empty sentence": Fault([ref(sentence(3, " "))], says="sent is ' ', expected text"),
    "sentence without number": Fault([ref({"sent": "x", "sent_id": "y"})], says="sent_id is 'y'"),
    "nothing of the split": Fault([ref(sentence(3), split="train")], error=MissingDataError, place="refs(unc).p"),
    "picture missing": Fault(
        [ref(sentence(3))], instances(file_name="b.jpg"), error=MissingDataError, says="train2014/b.jpg is missing"
    ),
    "picture elsewhere": Fault(
        [ref(sentence(3))], instances(file_name="../b.jpg"), place="instances.json, image 2", says="names no file"
    ),
    "id twice": Fault(
        [ref(sentence(3))],
        {"images": instances()["images"] * 2, "annotations": instances()["annotations"]},
        place="instances.json, image 3",
        says="the id 4 is that of image 1 already",
    ),
    "no annotations": Fault(
        [ref(sentence(3))], {"images": instances()["images"]}, place="instances.json", says="no 'annotations'"
    ),
    "no width": box([1, 2, 0, 4], "has no area"),
    "height below 0": box([1, 2, 3, -4], "the box 1, 2, 4, -2 has no area"),
    "side that is no number": box([1, 2, float("nan"), 4], "has no area"),
    "side without end": box([1, 2, float("inf"), 4], "has no area"),
    "three sides": box([1, 2, 3], "expected left, top, width and height"),
    "sides as text": box(["1", "2", "3", "4"], "expected left, top, width and height"),
    "outside on the right": box([30, 2, 11.5, 4], "1.5 pixels outside its picture, expected one inside its 40 x 30"),
    "outside above": box([3, -1.5, 4, 4], "1.5 pixels outside"),
    "table: three numbers": table("1,2,3", "region_coord is '1,2,3', expected left, top, right and bottom"),
    "table: five numbers": table("1,2,3,4,5", "expected left, top, right and bottom"),
    "table: no numbers": table("a,b,c,d", "expected left, top, right and bottom"),
    "table: crossed": table("3,2,1,4", "the box 3, 2, 1, 4 has no area"),
    "table: nan": table("nan,2,3,4", "has no area"),
    "table: inf": table("1,2,inf,4", "has no area"),
    "table: outside": table("-2,2,3,4", "2 pixels outside its picture, expected no side below 0"),
    "table: no text": table("1,2,3,4", "text is '', expected text", row="7\ta.jpg\t\t{}\n"),
    "table: id twice": Fault(table=HEADER + ROW + ROW, place="refcoco_val.tsv, line 3", says="the id '7' stands"),
    "table: no column": Fault(table="uniq_id\timage\ttext\tbox\n", place="line 1", says="no column 'region_coord'"),
    "table: picture missing": Fault(
        table=HEADER + ROW.replace("a.jpg", "b.jpg"), error=MissingDataError, place="line 2", says="b.jpg is missing"
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_ends_in_one_line_with_file_and_ref(tmp_path: Path, fault: Fault) -> None:
    if fault.table:
        (tmp_path / "refcoco_val.tsv").write_text(fault.table)
        (tmp_path / "a.jpg").touch()
    else:
        write(tmp_path, fault.refs, fault.known)
    with pytest.raises(fault.error) as caught:
        read_refcoco(tmp_path, "val")
    message = str(caught.value)
    assert type(caught.value) is fault.error
    assert len(message.splitlines()) == 1
    assert fault.place in message
    assert fault.says in message


def test_lists_that_are_not_there_are_missing(tmp_path: Path, name: str) -> None:
    read, refs, own = SETS[name]
    with pytest.raises(MissingDataError, match=rf"is missing, nor the authors' .*{own}_val\.tsv"):
        read(tmp_path, "val")
    write(tmp_path, [ref(sentence(3))], name=refs)
    (tmp_path / refs).with_name("instances.json").unlink()
    with pytest.raises(MissingDataError, match=r"instances\.json is missing"):
        read(tmp_path, "val")


@pytest.mark.parametrize(("name", "split"), [("refcoco", "test"), ("refcoco+", "testC"), ("refcocog", "testA")])
def test_an_unknown_split_is_refused(tmp_path: Path, name: str, split: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown split of RefCOCO.* '{split}'"):
        read_of(name)(tmp_path, split)


GENUINE = {
    ("refcoco", "val"): 6,
    ("refcoco", "testA"): 12,
    ("refcoco", "testB"): 8,
    ("refcoco+", "val"): 6,
    ("refcoco+", "testA"): 11,
    ("refcoco+", "testB"): 6,
    ("refcocog", "val"): 13,
    ("refcocog", "test"): 4,
}


@pytest.mark.parametrize(("key", "count"), GENUINE.items(), ids=map("-".join, GENUINE))
def test_genuine_sentences_are_alike_in_both_layouts(
    samples_dir: Path, tmp_path: Path, key: tuple[str, str], count: int
) -> None:
    name, split = key
    read, _, own = SETS[name]
    original = read(samples_dir / "refcoco", split)
    assert (original.layout, len(original.samples), original.absent) == ("original", count, ())
    rows = (
        f"{sample.id}\t{sample.media}\t{sample.text}\t{','.join(map(repr, sample.box))}\n"
        for sample in original.samples
    )
    (tmp_path / f"{own}_{split}.tsv").write_text(HEADER + "".join(rows))
    written = read(tmp_path, split)
    assert written.layout == "authors' table"
    assert written.samples == original.samples


@pytest.mark.parametrize("key", GENUINE, ids="-".join)
def test_genuine_boxes_are_those_of_the_whole_lists(samples_dir: Path, key: tuple[str, str]) -> None:
    name, split = key
    packed = samples_dir / "refcoco" / "full_annotations" / f"{name}_{split}.json.gz"
    known = {
        (entry["img_id"].rpartition("_")[0], entry["sents"], tuple(entry["bbox"]))
        for entry in json.loads(gzip.decompress(packed.read_bytes()))
    }
    for sample in SETS[name][0](samples_dir / "refcoco", split).samples:
        left, top, right, bottom = sample.box
        bbox = (left, top, round(right - left, 2), round(bottom - top, 2))
        assert (sample.media.stem, sample.text, bbox) in known
