"""Classification by a head: units, examples, loss and score, by numbers made by hand."""

from pathlib import Path

import pytest
import torch

from downstream.engines.plain.units import Unit
from downstream.formats.base import Labelled
from downstream.kinds import load_kind
from downstream.kinds.base import Batch, Facts
from models.world import Negatives

KIND = load_kind("classification")
FACTS = Facts("audio", ("cat", "cow", "dog"))
SAMPLES = [Labelled(name, Path(f"{name}.wav"), labels) for name, labels in (("a", (2,)), ("b", (0,)), ("c", (1,)))]
LOGITS = {"a.wav": [0.0, 1.0, 3.0], "b.wav": [1.0, 4.0, 0.0], "c.wav": [0.5, 0.6, 0.1]}


def outputs(units):
    return torch.tensor([LOGITS[unit.passes[0][0][1].name] for unit in units])


def batch(logits, targets, smoothing=0.0) -> Batch:
    return Batch((logits,), targets, 3, None, lambda _: Negatives({}, 0), smoothing)


def test_each_sample_is_one_unit_of_its_medium_and_one_example() -> None:
    assert KIND.count_outputs(FACTS) == 3
    assert KIND.list_units(SAMPLES, FACTS) == tuple(Unit.of(audio=sample.media) for sample in SAMPLES)
    examples = KIND.list_examples(SAMPLES, FACTS)
    assert [example.target for example in examples] == [(2,), (0,), (1,)]
    assert [example.units for example in examples] == [(Unit.of(audio=sample.media),) for sample in SAMPLES]


def test_the_class_of_the_highest_output_is_the_answer() -> None:
    judged = KIND.judge(SAMPLES, outputs, FACTS)
    (metric,) = judged.metrics
    assert (metric.name, metric.n, metric.hits) == ("accuracy", 3, 2)
    assert metric.value == pytest.approx(200 / 3)
    rows = list(judged.rows)
    assert [(row["id"], row["truth"], row["prediction"]) for row in rows] == [
        ("a", "dog", "dog"),
        ("b", "cat", "cow"),
        ("c", "cow", "cow"),
    ]
    assert rows[0]["share"] == pytest.approx(0.843795, abs=1e-6)  # e^3 / (1 + e + e^3)


def test_the_loss_is_the_cross_entropy_summed_over_samples() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    loss = KIND.compute_loss(batch(logits, torch.tensor([[1], [0]])))
    assert float(loss.total) == pytest.approx(1.098612 + 0.239545, abs=1e-5)  # log 3, log(1 + 2 e^-2)
    assert (loss.weight, int(loss.hits)) == (2, 1)
    smoothed = KIND.compute_loss(batch(logits, torch.tensor([[1], [0]]), 0.3))
    assert float(smoothed.total - loss.total) == pytest.approx(0.3 * 4 / 3, abs=1e-5)  # a share of the mean distance
