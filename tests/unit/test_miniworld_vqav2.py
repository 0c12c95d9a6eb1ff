"""VQA's layout: questions, answers, vocabulary and tables agree."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from miniworld.picture_asking import ANSWERS
from miniworld.samples import encode_picture
from miniworld.vqav2 import draw_asked_picture, format_refs, write_vqav2

COUNTS = {"train": 13, "val": 4}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vqav2(tmp_path_factory.mktemp("world"), num_train=13, num_val=4)


def _read(tree: Path, split: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    questions = json.loads((tree / f"v2_OpenEnded_mscoco_{split}2014_questions.json").read_text())
    annotations = json.loads((tree / f"v2_mscoco_{split}2014_annotations.json").read_text())
    return questions["questions"], annotations["annotations"]


@pytest.mark.parametrize("split", COUNTS)
def test_every_question_has_a_picture_and_ten_answers(tree: Path, split: str) -> None:
    questions, annotations = _read(tree, split)
    assert len(questions) == COUNTS[split]
    assert len({question["question_id"] for question in questions}) == len(questions)
    for question, annotation in zip(questions, annotations, strict=True):
        assert question["question"].endswith("?")
        assert (question["question_id"], question["image_id"]) == (annotation["question_id"], annotation["image_id"])
        assert question["question"].lower().startswith(annotation["question_type"])
        assert (tree / f"{split}2014/COCO_{split}2014_{question['image_id']:012d}.jpg").is_file()
        said = Counter(answer["answer"] for answer in annotation["answers"])
        assert [answer["answer_id"] for answer in annotation["answers"]] == list(range(1, 11))
        assert {answer["answer_confidence"] for answer in annotation["answers"]} <= {"yes", "maybe", "no"}
        assert said.most_common(1)[0][0] == annotation["multiple_choice_answer"]
        assert said[annotation["multiple_choice_answer"]] >= 7


def test_the_most_frequent_answer_is_the_true_one(tree: Path) -> None:
    questions, annotations = _read(tree, "train")
    images = {path.read_bytes(): int(path.stem.split("_")[-1]) for path in (tree / "train2014").iterdir()}
    drawn = [found for index in range(12) if (found := draw_asked_picture(0, "train", index=index))][:4]
    for picture in drawn:
        image_id = images[encode_picture(picture.scene.image)]
        listed = [
            (question["question"], annotation["multiple_choice_answer"], annotation["answer_type"])
            for question, annotation in zip(questions, annotations, strict=True)
            if question["image_id"] == image_id
        ]
        assert listed == [(f"{asked.text.capitalize()}?", asked.answer, asked.kind) for asked in picture.questions]
        assert {asked.kind for asked in picture.questions} == {"yes/no", "number", "other"}


def test_some_disagree() -> None:
    drawn = [found for index in range(40) if (found := draw_asked_picture(0, "val", index=index))]
    num_different = Counter(len(set(said)) for picture in drawn for said in picture.answers)
    assert set(num_different) == {1, 2, 3}


def test_the_vocabulary_holds_every_answer_and_begins_with_the_empty_string(tree: Path) -> None:
    answers = json.loads((tree / "trainval_label2ans.json").read_text())
    labels = json.loads((tree / "trainval_ans2label.json").read_text())
    assert answers == ["", *ANSWERS]
    assert labels == {answer: place for place, answer in enumerate(answers)}
    said = {answer["answer"] for split in COUNTS for each in _read(tree, split)[1] for answer in each["answers"]}
    assert said <= set(answers) - {""}


def test_scores_rise_by_three_tenths_a_person_up_to_one() -> None:
    assert format_refs(("no",) * 3 + ("yes",) * 7) == "yes|!+1|!+1.0&&no|!+2|!+0.9"
    assert format_refs(("2",) * 7 + ("1", "3", "3")) == "2|!+5|!+1.0&&3|!+6|!+0.6&&1|!+4|!+0.3"


@pytest.mark.parametrize("split", COUNTS)
def test_tables_say_what_the_lists_say(tree: Path, split: str) -> None:
    header, *rows = [line.split("\t") for line in (tree / f"vqa_{split}.tsv").read_text().splitlines()]
    assert header == ["uniq_id", "image", "question", "refs"]
    questions, annotations = _read(tree, split)
    labels = json.loads((tree / "trainval_ans2label.json").read_text())
    for row, question, annotation in zip(rows, questions, annotations, strict=True):
        image = f"{split}2014/COCO_{split}2014_{question['image_id']:012d}.jpg"
        assert row[:3] == [str(question["question_id"]), image, question["question"]]
        refs = {tuple(ref.split("|!+")) for ref in row[3].split("&&")}
        said = Counter(answer["answer"] for answer in annotation["answers"])
        assert {(answer, int(label)) for answer, label, _ in refs} == {(answer, labels[answer]) for answer in said}
        assert all(float(score) == pytest.approx(min(1.0, 0.3 * said[answer])) for answer, _, score in refs)
