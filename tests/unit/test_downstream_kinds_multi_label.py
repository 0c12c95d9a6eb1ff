"""Several classes a sample: units, targets of one length, loss and score, by numbers made by hand."""

import math
from pathlib import Path

import pytest
import torch

from downstream.engines.plain.units import Unit
from downstream.formats.base import Labelled
from downstream.kinds import load_kind
from downstream.kinds.base import Batch, Facts
from models.world import Negatives

KIND = load_kind("multi_label")
NAMES = ("cat", "cow", "dog", "rain", "sea", "train", "wind")
FACTS = Facts("audio", NAMES)
SAMPLES = [
    Labelled(name, Path(f"{name}.wav"), labels)
    for name, labels in (("a", (0,)), ("b", (0, 1, 2)), ("c", (1, 6)), ("d", (3,)))
]
LOGITS = {
    "a.wav": [3.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0],
    "b.wav": [2.0, 1.0, 4.0, 0.0, 0.0, 0.0, 1.0],
    "c.wav": [2.5, 2.0, 0.0, 0.0, 0.0, 0.0, 2.0],
    "d.wav": [0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 3.0],
}


def outputs(units):
    return torch.tensor([LOGITS[unit.passes[0][0][1].name] for unit in units])


def test_targets_are_filled_up_to_one_length() -> None:
    assert KIND.count_outputs(FACTS) == 7
    assert KIND.list_units(SAMPLES, FACTS) == tuple(Unit.of(audio=sample.media) for sample in SAMPLES)
    examples = KIND.list_examples(SAMPLES, FACTS)
    assert [example.target for example in examples] == [(0, -1, -1), (0, 1, 2), (1, 6, -1), (3, -1, -1)]


def test_every_class_has_its_average_precision_and_the_mean_is_over_all() -> None:
    judged = KIND.judge(SAMPLES, outputs, FACTS)
    by_class = {
        "cat": (1 + 2 / 3) / 2,  # ranked a, c, b, d; a and b are right
        "cow": (1 / 2 + 2 / 3) / 2,  # d, c, b, a; b and c
        "dog": 1.0,  # b first
        "rain": 1 / 4,  # all are alike
        "sea": 0.0,  # nothing is right
        "train": 0.0,
        "wind": 1 / 2,  # d, c, b, a; c
    }
    assert judged.per_class == {name: pytest.approx(100 * value) for name, value in by_class.items()}
    (metric,) = judged.metrics
    assert (metric.name, metric.n) == ("map", 4)
    assert metric.value == pytest.approx(100 * sum(by_class.values()) / 7)


def test_rows_tell_all_that_is_right_and_the_best_five() -> None:
    row = list(KIND.judge(SAMPLES, outputs, FACTS).rows)[1]
    assert row["id"] == "b"
    assert row["truth"] == ["cat", "cow", "dog"]
    assert list(row["prediction"])[:2] == ["dog", "cat"]
    assert len(row["prediction"]) == 5
    assert row["prediction"]["dog"] == pytest.approx(1 / (1 + math.exp(-4)), abs=1e-6)


def test_the_loss_is_binary_over_all_classes_and_fillings_are_no_targets() -> None:
    logits, targets = torch.zeros(2, 3), torch.tensor([[0, -1], [0, 2]])
    logits[1, 2] = 2.0
    batch = Batch((logits,), targets, 3, None, lambda _: Negatives({}, 0), 0.0)
    loss = KIND.compute_loss(batch)
    assert float(loss.total) == pytest.approx(5 * math.log(2) + math.log(1 + math.exp(-2)), abs=1e-6)
    assert loss.weight == 2
    other = KIND.compute_loss(Batch((logits,), torch.tensor([[1, -1], [0, 2]]), 3, None, batch.gather, 0.0))
    assert float(other.total) == pytest.approx(float(loss.total)), "at zero all classes cost the same"
    wrong = KIND.compute_loss(Batch((logits,), torch.tensor([[0, -1], [0, -1]]), 3, None, batch.gather, 0.0))
    assert float(wrong.total - loss.total) == pytest.approx(2.0, abs=1e-6)
