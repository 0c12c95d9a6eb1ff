"""A malformed data set ends in one line that names the list and the row, never in numbers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from downstream.formats import audiocaps, avqa, clotho, esc50, fsd50k, karpathy, vggsound
from downstream.formats.base import Listing, MissingDataError

Content = str | bytes
ESC = "filename,fold,target,category,esc10,src_file,take\n"
FSD = "FSD50K.ground_truth"
VOCABULARY = "0,Accordion,/m/0mkg\n1,Bird,/m/015p6\n"
STAT = 'cow lowing,10,animals\n"playing violin, fiddle",20,music\n'
CLOTHO = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
CAPS = "audiocap_id,youtube_id,start_time,caption\n"
SOUND_TABLE = "uniq_id\taudio\ttext\tduration\n"
PICTURE_TABLE = "image_id\timage\tcaption\n"
QA = {
    "id": 7,
    "video_name": "a_000001",
    "question_text": "What is it?",
    "multi_choice": ["a dog", "a cat", "a car", "a cow"],
    "answer": 2,
}
IMAGE = {"filepath": "val2014", "filename": "a.jpg", "cocoid": 5, "split": "test", "sentences": [{"raw": "A dog."}]}


@dataclass(frozen=True)
class Fault:
    """A data set with one thing wrong."""

    read: Callable[[Path, str], Listing[Any]]
    split: str
    files: Mapping[str, Content]
    error: type[Exception]
    file: str
    """The list that the message names."""
    row: str
    says: str
    root: str = "."


def esc(rows: Content, **changes: Any) -> Fault:
    content = ESC + rows if isinstance(rows, str) else rows
    files = {"meta/esc50.csv": content, "audio/1-1-A-0.wav": "", "audio/1-2-A-0.wav": ""}
    return make(esc50.read, "all", files, file="meta/esc50.csv", **changes)


def esc_table(rows: str, labels: object = ("dog", "cat"), **changes: Any) -> Fault:
    files = {"esc50.tsv": SOUND_TABLE + rows, "esc50_label.json": json.dumps(labels), "a.wav": "", "b.wav": ""}
    return make(esc50.read, "all", files, **{"file": "esc50.tsv", **changes})


def fsd(rows: str, vocabulary: str = VOCABULARY, *, name: str = "eval", split: str = "eval", **changes: Any) -> Fault:
    files = {f"{FSD}/{name}.csv": rows, f"{FSD}/vocabulary.csv": vocabulary, f"FSD50K.{name}_audio/1.wav": ""}
    return make(fsd50k.read, split, files, **{"file": f"{FSD}/{name}.csv", **changes})


def vgg(rows: str, stat: str = STAT, **changes: Any) -> Fault:
    files = {"vggsound.csv": rows, "stat.csv": stat, "audio/a_000001.flac": ""}
    files |= changes.pop("more", {})
    return make(vggsound.read, "test", files, **{"file": "vggsound.csv", **changes})


def caps(rows: str, **changes: Any) -> Fault:
    files = {"dataset/test.csv": CAPS + rows, "audio/test/a_1.flac": "", "audio/test/b_2.wav": ""}
    return make(audiocaps.read, "test", files, file="dataset/test.csv", **changes)


def caps_table(rows: str, texts: object = None, **changes: Any) -> Fault:
    files = {"audiocaps_test_new.tsv": SOUND_TABLE + rows, "a.wav": "", "b.wav": ""}
    if texts is not None:
        files["test_texts.json"] = texts if isinstance(texts, str) else json.dumps(texts)
    return make(audiocaps.read, "test", files, **{"file": "audiocaps_test_new.tsv", **changes})


def clo(content: Content, **changes: Any) -> Fault:
    files = {"clotho_captions_evaluation.csv": content, "evaluation/a.wav": ""}
    return make(clotho.read, "evaluation", files, file="clotho_captions_evaluation.csv", **changes)


def qa(content: Content, **changes: Any) -> Fault:
    files = {"data/annotation/val_qa.json": content, "data/audio/a_000001.wav": ""}
    return make(avqa.read, "val", files, file="data/annotation/val_qa.json", **changes)


def qa_table(text: str, **changes: Any) -> Fault:
    files = {"avqa_val.tsv": f"{SOUND_TABLE}1\ta.wav\t{text}\t10\n", "a.wav": ""}
    return make(avqa.read, "val", files, file="avqa_val.tsv", row="line 2", **changes)


def coco(content: Content, **changes: Any) -> Fault:
    files = {"dataset_coco.json": content, "val2014/a.jpg": ""}
    return make(karpathy.read_coco, "test", files, file="dataset_coco.json", **changes)


def flickr(tokens: str, **changes: Any) -> Fault:
    files = {
        "dataset_flickr30k.json": json.dumps({"images": [IMAGE]}),
        "results_20130124.token": tokens,
        "flickr30k-images/a.jpg": "",
    }
    return make(karpathy.read_flickr30k, "test", files, **changes)


def make(read: Any, split: str, files: Mapping[str, Content], **changes: Any) -> Fault:
    return Fault(read, changes.pop("split", split), files, **{"error": ValueError, "row": "", **changes})


def images(**changes: Any) -> str:
    return json.dumps({"images": [IMAGE | {"filename": "b.jpg", "split": "train"}, IMAGE | changes], "dataset": "coco"})


def questions(**changes: Any) -> str:
    return json.dumps([QA, QA | {"id": 8} | changes])


DOG = "1-1-A-0.wav,1,0,dog,True,1,A\n"
FAULTS = {
    # csv
    "no column": esc(b"filename,fold,traget,category\n" + DOG.encode(), row="line 1", says="did you mean 'traget'?"),
    "empty list": esc(b"", says="is empty, expected a line with filename,target,category"),
    "header only": esc("", row="line 1", says="expected rows below it"),
    "semicolons": esc(ESC.replace(",", ";").encode() + b"a;1;0\n", row="line 1", says="separated by semicolons"),
    "tabs in a csv": clo(CLOTHO.replace(",", "\t"), row="line 1", says="separated by tabs, expected commas"),
    "not UTF-8": clo(CLOTHO.encode() + b"a.wav,caf\xe9,b,c,d,e\n", row="line 2", says="byte 0xe9 is not UTF-8"),
    "too few values": clo(CLOTHO + "a.wav,a,b,c,d\n", row="line 2", says="5 values, expected 6"),
    "too many values": clo(CLOTHO + "a.wav,a,b,c,d,e,f\n", row="line 2", says="7 values, expected 6"),
    "an empty line within": clo(CLOTHO + "\na.wav,a,b,c,d,e\n", row="line 2", says="0 values, expected 6"),
    "open quotation mark": clo(CLOTHO + 'a.wav,"a,b,c,d,e\n', row="line 2", says="no csv"),
    "no caption": clo(CLOTHO + "a.wav,a,b, ,d,e\n", row="line 2", says="caption_3 is ' ', expected text"),
    "a column name twice": clo(CLOTHO.strip() + ",caption_5\na.wav,a,b,c,d,e,f\n", row="line 1", says="stands twice"),
    "name of another folder": clo(CLOTHO + "../a.wav,a,b,c,d,e\n", row="line 2", says="names no file"),
    # classes
    "target out of range": esc("1-1-A-0.wav,1,50,dog,True,1,A\n", row="line 2", says="whole number from 0 to 49"),
    "target no number": esc("1-1-A-0.wav,1,x,dog,True,1,A\n", row="line 2", says="target is 'x'"),
    "target of two categories": esc(
        DOG + "1-2-A-0.wav,1,0,cat,True,2,A\n", row="line 3", says="target 0 is 'cat', above 'dog'"
    ),
    "category of two targets": esc(DOG + "1-2-A-0.wav,1,1,dog,True,2,A\n", says="classes 0 and 1 are both 'dog'"),
    "own categories with a gap": esc("1-1-A-0.wav,1,3,bell,True,1,A\n", says="none for target 0"),
    "clip listed twice": esc(DOG + DOG, row="line 3", says="the id '1-1-A-0' stands already in meta/esc50.csv, line 2"),
    "clip missing": esc(
        DOG + "1-3-A-0.wav,1,0,dog,True,3,A\n",
        error=MissingDataError,
        row="line 3",
        says="audio/1-3-A-0.wav is missing, listed in meta/esc50.csv, line 3; 1 of 2 files",
    ),
    "unknown label": fsd('fname,labels,mids\n1,"Bird,Brid",x\n', row="line 2", says="unknown label 'Brid'"),
    "no labels": fsd('fname,labels,mids\n1,"",x\n', row="line 2", says="labels is '', expected text"),
    "a label twice": fsd('fname,labels,mids\n1,"Bird,Bird",x\n', row="line 2", says="expected each once"),
    "class number skipped": fsd(
        "fname,labels\n1,Bird\n",
        "0,Accordion,/m/0mkg\n2,Bird,/m/015p6\n",
        file=f"{FSD}/vocabulary.csv",
        row="line 2",
        says="index 2, expected 1",
    ),
    "class named twice": fsd(
        "fname,labels\n1,Bird\n", "0,Bird,a\n1,Bird,b\n", file=f"{FSD}/vocabulary.csv", row="line 2", says="is class 0"
    ),
    "unknown part of dev": fsd(
        "fname,labels,mids,split\n1,Bird,x,test\n", name="dev", split="train", row="line 2", says="train or val"
    ),
    "no clip of the part": fsd(
        "fname,labels,mids,split\n1,Bird,x,train\n",
        name="dev",
        split="val",
        error=MissingDataError,
        says="lists nothing of this split",
    ),
    "label outside stat.csv": vgg("a,1,sheep bleating,test\n", row="line 1", says="unknown label 'sheep bleating'"),
    "unquoted comma": vgg("a,1,playing violin, fiddle,test\n", row="line 1", says="5 values, expected 4"),
    "unknown part": vgg("a,1,cow lowing,val\n", row="line 1", says="split is 'val', expected train or test"),
    "start no number": vgg("a,1.5,cow lowing,test\n", row="line 1", says="start is '1.5'"),
    "label twice in stat.csv": vgg(
        "a,1,cow lowing,test\n", STAT + "cow lowing,3,x\n", file="stat.csv", row="line 3", says="is class 0 already"
    ),
    "sound in another format": vgg(
        "b,2,cow lowing,test\n", more={"audio/b_000002.mp3": ""}, row="line 1", says="is neither .wav nor .flac"
    ),
    "two files for one sound": vgg(
        "a,1,cow lowing,test\n", more={"audio/test/a_000001.wav": ""}, row="line 1", says="two files for one sound"
    ),
    "no clip left": vgg(
        "b,2,cow lowing,test\nc,3,cow lowing,test\n",
        error=MissingDataError,
        row="line 1",
        says="2 of 2 files",
    ),
    # captions
    "caption listed twice": caps("1,a,1,A dog\n1,b,2,A cat\n", row="line 3", says="audiocap_id 1 stands on line 2"),
    "empty caption": caps("1,a,1,\n", row="line 2", says="caption is '', expected text"),
    "start not whole": caps("1,a,1s,A dog\n", row="line 2", says="start_time is '1s'"),
    # json
    "faulty json": qa('[{"id": 1,}]', row="line 1, column 11", says="no json"),
    "truncated json": coco('{"images": [\n{"split": "te', row="line 2, column 11", says="fetch it again"),
    "no list": qa('{"id": 1}', says="expected a list of objects, one for each question"),
    "no object": qa("[3]", row="question 1", says="3, expected an object"),
    "a key twice": coco('{"images": [], "images": []}', says="the key 'images' stands twice"),
    "answer out of range": qa(questions(answer=4), row="question 2", says="answer is 4, expected a whole number"),
    "answer as text": qa(questions(answer="a dog"), row="question 2", says="answer is 'a dog'"),
    "three choices": qa(questions(multi_choice=["a", "b", "c"]), row="question 2", says="expected 4 strings"),
    "question listed twice": qa(questions(id=7), row="question 2", says="the id '7' stands already"),
    "no question": qa(questions(question_text=""), row="question 2", says="question_text is ''"),
    "no images": coco('{"dataset": "coco"}', row="line 1", says="no 'images', only dataset"),
    "unknown split of an image": coco(images(split="tset"), row="image 2", says="split is 'tset'"),
    "folder that is none of COCO's": coco(images(filepath="../x"), row="image 2", says="expected train2014 or val2014"),
    "no sentences": coco(images(sentences=[]), row="image 2", says="expected a caption or more"),
    "empty sentence": coco(images(sentences=[{"raw": "\n"}]), row="image 2", says="raw is '\\n', expected text"),
    "picture missing": coco(
        images(filename="c.jpg"), error=MissingDataError, row="image 2", says="val2014/c.jpg is missing"
    ),
    "more captions in the token file": flickr(
        "a.jpg#0\tA dog.\na.jpg#1\tA cat.\n", file="dataset_flickr30k.json", row="image 1", says="only in"
    ),
    "caption that the token file lacks": flickr(
        "b.jpg#0\tA dog.\n", file="dataset_flickr30k.json", row="image 1", says="not in"
    ),
    "token line without tab": flickr("a.jpg#0 A dog.", file="results_20130124.token", row="line 1", says="a tab and"),
    # authors' tables
    "no tab": caps_table("a a.wav text 10\n", row="line 2", says="1 value, expected 4"),
    "captions of no clip": caps_table(
        "a\ta.wav\tx\t1\n", {"a": ["x"], "b": ["y"]}, file="test_texts.json", row="entry 2", says="is not in"
    ),
    "clip without captions": caps_table(
        "a\ta.wav\tx\t1\nb\tb.wav\ty\t1\n", {"a": ["x"]}, row="line 3", says="has no captions in test_texts.json"
    ),
    "captions empty": caps_table(
        "a\ta.wav\tx\t1\n", {"a": [""]}, file="test_texts.json", row="entry 1", says="the caption '', expected text"
    ),
    "captions no list": caps_table(
        "a\ta.wav\tx\t1\n", {"a": "x"}, file="test_texts.json", row="entry 1", says="expected a list of captions"
    ),
    "captions of an id twice": caps_table(
        "a\ta.wav\tx\t1\n", '{"a": ["x"], "a": ["y"]}', file="test_texts.json", says="the key 'a' stands twice"
    ),
    "one id of two files": caps_table(
        "a\ta.wav\tx\t1\na\tb.wav\ty\t1\n", row="line 3", says="names 'b.wav', on line 2 'a.wav'"
    ),
    "unknown label in a table": esc_table("x\ta.wav\tfish\t5\n", row="line 2", says="unknown label 'fish'"),
    "id and text of two classes": esc_table("0\ta.wav\tcat\t5\n", row="line 2", says="the id says class 0"),
    "labels numbered from 1": esc_table(
        "x\ta.wav\tdog\t5\n", {"1": "dog", "2": "cat"}, file="esc50_label.json", says="numbered from 0"
    ),
    "label that is none": esc_table(
        "x\ta.wav\tdog\t5\n", {"0": None}, file="esc50_label.json", row="entry 1", says="expected a label"
    ),
    "class out of range in a table": make(
        fsd50k.read,
        "eval",
        {"fsd50K_eval.tsv": SOUND_TABLE + "1\ta.wav\t3,200\t5\n", "a.wav": ""},
        file="fsd50K_eval.tsv",
        row="line 2",
        says="class is '200', expected a whole number from 0 to 199",
    ),
    "two classes where one is": make(
        vggsound.read,
        "test",
        {"vggsound_test_new.tsv": SOUND_TABLE + "1\ta.wav\t3,7\t5\n", "a.wav": ""},
        file="vggsound_test_new.tsv",
        row="line 2",
        says="expected one class",
    ),
    "five answers": qa_table("q&&&a&&&b&&&c&&&d&&&e&&&0", says="expected question, 4 answers and an index"),
    "index too large": qa_table("q&&&a&&&b&&&c&&&d&&&4", says="index of the answer is '4'"),
    "table with commas": make(
        karpathy.read_coco,
        "test",
        {"test_new.tsv": PICTURE_TABLE.replace("\t", ",") + "1,a.jpg,A dog\n"},
        file="test_new.tsv",
        row="line 1",
        says="separated by commas, expected tabs",
    ),
    "table of another split": make(
        audiocaps.read,
        "test",
        {"audiocaps_val_new.tsv": SOUND_TABLE + "a\ta.wav\tx\t1\n"},
        root="audiocaps_val_new.tsv",
        file="audiocaps_val_new.tsv",
        says="is the authors' table of split val, expected that of split test",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_ends_in_one_line_with_file_and_row(tmp_path: Path, fault: Fault) -> None:
    for name, content in fault.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(fault.error) as caught:
        fault.read(tmp_path / fault.root, fault.split)
    message = str(caught.value)
    assert type(caught.value) is fault.error
    assert len(message.splitlines()) == 1
    assert fault.file in message
    assert fault.row in message
    assert fault.says in message


READERS = {
    "esc50": esc50.read,
    "fsd50k": fsd50k.read,
    "vggsound": vggsound.read,
    "audiocaps": audiocaps.read,
    "clotho": clotho.read,
    "avqa": avqa.read,
    "coco": karpathy.read_coco,
    "flickr30k": karpathy.read_flickr30k,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_an_unknown_split_is_refused_with_the_known_ones(tmp_path: Path, read: Any) -> None:
    with pytest.raises(ValueError, match=r"unknown split of .* 'xyz'\. Known: \w+") as caught:
        read(tmp_path, "xyz")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("esc50", "all"),
        ("fsd50k", "eval"),
        ("vggsound", "test"),
        ("audiocaps", "val"),
        ("clotho", "validation"),
        ("avqa", "train"),
        ("coco", "val"),
        ("flickr30k", "train"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_without_the_data_set_is_missing_data(tmp_path: Path, name: str, split: str, is_there: bool) -> None:
    folder = tmp_path if is_there else tmp_path / "absent"
    with pytest.raises(MissingDataError, match=r"is missing, nor the authors' .*\.tsv") as caught:
        READERS[name](folder, split)
    assert f"split {split}, in {folder}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_name_with_a_line_end_stays_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "clotho_captions_evaluation.csv").write_text(f'{CLOTHO}"a\nb.wav",a,b,c,d,e\n')
    with pytest.raises(MissingDataError, match=r"a\\nb\.wav is missing, listed in .*, line 2") as caught:
        clotho.read(tmp_path, "evaluation")
    assert len(str(caught.value).splitlines()) == 1
