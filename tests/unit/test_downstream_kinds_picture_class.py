"""Classes of pictures: best, best five and the loss, by numbers made by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from downstream.engines.plain.units import Unit
from downstream.formats.base import Labelled
from downstream.kinds import load_kind
from downstream.kinds.base import Batch, Facts
from downstream.kinds.picture_class import score_loss
from downstream.losses import index_loss
from models.world import Negatives

KIND = load_kind("picture_class")
NAMES = ("tench", "crane", "shark", "ray", "cock", "hen", "crane")  # two share a name, as in ImageNet
FACTS = Facts("image", NAMES, seed=4)
SAMPLES = [Labelled(str(number), Path(f"{number}.JPEG"), (label,)) for number, label in enumerate((0, 6, 5, 3))]
LOGITS = torch.tensor(
    [
        [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],  # best
        [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],  # last of seven
        [7.0, 6.0, 5.0, 4.0, 1.0, 3.0, 2.0],  # fifth
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # all are alike: fourth
    ]
)


def judge(samples=SAMPLES, logits=LOGITS, facts=FACTS):
    return KIND.judge(samples, lambda _: logits, facts)


def test_every_picture_is_a_unit_and_an_example() -> None:
    assert KIND.count_outputs(FACTS) == 7
    assert KIND.list_units(SAMPLES, FACTS) == tuple(Unit.of(image=sample.media) for sample in SAMPLES)
    assert [example.target for example in KIND.list_examples(SAMPLES, FACTS)] == [(0,), (6,), (5,), (3,)]


def test_the_best_and_the_best_five_have_wilsons_intervals() -> None:
    first, fifth, _ = judge().metrics
    assert (first.name, first.hits, first.n, first.value, first.ci_method) == ("accuracy_top_1", 1, 4, 25, "wilson")
    assert (fifth.name, fifth.hits, fifth.n, fifth.value, fifth.ci_method) == ("accuracy_top_5", 3, 4, 75, "wilson")


def test_the_loss_is_a_mean_over_pictures_in_nats() -> None:
    loss = judge().metrics[2]
    spread = math.log(sum(math.exp(x) for x in range(1, 8)))
    expected = (spread - 7 + spread - 1 + spread - 3 + math.log(7)) / 4
    assert (loss.name, loss.unit, loss.direction, loss.n) == ("loss", "nats", "lower", 4)
    assert loss.value == pytest.approx(expected, abs=1e-6)
    assert loss.ci_low < loss.value < loss.ci_high
    assert loss.ci_method == "bootstrap over pictures, 1000 resamples, seed 4"


def test_equal_losses_have_no_width() -> None:
    metric = score_loss(np.full(9, 0.5), seed=0)
    assert (metric.value, metric.ci_low, metric.ci_high) == (0.5, pytest.approx(0.5), pytest.approx(0.5))


@pytest.mark.parametrize(
    ("count", "names"), [(4, ["accuracy_top_1", "loss"]), (5, ["accuracy_top_1", "accuracy_top_5", "loss"])]
)
def test_five_are_looked_for_among_five_or_more(count: int, names: list[str]) -> None:
    judged = judge(SAMPLES[:1], torch.zeros(1, count), Facts("image", NAMES[:count]))
    assert [metric.name for metric in judged.metrics] == names
    assert len(next(iter(judged.rows))["best"]) == (5 if count == 5 else 1)


def test_rows_tell_the_best_five_in_order_also_where_names_are_alike() -> None:
    row = list(judge().rows)[1]
    assert (row["id"], row["truth"], row["prediction"]) == ("1", "crane", "tench")
    assert row["best"] == ["tench", "crane", "shark", "ray", "cock"]
    assert row["shares"] == pytest.approx(LOGITS[1].softmax(dim=0)[:5].tolist(), abs=1e-6)


def test_the_training_loss_is_smoothed() -> None:
    targets = torch.tensor([[0], [6], [5], [3]])
    loss = KIND.compute_loss(Batch((LOGITS,), targets, 7, None, lambda _: Negatives({}, 0), 0.3))
    torch.testing.assert_close(loss.total, index_loss(LOGITS, targets[:, 0], label_smoothing=0.3).total)
    assert float(loss.total) != float(index_loss(LOGITS, targets[:, 0]).total)
    assert (loss.weight, int(loss.hits)) == (4, 1)
