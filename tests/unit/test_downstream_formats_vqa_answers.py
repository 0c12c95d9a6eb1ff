"""Answers are compared as the official evaluation compares them, and the vocabulary holds each once."""

import json
from pathlib import Path
from typing import Any

import pytest

from downstream.formats.base import MissingDataError
from downstream.formats.vqa_answers import CONTRACTIONS, normalise_answer, read_answer_vocabulary, score_answers

# What vqaEval.py's processPunctuation and processDigitArticle make of them.
ANSWERS = {
    "yes": "yes",
    "Yes.": "yes",
    " The  two Dogs\n": "2 dogs",
    "none": "0",
    "ten": "10",
    "eleven": "eleven",
    "one,two": "1 2",
    "one, two": "1 2",
    "a": "",
    "An apple and the pear": "apple and pear",
    "1,000": "1000",
    "1,000-2": "10002",
    "red-blue": "red blue",
    "red - blue": "red blue",
    "red- blue-green": "red bluegreen",
    "12:30 p.m.": "12:30 pm",
    "3.5": "3.5",
    ".5": ".5",
    "5.": "5",
    "St. John's": "st john's",
    "dont": "don't",
    "couldnt've": "couldn't've",
    "couldn'tve": "couldn't've",
    "Im": "im",
    "lets": "lets",
    "shes": "shes",
    "ows'at": "ows'at",
    "'ows'at": "'ow's'at",
    "somebody'd": "somebodyd",
    "twas": "'twas",
    "what?!": "what",
    "x\ty": "x y",
    "(left)": "left",
    "a/b": "b",
    "$5": "$5",
    "50%": "50%",
    "don t": "don t",
    "caf\u00e9": "caf\u00e9",
    "?": "",
    "." * 40: "." * 8,
}


@pytest.mark.parametrize(("answer", "expected"), ANSWERS.items(), ids=ascii)
def test_an_answer_is_spelt_as_the_evaluation_spells_it(answer: str, expected: str) -> None:
    assert normalise_answer(answer) == expected


def test_contractions_lack_one_apostrophe() -> None:
    assert len(CONTRACTIONS) == 114
    assert all(
        word.replace("'", "") == right.replace("'", "") and word.count("'") + 1 == right.count("'")
        for word, right in CONTRACTIONS.items()
        if word != "somebody'd"
    )


@pytest.mark.parametrize(("count", "score"), [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)])
def test_every_person_counts_for_three_tenths(count: int, score: float) -> None:
    scores = score_answers(["cat"] * count + ["dog"] * (10 - count))
    assert dict(scores)["cat"] == score


def test_scores_are_those_of_the_evaluation_itself() -> None:
    for count in range(1, 11):
        said = [True] * count + [False] * (10 - count)
        thirds = [min(3, sum(said) - one) for one in said]
        assert dict(score_answers(["cat"] * count + ["dog"] * (10 - count)))["cat"] == pytest.approx(sum(thirds) / 30)


def test_answers_of_one_spelling_count_together_and_the_best_goes_first() -> None:
    answers = ["2", "two", "Two.", "three", "a", "The", "b", "b", "b", "3"]
    assert score_answers(answers) == (("2", 0.9), ("b", 0.9), ("", 0.6), ("3", 0.6))


def write(root: Path, labels: object, inverse: object = None) -> Path:
    path = root / "trainval_label2ans.json"
    path.write_text(json.dumps(labels))
    if inverse is not None:
        path.with_name("trainval_ans2label.json").write_text(json.dumps(inverse))
    return path


@pytest.mark.parametrize("inverse", [None, {"yes": 1, "": 0, "no": 2}], ids=["alone", "with its inverse"])
def test_answers_are_numbered_from_the_empty_one(tmp_path: Path, inverse: object) -> None:
    assert read_answer_vocabulary(write(tmp_path, ["", "yes", "no"], inverse)) == ("", "yes", "no")


FAULTS: dict[str, tuple[object, object, str]] = {
    "no list": ({"yes": 0}, None, "expected a list of answers by number"),
    "empty": ([], None, "expected a list of answers by number"),
    "a number": (["", 1], None, "answer 1: 1, expected text"),
    "empty in the middle": (["yes", ""], None, "answer 1: '', expected text; only answer 0 may be empty"),
    "twice": (["", "yes", "yes"], None, "answer 2: 'yes' is answer 1 already"),
    "empty twice": (["", ""], None, "answer 1: '', expected text"),
    "inverse is a list": (["a"], ["a"], "trainval_ans2label.json holds ['a']"),
    "inverse lacks one": (["a", "b"], {"a": 0}, "gives the answer 'b' the number None, trainval_label2ans.json 1"),
    "inverse has more": (["a"], {"a": 0, "b": 1}, "gives the answer 'b' the number 1, trainval_label2ans.json None"),
    "inverse numbers another way": (["a", "b"], {"a": 1, "b": 0}, "gives the answer 'a' the number 1"),
    "inverse has truth values": (["a", "b"], {"a": False, "b": True}, "gives the answer 'a' the number False"),
}


@pytest.mark.parametrize(("labels", "inverse", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_vocabulary_is_refused_in_one_line(tmp_path: Path, labels: Any, inverse: Any, says: str) -> None:
    path = write(tmp_path, labels, inverse)
    with pytest.raises(ValueError, match=str(path.parent)) as caught:
        read_answer_vocabulary(path)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_vocabulary_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"trainval_label2ans\.json is missing"):
        read_answer_vocabulary(tmp_path / "trainval_label2ans.json")


def test_the_vocabulary_in_common_use_is_normalised_throughout(samples_dir: Path) -> None:
    answers = read_answer_vocabulary(samples_dir / "vqav2" / "trainval_label2ans.json")
    assert (len(answers), answers[0]) == (3129, "")
    assert tuple(map(normalise_answer, answers)) == answers
