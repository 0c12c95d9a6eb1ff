"""Faulty data ends in one line with file and row, before anything is computed, and leaves nothing behind."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from downstream.cli import main
from miniworld.benchmarks import WRITERS

FOLDERS = {
    "esc50": "ESC-50-master",
    "fsd50k": "FSD50K",
    "vggsound": "vggsound",
    "audiocaps": "audiocaps",
    "clotho": "clotho",
    "avqa": "AVQA",
    "coco": "mscoco",
    "flickr30k": "flickr30k",
    "refcoco": "refcoco",
    "imagenet": "imagenet",
    "vqav2": "vqav2",
    "nlvr2": "nlvr2",
}


@dataclass(frozen=True)
class Fault:
    """A data set with one thing wrong."""

    task: str
    change: Callable[[Path], None]
    """Of its folder."""
    says: Sequence[str]
    """In the message: the list with its row, and what is wrong."""
    code: int = 2
    root: str = "."
    """What is named, in the folder."""


def put(path: Path, content: bytes) -> None:
    """Write a file that may be a link to what others read."""
    path.unlink()
    path.write_bytes(content)


def line(task: str, name: str, number: int, old: str, new: str, *, says: str, root: str = ".") -> Fault:
    """Change a line of a list, counted from 1; the last `old` in it."""

    def change(folder: Path) -> None:
        lines = (folder / name).read_bytes().decode().split("\n")
        before, found, after = lines[number - 1].rpartition(old)
        assert found
        lines[number - 1] = before + new + after
        put(folder / name, "\n".join(lines).encode())

    return Fault(task, change, (f"{name}, line {number}", says), root=root)


def entry(task: str, name: str, number: int, key: str, value: Any, *, says: str) -> Fault:
    """Change a value of an object in a json list, counted from 1."""
    unit = "image" if task == "coco" else "question"

    def change(folder: Path) -> None:
        whole = json.loads((folder / name).read_bytes())
        (whole["images"] if task == "coco" else whole)[number - 1][key] = value
        put(folder / name, json.dumps(whole).encode())

    return Fault(task, change, (f"{name}, {unit} {number}", says))


def whole(task: str, name: str, change: Callable[[bytes], bytes], *says: str, root: str = ".") -> Fault:
    """Change a whole list."""
    return Fault(task, lambda folder: put(folder / name, change((folder / name).read_bytes())), says, root=root)


def media(task: str, pattern: str, change: Callable[[bytes], bytes], *says: str, number: int | None = None) -> Fault:
    """Change the content of the files that fit, or of one of them."""

    def apply(folder: Path) -> None:
        paths = sorted(folder.glob(pattern))
        for path in paths if number is None else [paths[number]]:
            put(path, change(path.read_bytes()))

    return Fault(task, apply, says)


def gone(task: str, pattern: str, *says: str, number: int | None = None) -> Fault:
    """Remove the files that fit, or one of them."""

    def apply(folder: Path) -> None:
        paths = sorted(folder.glob(pattern))
        for path in paths if number is None else [paths[number]]:
            path.unlink()

    return Fault(task, apply, says, code=4)


def ref(number: int, *, says: str, **changes: Any) -> Fault:
    """Change an object of RefCOCO's list, counted from 1."""

    def change(folder: Path) -> None:
        refs = pickle.loads((folder / REFS).read_bytes())
        refs[number - 1].update(changes)
        put(folder / REFS, pickle.dumps(refs, protocol=2))

    return Fault("refcoco", change, (f"{REFS}, ref {number}", says))


def box(*sides: float, says: str) -> Fault:
    """Change left, top, width and height of what the third ref means, the first of its split."""

    def change(folder: Path) -> None:
        meant = pickle.loads((folder / REFS).read_bytes())[2]["ann_id"]
        known = json.loads((folder / INSTANCES).read_bytes())
        next(each for each in known["annotations"] if each["id"] == meant)["bbox"] = list(sides)
        put(folder / INSTANCES, json.dumps(known).encode())

    return Fault("refcoco", change, (f"{REFS}, ref 3", says))


def corners(sides: str, *, says: str) -> Fault:
    """Change the box of a row of an authors' table."""
    name = "refcoco_val.tsv"
    return line("refcoco", name, 2, "2.0,13.0,27.0,51.0", sides, says=says, root=name)


def call(folder: Path) -> None:
    """Put a pickle that calls a function in the place of RefCOCO's list."""
    put(folder / REFS, f"cos\nsystem\n(S'touch {folder / EXECUTED}'\ntR.".encode())


def without_last_answers(content: bytes) -> bytes:
    known = json.loads(content)
    return json.dumps({**known, "annotations": known["annotations"][:-1]}).encode()


def as_mp3(folder: Path) -> None:
    path = sorted(folder.glob("audio/*"))[0]
    path.rename(path.with_suffix(".mp3"))


