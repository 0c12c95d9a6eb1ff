"""Answers to questions about pictures: what each is worth, what is dropped, and what the server is sent."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from downstream.engines.plain.units import Unit
from downstream.formats.base import PictureQuestion
from downstream.kinds import answers, load_kind
from downstream.kinds.answers import to_dense
from downstream.kinds.base import Batch, Facts
from models.world import Negatives

KIND = load_kind("answers")
FACTS = Facts("image", class_names=("", "yes", "no", "two", "red"), seed=1)
ONE, OTHER = Path("in/1.jpg"), Path("in/2.jpg")
SAMPLES = [
    PictureQuestion("11", ONE, "is it red?", (("yes", 1.0), ("no", 0.3))),
    PictureQuestion("12", ONE, "how many?", (("three", 1.0), ("two", 0.6), ("", 0.3))),
    PictureQuestion("13", OTHER, "which colour?", (("teal", 0.9),)),
]
BEST = {"is it red?": 2, "how many?": 3, "which colour?": 4, "why?": 0}


def outputs(units):
    logits = torch.full((len(units), 5), -1.0)
    for row, unit in zip(logits, units, strict=True):
        row[BEST[dict(unit.passes[0])["text"]]] = 2.0
    return logits


def without_answers(sample: PictureQuestion) -> PictureQuestion:
    return PictureQuestion(sample.id, sample.media, sample.question, None, "questions.json, 7")


def test_a_unit_is_a_question_with_its_picture() -> None:
    assert KIND.count_outputs(FACTS) == 5
    assert KIND.list_units(SAMPLES, FACTS) == tuple(Unit.of(text=each.question, image=each.media) for each in SAMPLES)


def test_the_best_answer_counts_by_its_worth_and_an_unknown_one_by_nothing() -> None:
    (metric,) = KIND.judge(SAMPLES, outputs, FACTS).metrics
    assert (metric.name, metric.unit, metric.n) == ("accuracy", "%", 3)
    assert metric.hits == pytest.approx(0.3 + 0.6 + 0.0)
    assert metric.value == pytest.approx(30.0)
    assert metric.ci_method == "bootstrap over clusters, 1000 resamples, seed 1"


def test_judging_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = KIND.judge(SAMPLES, outputs, FACTS), []
    monkeypatch.setattr(answers, "JUDGED_AT_ONCE", 2)

    def count(units):
        asked.append(len(units))
        return outputs(units)

    parts = KIND.judge(SAMPLES, count, FACTS)
    assert asked == [2, 1]
    assert parts.metrics == whole.metrics
    assert list(parts.rows) == list(whole.rows)


def test_rows_tell_answer_and_worth() -> None:
    row = list(KIND.judge(SAMPLES, outputs, FACTS).rows)[1]
    assert row.pop("share") == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-6)
    assert row == {
        "id": "12",
        "picture": "1.jpg",
        "question": "how many?",
        "answer": "two",
        "truth": {"three": 1.0, "two": 0.6, "": 0.3},
        "worth": 0.6,
    }


def test_questions_that_nobody_answered_are_answered_and_not_scored(tmp_path: Path) -> None:
    open_ones = [without_answers(sample) for sample in SAMPLES]
    judged = KIND.judge(open_ones, outputs, FACTS)
    rows = list(judged.rows)
    assert judged.metrics == ()
    assert all("worth" not in row and "truth" not in row for row in rows)
    ((name, write),) = judged.files.items()
    write(tmp_path / name)
    assert json.loads((tmp_path / "server_answers.json").read_text(encoding="utf-8")) == [
        {"question_id": 11, "answer": "no"},
        {"question_id": 12, "answer": "two"},
        {"question_id": 13, "answer": "red"},
    ]


def test_only_answered_questions_count_where_some_are_open() -> None:
    judged = KIND.judge([without_answers(SAMPLES[0]), *SAMPLES[1:]], outputs, FACTS)
    assert (judged.metrics[0].n, judged.metrics[0].hits) == (2, pytest.approx(0.6))
    assert len(list(judged.rows)) == 3


@pytest.mark.parametrize("identity", ["val-7", "", "7.0", "-7", "²"])
def test_the_server_knows_questions_by_number(identity: str, tmp_path: Path) -> None:
    named = replace(SAMPLES[0], id=identity)
    assert not KIND.judge([named], outputs, FACTS).files, "its answers are public: there is no need of the server"
    ((name, write),) = KIND.judge([without_answers(named)], outputs, FACTS).files.items()
    with pytest.raises(ValueError, match=r"questions\.json, 7: question .* has no number, which the evaluation server"):
        write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_targets_are_pairs_of_one_length_without_answers_outside_the_vocabulary() -> None:
    examples = KIND.list_examples(SAMPLES, FACTS)
    assert [example.target for example in examples] == [
        (1.0, 1.0, 2.0, 0.3),
        (3.0, 0.6, 0.0, 0.3),
        (-1.0, 0.0, -1.0, 0.0),
    ]
    assert [example.target for example in KIND.list_examples(SAMPLES[2:], FACTS)] == [(-1.0, 0.0)]


def test_nothing_is_learned_of_a_question_that_nobody_answered() -> None:
    with pytest.raises(ValueError, match=r"questions\.json, 7: a question without answers"):
        KIND.list_examples([without_answers(SAMPLES[0])], FACTS)


def test_fillings_leave_the_first_answer_as_it_is() -> None:
    targets = torch.tensor([example.target for example in KIND.list_examples(SAMPLES, FACTS)])
    expected = [[0, 1, 0.3, 0, 0], [0.3, 0, 0, 0.6, 0], [0, 0, 0, 0, 0]]
    torch.testing.assert_close(to_dense(targets, 5), torch.tensor(expected))
    whole_numbers = torch.tensor([[0, 1, -1, 0]])
    assert to_dense(whole_numbers, 3).tolist() == [[1, 0, 0]]


def test_the_loss_is_binary_over_all_answers_with_parts() -> None:
    targets = torch.tensor([example.target for example in KIND.list_examples(SAMPLES, FACTS)])
    logits = torch.zeros(3, 5)
    logits[0, 2] = 2.0  # worth 0.3
    loss = KIND.compute_loss(Batch((logits,), targets, 5, None, lambda _: Negatives({}, 0), 0.0))
    at_two = math.log(1 + math.exp(2)) - 0.3 * 2
    assert float(loss.total) == pytest.approx(14 * math.log(2) + at_two, abs=1e-5)
    assert loss.weight == 3
    assert float(loss.hits) == pytest.approx(0.3 + 0.3)  # the second row's first of equals is the empty answer
