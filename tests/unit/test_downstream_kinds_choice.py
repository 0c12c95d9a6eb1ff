"""Multiple choice: every answer is a unit, and the highest output wins; by numbers made by hand."""

from pathlib import Path

import pytest
import torch

from downstream.engines.plain.units import Unit
from downstream.formats.base import Question
from downstream.kinds import load_kind
from downstream.kinds.base import Batch, Facts
from models.world import Negatives

KIND = load_kind("choice")
FACTS = Facts("audio")
ONE, OTHER = Path("one.wav"), Path("other.wav")
SAMPLES = [
    Question("1", ONE, "what is it?", ("a cat", "a cow"), 1),
    Question("2", ONE, "what is it not?", ("a cat", "a cow"), 0),
    Question("3", OTHER, "what is it?", ("rain", "wind"), 0),
]
LOGITS = {("what is it?", "a cow"): 2.0, ("what is it not?", "a cow"): 1.0, ("what is it?", "wind"): -1.0}


def outputs(units):
    found = []
    for unit in units:
        question, _, answer = dict(unit.passes[0])["text"].partition(" answer: ")
        found.append([LOGITS.get((question, answer), 0.0)])
    return torch.tensor(found)


def test_every_answer_is_put_with_its_question_and_sound() -> None:
    assert KIND.count_outputs(FACTS) == 1
    units = KIND.list_units(SAMPLES, FACTS)
    assert len(units) == 6
    assert units[1] == Unit.of(text="what is it? answer: a cow", audio=ONE)
    examples = KIND.list_examples(SAMPLES, FACTS)
    assert [example.target for example in examples] == [(1,), (0,), (0,)]
    assert [unit for example in examples for unit in example.units] == list(units)


def test_the_highest_output_is_the_answer_and_a_clip_is_a_cluster() -> None:
    judged = KIND.judge(SAMPLES, outputs, FACTS)
    (metric,) = judged.metrics
    assert (metric.name, metric.n, metric.hits) == ("accuracy", 3, 2)
    assert metric.ci_method is not None
    assert "clusters" in metric.ci_method
    rows = list(judged.rows)
    assert [(row["id"], row["truth"], row["prediction"]) for row in rows] == [("1", 1, 1), ("2", 0, 1), ("3", 0, 0)]
    assert rows[0]["scores"] == [0.0, 2.0]


def test_the_loss_asks_the_right_answer_to_lead_by_one() -> None:
    # By place of the answer, (examples, 1): example 0 has 3 and 2.5, example 1 has 0 and 4.
    logits = (torch.tensor([[3.0], [0.0]]), torch.tensor([[2.5], [4.0]]))
    loss = KIND.compute_loss(Batch(logits, torch.tensor([[0], [1]]), 1, None, lambda _: Negatives({}, 0), 0.0))
    # Each right answer beside itself costs 1; 2.5 comes within 1 of 3 and costs 0.5; 0 is far below 4.
    assert float(loss.total) == pytest.approx(2 + 0.5)
    assert (loss.weight, int(loss.hits)) == (2, 2)