ESC, FSD = "meta/esc50.csv", "FSD50K.ground_truth"
CAPS, CLOTHO, QA = "dataset/test.csv", "clotho_captions_evaluation.csv", "data/annotation/val_qa.json"
COCO, FLICKR, TOKENS = "dataset_coco.json", "dataset_flickr30k.json", "results_20130124.token"
REFS, INSTANCES, EXECUTED = "refcoco/refs(unc).p", "refcoco/instances.json", "executed"
VQA = "v2_mscoco_val2014_annotations.json"
FAULTS = {
    "a column renamed": line("esc50", ESC, 1, "target", "class", says="no column 'target'"),
    "a class out of range": line("esc50", ESC, 3, ",1,boat", ",50,boat", says="'50'"),
    "two names of a class": line("esc50", ESC, 20, "boat_horn", "ship_horn", says="'ship_horn', above 'boat_horn'"),
    "an empty list": whole("esc50", ESC, lambda _: b"", f"{ESC} is empty"),
    "a list that is not UTF-8": whole("esc50", ESC, lambda x: x + b"\xe9,1\n", f"{ESC}, line 87", "0xe9"),
    "a clip that is gone": gone("esc50", "audio/*", "is missing", f"{ESC}, line 6", number=4),
    "a clip without content": media("esc50", "audio/*", lambda _: b"", f"{ESC}, line 6", number=4),
    "a clip cut short": media("esc50", "audio/*", lambda x: x[:999], f"{ESC}, line 9", number=7),
    "a clip that is text": media("esc50", "audio/*", lambda _: b"a sound\n" * 99, f"{ESC}, line 2"),
    "labels numbered from 1": whole(
        "esc50", "esc50_label.json", lambda _: b'{"1": "dog"}', "esc50_label.json", "numbered from 0", root="esc50.tsv"
    ),
    "an unknown label": line("fsd50k", f"{FSD}/eval.csv", 2, "Animal", "Aminal", says="'Aminal'"),
    "a class left out": line("fsd50k", f"{FSD}/vocabulary.csv", 3, "2,Animal", "3,Animal", says="expected 2"),
    "training of an unknown split": line("fsd50k", f"{FSD}/dev.csv", 3, "val", "vla", says="'vla'"),
    "a training clip cut short": media("fsd50k", "*.dev_audio/*", lambda x: x[:50], f"{FSD}/dev.csv, line "),
    "a number out of range": line("fsd50k", "fsd50K_eval.tsv", 4, "\t", ",300\t", says="'300'", root="fsd50K_eval.tsv"),
    "a label that nobody lists": line("vggsound", "test.csv", 1, "tree rustling", "yodelling", says="'yodelling'"),
    "no clip at all": gone("vggsound", "audio/*", "test.csv, line 1", "17 of 17"),
    "a clip of another format": Fault("vggsound", as_mp3, (".csv, line ", "is neither .wav nor .flac")),
    "a caption listed twice": line("audiocaps", CAPS, 3, "3000001", "3000000", says="stands on line 2 already"),
    "a start that is no number": line("audiocaps", CAPS, 2, "474", "soon", says="start_time is 'soon'"),
    "captions of nobody": whole(
        "audiocaps",
        "test_texts.json",
        lambda x: x.replace(b"{", b'{"nobody": ["a dog"],', 1),
        "test_texts.json, entry 1",
        "'nobody'",
        root="audiocaps_test_new.tsv",
    ),
    "a value too many": line("clotho", CLOTHO, 2, ".wav,", ".wav,x,", says="7 values, expected 6"),
    "a way to another folder": line("clotho", CLOTHO, 2, "clock tick and", "../clock tick and", says="without folders"),
    "an answer out of range": entry("avqa", QA, 3, "answer", 4, says="from 0 to 3"),
    "three answers": entry("avqa", QA, 2, "multi_choice", ["a", "b", "c"], says="expected 4 strings"),
    "json cut short": whole("avqa", QA, lambda x: x[:900], f"{QA}, line ", "no json"),
    "a picture of no split": entry("coco", COCO, 2, "split", "tset", says="'tset'"),
    "a picture without captions": entry("coco", COCO, 1, "sentences", [], says="a caption or more"),
    "pictures cut short": media("coco", "val2014/*", lambda x: x[:200], f"{COCO}, image ", "val2014/"),
    "pictures that are gone": gone("coco", "val2014/*", f"{COCO}, image ", "is missing"),
    "captions that two lists tell otherwise": whole(
        "flickr30k", TOKENS, lambda x: x.replace(b" the ", b" teh "), f"{FLICKR}, image ", TOKENS
    ),
    "commas for tabs": whole(
        "flickr30k",
        "test_new.tsv",
        lambda x: x.replace(b"\t", b","),
        "test_new.tsv, line 1",
        "expected tabs",
        root="test_new.tsv",
    ),
    "the table of another split": Fault(
        "flickr30k", lambda _: None, ("val_new.tsv", "expected that of split test"), root="val_new.tsv"
    ),
    "no folder": Fault("coco", shutil.rmtree, ("no data at", "--data-root"), code=4),
    "a box from right to left": box(30, 2, -10, 4, says="the box 30, 2, 20, 6 has no area"),
    "a box without an end": box(30, 2, float("nan"), 4, says="has no area"),
    "a box outside its picture": box(60, 2, 20, 4, says="is 8 pixels outside its picture"),
    "a row whose box is crossed": corners("27,13,2,51", says="the box 27, 13, 2, 51 has no area"),
    "a row whose box is no number": corners("nan,13,27,51", says="has no area"),
    "a row whose box is outside": corners(
        "2,13,90,51", says="18 pixels outside its picture, expected one inside its 72"
    ),
    "a ref without its box": ref(3, ann_id=7, says="ann_id is 7, which is not in"),
    "a ref of no split": ref(1, split="tset", says="split is 'tset', expected one of train, val, testA, testB"),
    "a ref without sentences": ref(4, sentences=[], says="sentences is empty"),
    "refs that call a function": Fault("refcoco", call, (REFS, "it asks to call", "which is not data")),
    "no boxes": gone("refcoco", INSTANCES, f"{INSTANCES} is missing"),
    "a picture of a later split cut short": media(
        "refcoco", "images/**/*0223.jpg", lambda x: x[:300], "0223.jpg", f"listed in {REFS}, ref 5"
    ),
    "a picture of a ref that is gone": gone("refcoco", "images/**/*0140.jpg", "0140.jpg is missing", f"{REFS}, ref 3"),
    "a folder of no class": Fault(
        "imagenet", lambda folder: (folder / "val/n00000001").mkdir(), ("val/n00000001 is no class of LOC_synset",)
    ),
    "a class of a picture less": gone("imagenet", "val/n01675700/*", "val/n01675700 is empty"),
    "text for a picture": media("imagenet", "val/*/*", lambda _: b"a dog\n" * 99, "in val/n01675700", number=1),
    "classes in another order": line(
        "imagenet", "LOC_synset_mapping.txt", 2, "n01675700", "n01000000", says="expected ascending wnids"
    ),
    "a question that nobody answered": whole(
        "vqav2", VQA, without_last_answers, "v2_OpenEnded_mscoco_val2014_questions.json, question 12", "no annotation"
    ),
    "no answers at all": gone("vqav2", VQA, f"{VQA} is missing"),
    "no list of answers": gone("vqav2", "trainval_label2ans.json", "trainval_label2ans.json is missing"),
    "answers numbered otherwise": whole(
        "vqav2", "trainval_ans2label.json", lambda x: x.replace(b'"red": 8', b'"red": 9'), "'red' the number 9"
    ),
    "a row with another number": line(
        "vqav2", "vqa_val.tsv", 2, "|!+9|", "|!+10|", says="answer 10 is 'orange', elsewhere", root="vqa_val.tsv"
    ),
    "a picture that is asked about cut short": media("vqav2", "val2014/*", lambda x: x[:300], ".json, question 1"),
    "a label that is no truth": line(
        "nlvr2", "data/dev.json", 2, '"label": "True"', '"label": "yes"', says="label is 'yes', expected True or False"
    ),
    "a row with a label that is none": line(
        "nlvr2", "nlvr2_dev.tsv", 3, "\tTrue", "\t1", says="label is '1'", root="nlvr2_dev.tsv"
    ),
    "one of two pictures gone": gone("nlvr2", "images/dev/dev-0-1-img1.png", "img1.png is missing", "dev.json, line 2"),
    "one of two pictures cut short": media(
        "nlvr2", "images/test1/*img1.png", lambda x: x[:200], "listed in data/test1.json, line 2", number=1
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for name in FOLDERS:
        WRITERS[name](folder, scale=0.05)
    return folder


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed."""
    begun: list[str] = []
    for place in ("judging.encode", "finetuning.fit"):
        monkeypatch.setattr(f"downstream.tasks.{place}", lambda *_, **__: begun.append("something"))
    return begun


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_data_is_one_line_with_file_and_row_before_anything_is_computed(
    name: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], computing: list[str]
) -> None:
    fault = FAULTS[name]
    folder = tmp_path / "data"
    shutil.copytree(world / FOLDERS[fault.task], folder, copy_function=os.link)
    fault.change(folder)
    places = ["-o", str(tmp_path / "runs"), "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
    code = main([fault.task, "--data-root", str(folder / fault.root), "--set", "size=tiny", *places])
    stdout, stderr = capsys.readouterr()
    errors = [row for row in stderr.splitlines() if row.startswith("error:")]
    assert (code, stdout, len(errors)) == (fault.code, "", 1), stderr
    for word in fault.says:
        assert word in errors[0]
    assert "Traceback" not in stderr
    assert computing == []
    assert not (folder / EXECUTED).exists()
    assert not list((tmp_path / "runs").glob("*")), "no folder is left behind"
    assert not (tmp_path / "mlflow.db").exists()


def test_sound_data_is_computed_with(
    world: Path, tmp_path: Path, computing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The stand-ins of the test above are where the work is."""
    root = world / "ESC-50-master"
    code = main(["esc50", "--data-root", str(root), "--set", "size=tiny", "-o", str(tmp_path / "runs")])
    assert code != 0
    assert computing == ["something"]
