"""The denoising losses are what a spelled-out loop gives, teach no teacher, and are 0 where nothing is asked."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from pretrain.losses import REGRESSIONS, contrast_units, denoising_loss, regress_units

quick = settings(deadline=None, max_examples=25)
SCALE, SMOOTHING = 2.5, 0.1


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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
