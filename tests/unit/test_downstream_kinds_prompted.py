"""Zero-shot classification: classes are said, and the nearest sentence wins; by numbers made by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from downstream.engines.plain.units import Unit
from downstream.formats.base import Labelled
from downstream.kinds import load_kind
from downstream.kinds.base import Batch, Facts
from models.world import Negatives

KIND = load_kind("prompted")
FACTS = Facts("audio", ("sea_waves", "dog", "clock_tick_tock"), prompt="This is a sound of {label}")
SAMPLES = [Labelled(name, Path(f"{name}.wav"), (label,)) for name, label in (("a", 0), ("b", 2), ("c", 1), ("d", 1))]
VECTORS = {
    "This is a sound of sea waves": [1.0, 0.0],
    "This is a sound of dog": [0.0, 1.0],
    "This is a sound of clock tick tock": [-1.0, 0.0],
    "a.wav": [0.9, 0.1],
    "b.wav": [-0.8, 0.6],
    "c.wav": [0.6, 0.5],
    "d.wav": [-0.1, 0.9],
}


def outputs(units: Sequence[Unit]) -> Tensor:
    sources = [unit.passes[0][0][1] for unit in units]
    rows = [VECTORS[source if isinstance(source, str) else source.name] for source in sources]
    return functional.normalize(torch.tensor(rows), dim=1)


def test_units_are_all_sounds_and_then_every_class_once() -> None:
    assert KIND.count_outputs(FACTS) is None
    units = KIND.list_units(SAMPLES, FACTS)
    assert units[:4] == tuple(Unit.of(audio=sample.media) for sample in SAMPLES)
    assert units[4:] == tuple(Unit.of(text=text) for text in list(VECTORS)[:3])


def test_without_a_prompt_the_label_is_said_alone() -> None:
    units = KIND.list_units([], replace(FACTS, prompt=None))
    assert [unit.passes[0][0][1] for unit in units] == ["sea waves", "dog", "clock tick tock"]


def test_of_several_names_the_first_is_said() -> None:
    names = ("tench, Tinca tinca", "great_white shark, white shark, man-eater", "crane", "crane")
    units = KIND.list_units([], Facts("image", names, prompt="a photo of a {label}"))
    assert [unit.passes[0][0] for unit in units] == [
        ("text", f"a photo of a {label}") for label in ("tench", "great white shark", "crane", "crane")
    ]


def test_the_nearest_sentence_names_the_class() -> None:
    judged = KIND.judge(SAMPLES, outputs, FACTS)
    (metric,) = judged.metrics
    assert (metric.name, metric.n, metric.hits, metric.value) == ("accuracy", 4, 3, 75.0)
    rows = list(judged.rows)
    assert [(row["id"], row["truth"], row["prediction"]) for row in rows] == [
        ("a", "sea_waves", "sea_waves"),
        ("b", "clock_tick_tock", "clock_tick_tock"),
        ("c", "dog", "sea_waves"),
        ("d", "dog", "dog"),
    ]
    assert rows[2]["best"] == ["sea_waves", "dog", "clock_tick_tock"]


def test_nothing_is_learned() -> None:
    batch = Batch((), torch.zeros(0), 0, None, lambda _: Negatives({}, 0), 0.0)
    for attempt in (lambda: KIND.list_examples(SAMPLES, FACTS), lambda: KIND.compute_loss(batch)):
        with pytest.raises(ValueError, match="judged zero-shot; leave the training out"):
            attempt()
