"""Sentences about two pictures: one unit of two passes, the first output is True, pairs are the clusters."""

import math
from pathlib import Path

import pytest
import torch

from downstream.formats.base import PicturePair
from downstream.kinds import load_kind
from downstream.kinds.base import Batch, Facts
from models.world import Negatives

KIND, FACTS = load_kind("pairs"), Facts("image", seed=2)
LEFT, RIGHT, THIRD = Path("in/a-img0.png"), Path("in/a-img1.png"), Path("in/b-img0.png")
SAMPLES = [
    PicturePair("a-0", LEFT, RIGHT, "both are red", is_true=True),
    PicturePair("a-1", LEFT, RIGHT, "one is blue", is_true=False),
    PicturePair("b-0", THIRD, RIGHT, "none is green", is_true=True),
]
LOGITS = torch.tensor([[1.0, 0.0], [2.0, 0.5], [1.0, -1.0]])  # all are said to be true


def judge():
    return KIND.judge(SAMPLES, lambda _: LOGITS, FACTS)


def test_a_unit_is_the_sentence_with_each_picture_the_left_one_first() -> None:
    assert KIND.count_outputs(FACTS) == 2
    unit = KIND.list_units(SAMPLES, FACTS)[0]
    assert unit.passes == (
        (("text", "both are red"), ("image", LEFT)),
        (("text", "both are red"), ("image", RIGHT)),
    )
    assert unit.signature == (("text", "image"), ("text", "image"))


def test_the_first_output_says_true() -> None:
    (metric,) = judge().metrics
    assert (metric.name, metric.n, metric.hits) == ("accuracy", 3, 2)
    swapped = KIND.judge(SAMPLES, lambda _: LOGITS.flip(1), FACTS)
    assert swapped.metrics[0].hits == 1
    assert [example.target for example in KIND.list_examples(SAMPLES, FACTS)] == [(0,), (1,), (0,)]


def test_sentences_about_one_pair_are_drawn_again_together() -> None:
    assert judge().metrics[0].ci_method == "bootstrap over clusters, 1000 resamples, seed 2"
    apart = KIND.judge(SAMPLES[1:], lambda _: LOGITS[1:], FACTS)
    assert apart.metrics[0].ci_method == "wilson", "a picture in common makes no pair"


def test_rows_tell_what_was_said_and_how_surely() -> None:
    row = list(judge().rows)[1]
    assert row == {
        "id": "a-1",
        "pictures": ["a-img0.png", "a-img1.png"],
        "text": "one is blue",
        "truth": False,
        "prediction": True,
        "share": pytest.approx(1 / (1 + math.exp(-1.5)), abs=1e-6),
    }


def test_the_loss_is_cross_entropy_over_both_outputs() -> None:
    loss = KIND.compute_loss(Batch((LOGITS,), torch.tensor([[0], [1], [0]]), 2, None, lambda _: Negatives({}, 0), 0.0))
    spelled_out = sum(math.log(1 + math.exp(gap)) for gap in (-1.0, 1.5, -2.0))
    assert float(loss.total) == pytest.approx(spelled_out, abs=1e-5)
    assert (loss.weight, int(loss.hits)) == (3, 2)
