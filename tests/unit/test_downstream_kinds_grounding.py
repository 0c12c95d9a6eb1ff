"""Boxes for sentences: shares become pixels of each one's own picture, and overlaps are counted by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from downstream.boxes import TRUTH_COLOUR
from downstream.engines.plain.units import Unit
from downstream.formats.base import Referred
from downstream.kinds import load_kind
from downstream.kinds.base import Batch, Facts
from downstream.losses import box_loss
from models.modalities.image import BoxScale
from models.world import Negatives

KIND = load_kind("grounding")
WIDE, TALL = Path("in/wide.jpg"), Path("in/tall.jpg")
FACTS = Facts("image", sizes={WIDE: (400, 100), TALL: (50, 200)}, seed=3)
SAMPLES = [
    Referred("1", WIDE, "the cat", (100.0, 25.0, 300.0, 75.0)),
    Referred("2", WIDE, "the dog", (0.0, 0.0, 200.0, 100.0)),
    Referred("3", TALL, "the sea", (0.0, 0.0, 50.0, 100.0)),
]
SHARES = {
    "the cat": (0.25, 0.25, 0.75, 0.75),  # the very box
    "the dog": (0.0, 0.0, 0.25, 0.5),  # a quarter of it
    "the sea": (0.0, 0.0, 1.0, 0.375),  # three quarters of it
}


def outputs(units):
    return torch.stack([torch.tensor(SHARES[dict(unit.passes[0])["text"]]).logit(eps=1e-7) for unit in units])


def test_a_unit_is_a_sentence_with_its_picture() -> None:
    assert KIND.count_outputs(FACTS) == 4
    assert KIND.list_units(SAMPLES, FACTS) == tuple(Unit.of(text=each.text, image=each.media) for each in SAMPLES)
    assert KIND.list_units(SAMPLES, FACTS)[0].signature == (("text", "image"),)


def test_half_the_true_box_is_a_hit_and_pictures_are_the_clusters() -> None:
    judged = KIND.judge(SAMPLES, outputs, FACTS)
    (metric,) = judged.metrics
    assert (metric.name, metric.n, metric.hits) == ("accuracy_at_iou_50", 3, 2)
    assert metric.value == pytest.approx(200 / 3)
    assert metric.ci_method == "bootstrap over clusters, 1000 resamples, seed 3"


def test_rows_tell_boxes_in_the_pixels_of_their_own_picture_and_no_folder() -> None:
    rows = list(KIND.judge(SAMPLES, outputs, FACTS).rows)
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row["picture"] for row in rows] == ["wide.jpg", "wide.jpg", "tall.jpg"]
    assert rows[0]["text"] == "the cat"
    assert rows[0]["truth"] == [100, 25, 300, 75]
    assert rows[1]["prediction"] == pytest.approx([0, 0, 100, 50], abs=1e-3)
    assert rows[2]["prediction"] == pytest.approx([0, 0, 50, 75], abs=1e-3)
    assert [row["iou"] for row in rows] == pytest.approx([1, 0.25, 0.75], abs=1e-5)


def test_best_and_worst_boxes_are_drawn(tmp_path: Path) -> None:
    samples = []
    for number, sample in enumerate(SAMPLES):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", FACTS.sizes[sample.media]).save(path)
        samples.append(replace(sample, media=path))
    sizes = {sample.media: FACTS.sizes[old.media] for sample, old in zip(samples, SAMPLES, strict=True)}
    ((name, write),) = KIND.judge(samples, outputs, replace(FACTS, sizes=sizes)).files.items()
    write(tmp_path / name)
    with Image.open(tmp_path / "boxes.png") as sheet:
        assert (np.array(sheet) == TRUTH_COLOUR).all(axis=2).any()


def test_targets_are_what_the_protocol_makes_of_the_boxes() -> None:
    examples = KIND.list_examples(SAMPLES, FACTS)
    assert [example.units for example in examples] == [(unit,) for unit in KIND.list_units(SAMPLES, FACTS)]
    assert examples[0].target == (0.25, 0.25, 0.75, 0.75)
    assert examples[2].target == (0.0, 0.0, 1.0, 0.5)
    for sample, example in zip(SAMPLES, examples, strict=True):
        scale = BoxScale(*FACTS.sizes[sample.media], size_px=384)
        assert scale.to_target(torch.tensor(sample.box)).tolist() == pytest.approx(example.target, abs=1e-6)
        assert scale.to_pixels(torch.tensor(example.target)).tolist() == pytest.approx(sample.box, abs=1e-3)


def test_a_box_learned_to_the_end_is_found_to_the_end() -> None:
    examples = KIND.list_examples(SAMPLES, FACTS)
    logits = torch.tensor([example.target for example in examples]).logit(eps=1e-7)
    judged = KIND.judge(SAMPLES, lambda _: logits, FACTS)
    assert judged.metrics[0].hits == 3
    assert [row["iou"] for row in judged.rows] == pytest.approx([1, 1, 1], abs=1e-5)


def test_the_loss_is_that_of_boxes() -> None:
    logits, targets = (
        torch.randn(3, 4),
        torch.tensor([example.target for example in KIND.list_examples(SAMPLES, FACTS)]),
    )
    loss = KIND.compute_loss(Batch((logits,), targets, 4, None, lambda _: Negatives({}, 0), 0.0))
    torch.testing.assert_close(loss.total, box_loss(logits, targets).total)
    assert loss.weight == 1


def test_outputs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected finite corners"):
        KIND.judge(SAMPLES[:1], lambda _: torch.full((1, 4), float("nan")), FACTS)
