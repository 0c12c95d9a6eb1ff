"""VQA v2's questions find their picture and what ten people answered, in both layouts alike."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from downstream.formats.base import Listing, MissingDataError, PictureQuestion
from downstream.formats.vqav2 import read

SAID = ["Two"] * 3 + ["2"] + ["three"] * 3 + ["cat"] * 2 + ["The dog."]
SCORES = (("2", 1.0), ("3", 0.9), ("cat", 0.6), ("dog", 0.3))
REFS = "3|!+8|!+0.9&&2|!+4|!+1.0&&dog|!+9|!+0.3&&cat|!+2|!+0.6"
HEADER = "uniq_id\timage\tquestion\trefs\n"
ROW = f"70\ta.jpg\tHow many?\t{REFS}\n"
PICTURE = "COCO_{}_000000000007.jpg"


ANSWERS = ["", "no", "cat", "The Dog", "2", "five", "six", "seven", "3", "dog", "yes"]


@pytest.fixture(autouse=True)
def _vocabulary(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)


def write_vocabulary(folder: Path, answers: Sequence[str] = ANSWERS) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "trainval_label2ans.json").write_text(json.dumps(answers))


def question(**changes: Any) -> dict[str, Any]:
    return {"image_id": 7, "question": "How many?", "question_id": 70} | changes


def annotation(*said: object, **changes: Any) -> dict[str, Any]:
    answers = [{"answer": answer, "answer_id": place} for place, answer in enumerate(said or SAID, start=1)]
    return {"question_id": 70, "image_id": 7, "answers": answers} | changes


def write(
    root: Path, questions: object, annotations: object = None, *, split: str = "val2014", folder: str = ""
) -> Path:
    folder = folder or split
    write_vocabulary(root)
    (root / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text(json.dumps({"questions": questions}))
    if annotations is not None:
        (root / f"v2_mscoco_{split}_annotations.json").write_text(json.dumps({"annotations": annotations}))
    (root / folder).mkdir()
    (root / folder / PICTURE.format(folder)).touch()
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_questions_are_joined_with_their_answers(tmp_path: Path, split: str) -> None:
    name = f"{split}2014"
    write(
        tmp_path,
        [question(), question(question_id=8, question=" Is it? ")],
        [annotation(*["yes"] * 10, question_id=8), annotation()],
        split=name,
    )
    media = tmp_path / name / PICTURE.format(name)
    listing = read(tmp_path, split)
    assert listing.samples == (
        PictureQuestion("70", media, "How many?", SCORES),
        PictureQuestion("8", media, " Is it? ", (("yes", 1.0),)),
    )
    assert [sample.origin.rpartition(", ")[2] for sample in listing.samples] == ["question 1", "question 2"]
    assert [path.name for path in listing.sources] == [
        f"v2_OpenEnded_mscoco_{name}_questions.json",
        "trainval_label2ans.json",
        f"v2_mscoco_{name}_annotations.json",
    ]
    assert listing.class_names == tuple(ANSWERS)


@pytest.mark.parametrize(
    ("split", "name"),
    [("test", "test2015"), ("test2015", "test2015"), ("test-dev", "test-dev2015"), ("test-dev2015", "test-dev2015")],
)
def test_nobody_tells_the_answers_of_the_test_splits(tmp_path: Path, split: str, name: str) -> None:
    write(tmp_path, [question()], split=name, folder="test2015")
    media = tmp_path / "test2015" / "COCO_test2015_000000000007.jpg"
    listing = read(tmp_path, split)
    assert listing.samples == (PictureQuestion("70", media, "How many?", None),)
    assert [path.name for path in listing.sources[1:]] == ["trainval_label2ans.json"]


@pytest.mark.parametrize("folder", ["vqav2", "VQAv2", "vqa"])
def test_the_data_set_may_lie_one_level_below(tmp_path: Path, folder: str) -> None:
    write(tmp_path / folder, [question()], [annotation()])
    assert len(read(tmp_path, "val").samples) == 1


@pytest.mark.parametrize("stem", ["vqa/vqav2_val", "vqav2_val", "vqa_val"])
def test_tables_are_found_by_their_names(tmp_path: Path, stem: str) -> None:
    path = tmp_path / f"{stem}.tsv"
    write_vocabulary(path.parent)
    path.write_text(HEADER + ROW)
    path.with_name("a.jpg").touch()
    for root in (tmp_path, path):
        assert read(root, "val").samples == (PictureQuestion("70", path.with_name("a.jpg"), "How many?", SCORES),)


@pytest.mark.parametrize("refs", ["", "no|!+1|!+1.0", "unknown"])
def test_what_a_table_of_a_test_split_says_is_not_looked_at(tmp_path: Path, refs: str) -> None:
    (tmp_path / "vqav2_test-dev.tsv").write_text(f"{HEADER}70\ta.jpg\tHow many?\t{refs}\n")
    (tmp_path / "a.jpg").touch()
    assert read(tmp_path, "test-dev").samples[0].scores is None


def test_a_table_keeps_its_answers_as_written(tmp_path: Path) -> None:
    (tmp_path / "vqav2_train.tsv").write_text(f"{HEADER}70\ta.jpg\tHow many?\tThe Dog|!+3|!+0.3&&|!+0|!+1\n")
    (tmp_path / "a.jpg").touch()
    assert read(tmp_path, "train").samples[0].scores == (("", 1.0), ("The Dog", 0.3))


@dataclass(frozen=True)
class Fault:
    """Lists with one thing wrong."""

    says: str
    questions: object = None
    annotations: object = None
    table: str = ""
    error: type[Exception] = ValueError
    place: str = ""


def asked(says: str, *questions: object, **changes: Any) -> Fault:
    return Fault(says, [*questions], [annotation()], **{"place": "questions.json, question 1", **changes})


def said(says: str, *annotations: object, **changes: Any) -> Fault:
    return Fault(says, [question()], [*annotations], **{"place": "annotations.json, annotation 1", **changes})


def table(says: str, rows: str, **changes: Any) -> Fault:
    return Fault(says, table=HEADER + rows, **{"place": "vqav2_val.tsv, line 2", **changes})


def refs(says: str, value: str) -> Fault:
    return table(says, f"70\ta.jpg\tHow many?\t{value}\n")


TWO = (question(), question(question_id=71))
FAULTS: Mapping[str, Fault] = {
    "no questions": Fault("expected a list of objects", [], [annotation()], place="questions.json"),
    "no question": asked("question is '', expected text", question(question="")),
    "question twice": asked("question_id 70 is that of", question(), question(), place="question 2"),
    "no number": asked("question_id is 'x', expected a whole number", question(question_id="x")),
    "picture with too large a number": Fault(
        "image_id is 1000000000000, expected a whole number",
        [question(image_id=10**12)],
        [annotation(image_id=10**12)],
        place="questions.json, question 1",
    ),
    "answers about another picture": said("image_id is 8, another than in", annotation(image_id=8)),
    "picture missing": Fault(
        "COCO_val2014_000000000009.jpg is missing",
        [question(image_id=9)],
        [annotation(image_id=9)],
        error=MissingDataError,
        place="questions.json, question 1",
    ),
    "no annotations": Fault(
        "unpack the annotations", [question()], error=MissingDataError, place="v2_mscoco_val2014_annotations.json"
    ),
    "question without annotation": asked("question_id 71 has no annotation", *TWO, place="question 2"),
    "annotation without question": said(
        "question_id 71 is no question of this split",
        annotation(),
        annotation(question_id=71),
        place="annotations.json, annotation 2",
    ),
    "annotation twice": said("question_id 70 is that of", annotation(), annotation(), place="annotation 2"),
    "nine answers": said("expected 10, each with its text", annotation(*SAID[1:])),
    "an answer as a number": said("expected 10, each with its text", annotation(*SAID[1:], 2)),
    "answers as text": said("'two', expected an object", annotation(answers=["two"] * 10)),
    "no answers": said("no 'answers'", {"question_id": 70}),
    "table: id twice": table("the id '70' stands already", ROW + ROW, place="vqav2_val.tsv, line 3"),
    "table: no question": table("question is ''", ROW.replace("How many?", "")),
    "table: no answers": refs("refs is '', expected text", ""),
    "table: two parts": refs("refs holds '2|!+1.0', expected <answer>|!+", "2|!+1.0"),
    "table: four parts": refs("expected <answer>|!+", "2|!+1|!+1.0|!+0"),
    "table: number that is none": refs("expected <answer>|!+", "2|!+x|!+1.0"),
    "table: number below 0": refs("expected <answer>|!+", "2|!+-1|!+1.0"),
    "table: score above 1": refs("expected <answer>|!+", "2|!+1|!+1.1"),
    "table: score 0": refs("expected <answer>|!+", "2|!+1|!+0"),
    "table: score nan": refs("expected <answer>|!+", "2|!+1|!+nan"),
    "table: answer twice": refs("gives the answer '2' twice", "2|!+4|!+0.3&&2|!+4|!+0.3"),
    "table: a number of two answers": table(
        "answer 4 is 'two', elsewhere '2'",
        ROW + ROW.replace("70\t", "71\t").replace("2|!+4", "two|!+4"),
        place="vqav2_val.tsv, line 3",
    ),
    "table: picture missing": table("b.jpg is missing", ROW.replace("a.jpg", "b.jpg"), error=MissingDataError),
    "table: no column": Fault("no column 'refs'", table=HEADER.replace("refs", "answers"), place="line 1"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_ends_in_one_line_with_file_and_question(tmp_path: Path, fault: Fault) -> None:
    if fault.table:
        (tmp_path / "vqav2_val.tsv").write_text(fault.table)
        (tmp_path / "a.jpg").touch()
    else:
        write(tmp_path, fault.questions, fault.annotations)
    with pytest.raises(fault.error) as caught:
        read(tmp_path, "val")
    message = str(caught.value)
    assert type(caught.value) is fault.error
    assert len(message.splitlines()) == 1
    assert fault.place in message
    assert fault.says in message


def test_lists_that_are_not_there_are_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"questions\.json is missing, nor the authors' .*vqav2_test-dev\.tsv"):
        read(tmp_path, "test-dev")


@pytest.mark.parametrize("split", ["dev", "test-std"])
def test_an_unknown_split_is_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(ValueError, match=f"unknown split of VQAv2 '{split}'"):
        read(tmp_path, split)


def write_table(path: Path, listing: Listing[PictureQuestion]) -> None:
    """Write what the authors would publish of a listing."""
    numbers: dict[str, int] = {}
    rows = []
    for sample in listing.samples:
        refs = [
            f"{answer}|!+{numbers.setdefault(answer, len(numbers))}|!+{score}" for answer, score in sample.scores or ()
        ]
        rows.append("\t".join([sample.id, str(sample.media), sample.question, "&&".join(refs)]))
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    write_vocabulary(path.parent, list(numbers))


def test_genuine_questions_are_alike_in_both_layouts(samples_dir: Path, tmp_path: Path) -> None:
    original = read(samples_dir / "vqav2", "train")
    assert (original.layout, len(original.samples)) == ("original", 3)
    assert original.samples[0].question == "What is this photo taken looking through?"
    assert original.samples[1].scores == (("pitcher", 1.0), ("catcher", 0.3))
    write_table(tmp_path / "vqav2_train.tsv", original)
    written = read(tmp_path, "train")
    assert (written.layout, written.samples) == ("authors' table", original.samples)
