"""One number a sample that agrees with the metric of each kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from downstream.doctor.scores import TABLES, Table, rank_guesses, rank_right, score_guesses, score_samples
from downstream.engines.plain.units import Unit
from downstream.formats.base import Captioned, Labelled, PicturePair, PictureQuestion, Question, Referred
from downstream.kinds import list_kinds, load_kind
from downstream.kinds.base import Facts

N, CLASSES = 24, ("a", "b", "c", "d", "e")


def fields(number: int) -> dict[str, Any]:
    return {"id": str(number), "media": Path(f"{number}.png")}


def make(kind: str) -> list[Any]:
    """Make samples of a kind."""
    if kind == "retrieval":
        return [Captioned(**fields(k), captions=(f"{k} x", f"{k} y")) for k in range(N)]
    if kind == "choice":
        return [Question(**fields(k), question="?", choices=tuple("wxyz"), answer=k % 4) for k in range(N)]
    if kind == "answers":
        return [PictureQuestion(**fields(k), question=f"{k}?", scores=((CLASSES[k % 5], 1.0),)) for k in range(N)]
    if kind == "pairs":
        return [PicturePair(str(k), Path(f"{k}a"), Path(f"{k}b"), "it is", is_true=k % 3 == 0) for k in range(N)]
    if kind == "grounding":
        return [Referred(**fields(k), text=f"{k}", box=(10.0, 10.0, 40.0 + k, 50.0)) for k in range(N)]
    return [Labelled(**fields(k), labels=(k % 5,)) for k in range(N)]


def outputs_of(width: int, *, is_unit: bool) -> Any:
    """Give each unit numbers of its own."""
    known: dict[Unit, Tensor] = {}
    generator = torch.Generator().manual_seed(0)

    def read(units: Sequence[Unit]) -> Tensor:
        for unit in units:
            known.setdefault(unit, torch.randn(width, generator=generator))
        found = torch.stack([known[unit] for unit in units])
        return torch.nn.functional.normalize(found, dim=1) if is_unit else found

    return read


def test_every_kind_has_a_score() -> None:
    assert {*TABLES, "grounding"} == set(list_kinds())


@pytest.mark.parametrize("kind_name", [*TABLES, "grounding"])
def test_the_share_of_perfect_scores_is_the_metric_of_the_kind(kind_name: str) -> None:
    kind, samples = load_kind(kind_name), make(kind_name)
    sizes = {sample.media: (80, 60) for sample in samples} if kind_name == "grounding" else {}
    facts = Facts("image", CLASSES, "a {label}", sizes=sizes)
    width = {"choice": 1, "pairs": 2, "grounding": 4}.get(kind_name, 5)
    outputs = outputs_of(width, is_unit=kind_name in ("prompted", "retrieval"))
    scores = score_samples(kind_name, kind, samples, outputs, facts)
    assert scores.shape == (N,)
    assert ((scores >= 0) & (scores <= 1)).all()
    guesses = score_guesses(kind_name, kind, samples, outputs, facts)
    assert guesses.shape == (N,)
    assert guesses.mean() == pytest.approx(scores.mean(), abs=0.2), "random answers are guesses"
    if kind_name == "multi_label":
        return  # its metric ranks samples, not classes
    perfect = scores >= 0.5 if kind_name == "grounding" else scores == 1
    metric = next(iter(kind.judge(samples, outputs, facts).metrics))
    assert 100 * perfect.mean() == pytest.approx(metric.value)


def test_ties_count_half_and_what_is_no_number_comes_last() -> None:
    right = np.array([[True, False, False]] * 4)
    values = np.array([[3.0, 2, 1], [2, 3, 1], [1, 1, 1], [np.nan, 2, 1]])
    assert rank_right(Table(values, right)).tolist() == pytest.approx([1, 1 / 2, 1 / 2, 1 / 3])


def test_of_several_right_answers_the_best_counts() -> None:
    table = Table(np.array([[1.0, 5, 3]]), np.array([[True, False, True]]))
    assert rank_right(table).tolist() == [1 / 2]


def test_guesses_keep_what_is_always_said_and_lose_what_is_known() -> None:
    right = np.eye(4, dtype=bool)[np.arange(40) % 4]
    known = Table(right.astype(float), right)
    assert rank_right(known).mean() == 1
    assert rank_guesses(known).mean() < 0.6
    same = Table(np.tile([4.0, 3, 2, 1], (40, 1)), right)
    assert rank_guesses(same).mean() == pytest.approx(rank_right(same).mean())
