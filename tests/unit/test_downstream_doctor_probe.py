"""One thing is changed at a time, and only what is clearly better counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from downstream.doctor.probe import (
    Change,
    ChangedPreparer,
    Probe,
    compare,
    spread,
    try_changes,
)
from downstream.engines.plain.model import build_trainee
from downstream.engines.plain.settings import InputSettings
from downstream.formats.base import Labelled, Referred
from downstream.kinds.base import Facts
from downstream.tasks.base import RunOptions
from downstream.tasks.plain import find_task, resolve_profile

SIZE = InputSettings(protocol="image-square", arguments={"size_px": 64})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(16)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)
    return paths


def open_grounding(pictures: list[Path]) -> Probe:
    """Open a probe of a fresh model that points."""
    _, config = find_task("refcoco")
    profile, _ = resolve_profile(config, "mini", RunOptions())
    loaded = build_trainee(None, size="tiny", setting=profile.settings["fine-tuned"], num_outputs=4, seed=0)
    samples = tuple(Referred(path.stem, path, f"thing {path.stem}", (0.0, 0.0, 15.0, 10.0)) for path in pictures)
    facts = Facts("image", sizes=dict.fromkeys(pictures, (30, 20)))
    return Probe("grounding", facts, samples, loaded, "float32", 5, torch.device("cpu"))


def test_samples_are_spread_over_the_whole_list() -> None:
    assert spread(range(10), 4) == (0, 3, 6, 9)
    assert spread(range(3), 64) == (0, 1, 2)
    assert spread(range(100), 1) == (0,)


def test_a_gain_counts_beyond_three_standard_errors_and_five_points() -> None:
    before = np.zeros(100)
    clear = np.where(np.arange(100) < 30, 1.0, 0.0)
    assert compare("x", before, clear).is_better
    assert not compare("x", before, np.full(100, 0.04)).is_better, "too small to matter"
    assert not compare("x", before, np.where(np.arange(100) % 2, 1.0, -0.8)).is_better, "within the noise"
    assert not compare("x", clear, before).is_better


def test_a_change_reaches_pictures_and_no_texts(pictures: list[Path]) -> None:
    from models.config import load_config

    def prepare(change: Change) -> torch.Tensor:
        return ChangedPreparer(load_config("tiny").branch("image"), {"image": SIZE}, None, change).transform(
            "image", pictures[0]
        )

    plain = prepare(Change())
    assert torch.equal(prepare(Change(prepared=lambda tensor: 2 * tensor)), 2 * plain)
    grey = prepare(Change(decoded=lambda picture: picture.convert("L").convert("RGB")))
    assert grey.shape == plain.shape
    assert not torch.equal(grey, plain)


def test_what_a_change_does_not_concern_is_not_encoded_again(pictures: list[Path]) -> None:
    probe = open_grounding(pictures)
    before = probe.score()
    assert len(probe.known) == 16
    assert np.array_equal(probe.score(), before)
    assert len(probe.known) == 16
    probe.score(Change(prepared=lambda tensor: -tensor), probe.samples[:4])
    assert len(probe.known) == 20


def test_pooling_other_tokens_moves_the_answers_and_leaves_the_model_as_it_is(pictures: list[Path]) -> None:
    probe = open_grounding(pictures)
    assert probe.pooled == "text"
    units = probe.kind.list_units(probe.samples, probe.facts)
    before = probe._encode(units, Change())
    other = probe._encode(units, Change(pooled="image"))
    assert not torch.allclose(before, other)
    assert torch.equal(replace(probe, known={})._encode(units, Change()), before)
    assert probe.pooled == "text"


def test_samples_without_numbers_are_counted(pictures: list[Path]) -> None:
    probe = open_grounding(pictures)
    assert probe.count_faulty() == 0
    with torch.no_grad():
        next(iter(probe.loaded.module.parameters())).fill_(float("nan"))
    assert replace(probe, known={}).count_faulty() == 16


def test_a_change_that_does_no_good_is_tried_on_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    good, bad = Change(prompt="good"), Change(prompt="bad")

    def score(self: Probe, change: Change = Change(), samples: Any = None) -> Any:  # noqa: B008
        count = len(self.samples if samples is None else samples)
        seen.append((change.prompt or "as it is", count))
        return np.full(count, {"good": 0.9, "bad": 0.1}.get(change.prompt or "", 0.5))

    monkeypatch.setattr(Probe, "score", score)
    monkeypatch.setattr(Probe, "guess", lambda self, change: np.full(64, 0.2))
    samples = tuple(Labelled(str(number), Path("x"), (0,)) for number in range(64))
    probe = Probe("classification", Facts("image"), samples, None, "float32", 4, torch.device("cpu"))  # type: ignore[arg-type]
    trial = try_changes(probe, {"bad": bad, "good": good})
    assert seen == [("as it is", 64), ("as it is", 16), ("bad", 16), ("good", 16), ("good", 64), ("good", 64)]
    assert trial.best is not None
    assert (trial.best.name, trial.best.num_samples) == ("good", 64)
    assert "90 with good (+40" in trial.told


def test_a_change_after_which_the_answers_are_guesses_is_not_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "score", lambda self, change=None, samples=None: np.full(64, 0.9 if change else 0.5))
    samples = tuple(Labelled(str(number), Path("x"), (0,)) for number in range(64))
    probe = Probe("classification", Facts("image"), samples, None, "float32", 4, torch.device("cpu"))  # type: ignore[arg-type]
    monkeypatch.setattr(Probe, "screened", samples)
    for guessed, is_found in ((0.2, True), (0.9, False)):
        monkeypatch.setattr(Probe, "guess", lambda self, change, guessed=guessed: np.full(64, guessed))
        assert (try_changes(probe, {"x": Change(prompt="x")}).best is not None) is is_found
