"""Retrieval: pairs to learn from, all candidates to search among; by numbers made by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Captioned
from downstream.kinds import load_kind
from downstream.kinds.base import Batch, Facts
from models.world import Negatives

KIND = load_kind("retrieval")
FACTS = Facts("image")
NUM_ITEMS = 11


def item(number: int, *captions: str) -> Captioned:
    return Captioned(f"i{number}", Path(f"{number}.jpg"), captions)


SAMPLES = [item(number, f"{number}") if number else item(0, "0", "as 1") for number in range(NUM_ITEMS)]


def outputs(units):
    """Give picture n the unit vector n, caption n nearly so; one caption of picture 0 speaks of picture 1."""
    axes, rows = torch.eye(NUM_ITEMS + 1)[:, :NUM_ITEMS], []
    for unit in units:
        ((_, source),) = unit.passes[0]
        number = int(str(source).removeprefix("as ").removesuffix(".jpg"))
        is_exact = isinstance(source, Path) or source == "as 1"
        rows.append(axes[number] if is_exact else axes[number] + 0.1 * axes[number + 1])
    return functional.normalize(torch.stack(rows), dim=1)


def test_units_are_all_pictures_and_then_all_captions() -> None:
    assert KIND.count_outputs(FACTS) is None
    units = KIND.list_units(SAMPLES, FACTS)
    assert units[:NUM_ITEMS] == tuple(Unit.of(image=sample.media) for sample in SAMPLES)
    assert [unit.passes[0][0][1] for unit in units[NUM_ITEMS:]] == ["0", "as 1", *map(str, range(1, NUM_ITEMS))]


def test_every_caption_makes_a_pair_with_its_picture() -> None:
    examples = KIND.list_examples(SAMPLES[:2], FACTS)
    pairs = [("0.jpg", "0"), ("0.jpg", "as 1"), ("1.jpg", "1")]
    assert examples == tuple(Example((Unit.of(image=Path(file)), Unit.of(text=text)), ()) for file, text in pairs)


def test_recall_is_over_pictures_one_way_and_over_captions_the_other() -> None:
    judged = KIND.judge(SAMPLES, outputs, FACTS)
    values = {metric.name: (metric.n, metric.hits) for metric in judged.metrics}
    assert values["recall_at_1_image_to_text"] == (11, 10)  # picture 1 finds the caption that speaks of it first
    assert values["recall_at_5_image_to_text"] == (11, 11)
    assert values["recall_at_1_text_to_image"] == (12, 11)
    assert values["recall_at_10_text_to_image"] == (12, 12)
    mean = {metric.name: metric.value for metric in judged.metrics}["recall_mean"]
    assert mean == pytest.approx((1000 / 11 + 1100 / 12 + 400) / 6)


def test_rows_say_what_each_query_found_and_the_place_of_its_own() -> None:
    rows = list(KIND.judge(SAMPLES, outputs, FACTS).rows)
    assert [row["direction"] for row in rows] == ["image_to_text"] * 11 + ["text_to_image"] * 12
    assert "caption" not in rows[1]
    assert (rows[1]["id"], rows[1]["best"][:2], rows[1]["place"]) == ("i1", ["i0", "i1"], 2)
    stray = rows[12]
    assert (stray["id"], stray["caption"], stray["best"][:2], stray["place"]) == ("i0", "as 1", ["i1", "i0"], 2)


def test_a_query_whose_own_is_not_among_the_best_has_no_place() -> None:
    def shuffled(units):
        found = outputs(units)
        return found if len(units) > NUM_ITEMS else found.roll(3, dims=1)

    far = [row for row in KIND.judge(SAMPLES, shuffled, FACTS).rows if row["place"] is None]
    assert far
    assert all(row["id"] not in row["best"] and len(row["best"]) == 10 for row in far)


def test_a_handful_of_pictures_is_judged_at_the_ranks_there_are() -> None:
    names = [metric.name for metric in KIND.judge(SAMPLES[:6], outputs, FACTS).metrics]
    assert names == [f"recall_at_{k}_{way}" for way in ("image_to_text", "text_to_image") for k in (1, 5)]
    (one, other) = KIND.judge(SAMPLES[:2], outputs, FACTS).metrics
    assert (one.n, other.n) == (2, 3)


def test_the_loss_contrasts_pairs_with_the_whole_batch() -> None:
    media, text = torch.eye(3)[:2], torch.eye(3)[:2]
    whole = Negatives({"media": torch.eye(3), "text": torch.eye(3)}, first_row=0)
    asked = []

    def gather(vectors):
        asked.append(set(vectors))
        return whole

    scale = torch.tensor(2.0)
    loss = KIND.compute_loss(Batch((media, text), torch.zeros(2, 0), 0, scale, gather, 0.0))
    assert asked == [{"media", "text"}]
    assert float(loss.total) == pytest.approx(math.log(math.exp(2) + 2) - 2, abs=1e-6)
    assert (loss.weight, int(loss.hits)) == (1, 2)
    later = KIND.compute_loss(
        Batch((media, text), torch.zeros(2, 0), 0, scale, lambda _: Negatives(whole.features, 1), 0.0)
    )
    assert float(later.total) == pytest.approx(math.log(math.exp(2) + 2), abs=1e-6), "own rows begin at the second"
