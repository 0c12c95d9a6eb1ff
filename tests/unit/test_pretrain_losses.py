"""Both contrasts are what a spelled-out loop gives, teach nothing to negatives, and are 0 where nothing is asked."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pretrain.losses import (
    REGRESSIONS,
    Negatives,
    align,
    contrast_units,
    denoising_loss,
    multiply,
    regress_units,
    widen,
)
from pretrain.objective import own_rows

quick = settings(deadline=None, max_examples=25)
SCALE, SMOOTHING = 2.5, 0.1


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_rows(rows: int, dim: int = 5, *, seed: int = 0) -> Tensor:
    return functional.normalize(draw(rows, dim, seed=seed), dim=1)


def units_of(seed: int, *, batch: int = 3, tokens: int = 7, dim: int = 5):
    """Student, teacher, masked and real of samples with random lengths and masks; the class is never masked."""
    coin = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, tokens + 1, (batch, 1), generator=coin)
    real = torch.arange(tokens)[None] < lengths
    masked = real & (torch.rand(batch, tokens, generator=coin) < 0.5)
    masked[:, 0] = False
    return draw(batch, tokens, dim, seed=seed), draw(batch, tokens, dim, seed=seed + 1), masked, real


def contrast(student: Tensor, teacher: Tensor, masked: Tensor, real: Tensor, *, smoothing: float = SMOOTHING) -> Tensor:
    return contrast_units(student, teacher, masked=masked, real=real, scale=SCALE, label_smoothing=smoothing)


def spelled_out_alignment(asking: Tensor, answering: Tensor, *, first_row: int, scale: float) -> float:
    losses = []
    for row, vector in enumerate(asking.tolist()):
        scores = [scale * sum(a * b for a, b in zip(vector, other, strict=True)) for other in answering.tolist()]
        losses.append(math.log(sum(map(math.exp, scores))) - scores[first_row + row])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("first_row", [0, 4])
def test_the_aligning_contrast_is_the_mean_of_both_directions_over_the_whole_batch(first_row):
    whole = {"text": unit_rows(9, seed=1), "image": unit_rows(9, seed=2)}
    own = {name: value[first_row : first_row + 3] for name, value in whole.items()}
    found = align(own, Negatives(whole, first_row), scale=torch.tensor(7.0))
    forth = spelled_out_alignment(own["text"], whole["image"], first_row=first_row, scale=7)
    back = spelled_out_alignment(own["image"], whole["text"], first_row=first_row, scale=7)
    assert found.loss.item() == pytest.approx((forth + back) / 2)


def test_hits_count_the_rows_that_find_their_partner_among_all():
    text = torch.eye(4, dtype=torch.float64)
    image = text[[0, 1, 3, 2]]
    found = align({"text": text[1:3], "image": image[1:3]}, Negatives({"text": text, "image": image}, 1), scale=SCALE)
    assert {name: int(value) for name, value in found.hits.items()} == {"text": 1, "image": 1}


def test_no_gradient_flows_into_negatives_those_of_the_own_rows_included():
    vectors = {"text": unit_rows(4, seed=1).requires_grad_(), "image": unit_rows(4, seed=2).requires_grad_()}
    negatives = own_rows(vectors)
    assert not any(value.requires_grad for value in negatives.features.values())
    align(vectors, negatives, scale=SCALE).loss.backward()
    for name, other in (("text", "image"), ("image", "text")):
        alone = vectors[name].detach().requires_grad_()
        logits = SCALE * alone @ vectors[other].detach().t()
        (functional.cross_entropy(logits, torch.arange(4)) / 2).backward()
        torch.testing.assert_close(vectors[name].grad, alone.grad)


def spelled_out_contrast(
    student: Tensor, teacher: Tensor, masked: Tensor, real: Tensor, *, smoothing: float = SMOOTHING
) -> float:
    """The published formula, query by query; NaN where there is none."""
    places = [(row, column) for row, column in real.nonzero().tolist() if column > 0]
    keys = [functional.normalize(teacher[place], dim=0) for place in places]
    losses = []
    for place in (place for place in places if masked[place]):
        query = functional.normalize(student[place], dim=0)
        scores = torch.stack([SCALE * query @ key for key in keys])
        surprise = scores.logsumexp(0) - scores
        wrong = smoothing / (len(keys) - 1)
        losses.append((1 - smoothing - wrong) * surprise[places.index(place)] + wrong * surprise.sum())
    return torch.stack(losses).mean().item() if losses else math.nan


@quick
@given(seed=st.integers(0, 10**6), smoothing=st.sampled_from([0.0, SMOOTHING, 0.5]))
def test_the_denoising_contrast_is_the_published_formula(seed, smoothing):
    student, teacher, masked, real = units_of(seed)
    found = contrast(student, teacher, masked, real, smoothing=smoothing).item()
    expected = spelled_out_contrast(student, teacher, masked, real, smoothing=smoothing)
    assert found == pytest.approx(0.0 if math.isnan(expected) else expected)


def test_candidates_of_other_samples_are_negatives_and_padding_is_none():
    student, teacher, masked, real = units_of(4)
    loss = contrast(student, teacher, masked, real)
    elsewhere = teacher.clone()
    elsewhere[~real] = 1e3
    elsewhere[:, 0] = 1e3  # the class
    assert contrast(student, elsewhere, masked, real).item() == loss.item()
    other = int((~masked.any(dim=1)).nonzero()[0]) if (~masked.any(dim=1)).any() else 0
    moved = teacher.clone()
    moved[other, 1] = -moved[other, 1]
    assert contrast(student, moved, masked, real).item() != pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("loss", ["contrast", *REGRESSIONS])
def test_teachers_get_no_gradient_and_only_hidden_students_do(loss):
    student, teacher, masked, real = units_of(5)
    assert masked.any()
    student.requires_grad_()
    teacher.requires_grad_()
    denoise = denoising_loss(loss, scale=SCALE, label_smoothing=SMOOTHING)
    denoise(student, teacher, masked=masked, real=real).backward()
    assert teacher.grad is None
    moved = student.grad.abs().sum(dim=2) > 0
    assert torch.equal(moved, masked)


@pytest.mark.parametrize("loss", ["contrast", *REGRESSIONS])
def test_an_empty_mask_gives_zero_with_a_gradient_of_zeros(loss):
    student, teacher, masked, real = units_of(6)
    student.requires_grad_()
    denoise = denoising_loss(loss, scale=SCALE, label_smoothing=SMOOTHING)
    found = denoise(student, teacher, masked=torch.zeros_like(masked), real=real)
    found.backward()
    assert found.item() == 0
    assert not student.grad.any()


def test_a_single_candidate_gives_zero_not_nan():
    real = torch.tensor([[True, True, False]])
    masked = torch.tensor([[False, True, False]])
    student = draw(1, 3, 5).requires_grad_()
    found = contrast(student, draw(1, 3, 5, seed=1), masked, real)
    found.backward()
    assert found.item() == 0
    assert not student.grad.any()


def test_regressions_are_what_they_are_called():
    student, teacher, masked, real = units_of(7)
    found = {
        name: regress_units(student, teacher, masked=masked, real=real, distance=distance).item()
        for name, distance in REGRESSIONS.items()
    }
    gap = (student - teacher)[masked]
    huber = torch.where(gap.abs() < 1, gap.square() / 2, gap.abs() - 0.5)
    cosine = (functional.normalize(student, dim=2) * functional.normalize(teacher, dim=2)).sum(dim=2)[masked]
    assert found == pytest.approx(
        {"l2": gap.square().mean().item(), "smooth_l1": huber.mean().item(), "cosine": (1 - cosine).mean().item()}
    )


@pytest.mark.parametrize("loss", ["contrast", *REGRESSIONS])
def test_losses_of_low_precision_are_computed_in_float32(loss):
    student, teacher, masked, real = units_of(8)
    denoise = denoising_loss(loss, scale=SCALE, label_smoothing=SMOOTHING)
    low = denoise(student.bfloat16(), teacher.bfloat16(), masked=masked, real=real)
    same = denoise(student.bfloat16().float(), teacher.bfloat16().float(), masked=masked, real=real)
    assert low.dtype == torch.float32
    assert low.item() == same.item()
    assert widen(student).dtype == torch.float64


def test_scores_keep_their_precision_under_autocast():
    generator = torch.Generator().manual_seed(0)
    a, b = (functional.normalize(torch.randn(5, 64, generator=generator), dim=1) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        scores = multiply(a, b)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, a @ b.t())
