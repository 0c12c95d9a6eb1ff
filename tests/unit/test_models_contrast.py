"""The contrast is what a spelled-out loop gives, and teaches nothing to negatives; scores keep their precision."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.contrast import align, multiply, read_scale, smoothed_cross_entropy, widen
from models.onepeace import MAX_LOGIT_SCALE
from models.world import Negatives

SCALE = 2.5


def unit_rows(rows: int, dim: int = 5, *, seed: int = 0) -> Tensor:
    vectors = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(vectors, dim=1)


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
    negatives = Negatives({name: value.detach() for name, value in vectors.items()}, first_row=0)
    align(vectors, negatives, scale=SCALE).loss.backward()
    for name, other in (("text", "image"), ("image", "text")):
        alone = vectors[name].detach().requires_grad_()
        logits = SCALE * alone @ vectors[other].detach().t()
        (functional.cross_entropy(logits, torch.arange(4)) / 2).backward()
        torch.testing.assert_close(vectors[name].grad, alone.grad)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_spreads_a_share_over_the_other_candidates(smoothing):
    logits, target = 3 * unit_rows(4, 6), torch.tensor([5, 0, 2, 2])
    found = smoothed_cross_entropy(logits, target, label_smoothing=smoothing)
    share = torch.full((4, 6), smoothing / 5, dtype=torch.float64)
    share[range(4), target] = 1 - smoothing
    torch.testing.assert_close(found, -(share * logits.log_softmax(dim=1)).sum(dim=1).mean())
    assert found.item() != pytest.approx(functional.cross_entropy(logits, target, label_smoothing=smoothing).item())


def test_the_aligning_contrast_smooths_both_directions():
    vectors = {"text": unit_rows(4, seed=1), "audio": unit_rows(4, seed=2)}
    loss = align(vectors, Negatives(vectors, 0), scale=SCALE, label_smoothing=0.2).loss
    scores, own = SCALE * vectors["text"] @ vectors["audio"].t(), torch.arange(4)
    both = [smoothed_cross_entropy(part, own, label_smoothing=0.2) for part in (scores, scores.t())]
    torch.testing.assert_close(loss, (both[0] + both[1]) / 2)
    assert loss.item() != pytest.approx(align(vectors, Negatives(vectors, 0), scale=SCALE).loss.item())


def test_a_single_candidate_costs_nothing_smoothed_or_not():
    logits = torch.tensor([[3.0], [-1.0]], requires_grad=True)
    loss = smoothed_cross_entropy(logits, torch.tensor([0, 0]), label_smoothing=0.1)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize(("stored", "scale"), [(math.log(1000), MAX_LOGIT_SCALE), (-1.0, 1.0), (2.0, math.exp(2))])
def test_the_scale_is_clamped_in_place_but_its_gradient_is_not_cut(stored, scale):
    logit_scale = nn.Parameter(torch.tensor(stored, dtype=torch.float64))
    found = read_scale(logit_scale)
    found.backward()
    assert found.item() == pytest.approx(scale)
    assert logit_scale.item() == pytest.approx(math.log(scale))
    assert logit_scale.grad.item() == pytest.approx(scale)


def test_low_precision_is_widened_to_float32_and_float64_stays():
    assert widen(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert widen(torch.ones(1, dtype=torch.float64)).dtype == torch.float64


def test_scores_keep_their_precision_under_autocast():
    generator = torch.Generator().manual_seed(0)
    a, b = (functional.normalize(torch.randn(5, 64, generator=generator), dim=1) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        scores = multiply(a, b)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, a @ b.t())
