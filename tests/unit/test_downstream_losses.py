"""Losses are their formulas, add up over micro-batches, count what is right, and are never NaN."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from downstream.losses import (
    Loss,
    box_loss,
    contrastive_loss,
    hinge_loss,
    index_loss,
    multi_label_loss,
    soft_target_loss,
)
from models.world import Negatives

quick = settings(deadline=None, max_examples=25)
ROWS, CLASSES, CHOICES = 6, 5, 4
INDEX = torch.tensor([0, 4, 2, 2, 1, 3])
CHOICE = torch.tensor([0, 3, 2, 2, 1, 3])
NO_EXTENT = torch.tensor([[2.0, 0.0, -2.0, 1.0], [0.0, 1.0, 1.0, 1.0]])  # right of left, and without height
TARGET_BOXES = torch.tensor([[0.1, 0.2, 0.5, 0.6], [0.3, 0.1, 0.9, 0.4]])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logit_of(boxes) -> Tensor:
    return torch.tensor(boxes, dtype=torch.float64).logit()


SUMMED = {
    "multi_label": (multi_label_loss, draw(ROWS, CLASSES), draw(ROWS, CLASSES, seed=1).sigmoid()),
    "soft_target": (soft_target_loss, draw(ROWS, CLASSES), draw(ROWS, CLASSES, seed=1).sigmoid()),
    "index": (index_loss, draw(ROWS, CLASSES), INDEX),
    "smoothed": (functools.partial(index_loss, label_smoothing=0.1), draw(ROWS, CLASSES), INDEX),
    "hinge": (hinge_loss, draw(ROWS * CHOICES, 1), CHOICE),
}


def step_of(losses: list[Loss]) -> Tensor:
    return sum(loss.total for loss in losses) / sum(loss.weight for loss in losses)


@pytest.mark.parametrize("sizes", [(3, 3), (1, 4, 1), (2, 4)])
@pytest.mark.parametrize("name", SUMMED)
def test_micro_batches_of_any_sizes_give_the_step_of_one_batch(name, sizes):
    compute, logits, target = SUMMED[name]
    whole, parts = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    per_row = len(logits) // len(target)
    step_of([compute(whole, target)]).backward()
    found = [
        compute(rows, right)
        for rows, right in zip(parts.split([size * per_row for size in sizes]), target.split(sizes), strict=True)
    ]
    step_of(found).backward()
    torch.testing.assert_close(step_of(found), step_of([compute(logits, target)]))
    torch.testing.assert_close(parts.grad, whole.grad)
    torch.testing.assert_close(sum(loss.hits for loss in found), compute(logits, target).hits)


@pytest.mark.parametrize("name", SUMMED)
def test_low_precision_is_computed_in_float32_and_hits_carry_no_gradient(name):
    compute, logits, target = SUMMED[name]
    low = logits.bfloat16().requires_grad_()
    loss = compute(low, target)
    same = compute(low.detach().float(), target)
    assert loss.total.dtype == torch.float32
    assert loss.total.item() == same.total.item()
    assert not loss.hits.requires_grad


def test_a_step_of_averaged_losses_is_the_mean_of_its_micro_batches():
    logits, target = logit_of([[0.1, 0.2, 0.5, 0.7], [0.2, 0.2, 0.8, 0.9]]), TARGET_BOXES
    both = [box_loss(logits[:1], target[:1]), box_loss(logits[1:], target[1:])]
    assert [loss.weight for loss in both] == [1, 1]
    torch.testing.assert_close(step_of(both), (both[0].total + both[1].total) / 2)
    # With equal sizes and an extent in each, that is the loss of one batch.
    torch.testing.assert_close(step_of(both), box_loss(logits, target).total)


def test_the_retrieval_loss_smooths_over_the_other_candidates_and_counts_both_directions():
    text = functional.normalize(draw(3, CLASSES), dim=1)
    vectors = {"text": text, "image": text[[0, 2, 1]]}
    loss = contrastive_loss(vectors, Negatives(vectors, 0), scale=torch.tensor(3.0), label_smoothing=0.2)
    share = torch.full((3, 3), 0.1, dtype=torch.float64).fill_diagonal_(0.8)
    forth, back = 3 * text @ vectors["image"].t(), 3 * vectors["image"] @ text.t()
    spelled_out = [-(share * scores.log_softmax(dim=1)).sum(dim=1).mean() for scores in (forth, back)]
    torch.testing.assert_close(loss.total, sum(spelled_out) / 2)
    assert (loss.weight, loss.hits.item()) == (1, 1.0)


def test_several_labels_are_summed_over_classes_and_hits_weigh_the_best():
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    target = torch.tensor([[0.0, 0.6], [1.0, 0.0]])
    loss = multi_label_loss(logits, target)
    chances = logits.sigmoid()
    expected = -(target * chances.log() + (1 - target) * (1 - chances).log()).sum()
    torch.testing.assert_close(loss.total, expected)
    assert loss.hits.item() == pytest.approx(1.6)
    assert loss.weight == 2


def test_soft_targets_are_taken_as_they_are():
    logits, target = draw(2, 3), torch.tensor([[0.5, 0.9, 0.0], [0.0, 0.0, 0.3]], dtype=torch.float64)
    loss = soft_target_loss(logits, target)
    torch.testing.assert_close(loss.total, -(target * logits.log_softmax(dim=1)).sum())
    torch.testing.assert_close(soft_target_loss(logits, 2 * target).total, 2 * loss.total)
    torch.testing.assert_close(loss.hits, (target * logits.softmax(dim=1)).sum())


def test_one_class_is_smoothed_over_all_classes_and_counted_by_the_best():
    logits = draw(ROWS, CLASSES)
    share = torch.full_like(logits, 0.1 / CLASSES)
    share[range(ROWS), INDEX] += 0.9
    loss = index_loss(logits, INDEX, label_smoothing=0.1)
    torch.testing.assert_close(loss.total, -(share * logits.log_softmax(dim=1)).sum())
    assert loss.hits.item() == sum(row.argmax() == right for row, right in zip(logits, INDEX, strict=True))


@quick
@given(st.floats(-3, 3))
def test_equal_choices_cost_one_each_whatever_their_score(score):
    scores = torch.full((ROWS * CHOICES, 1), score, dtype=torch.float64, requires_grad=True)
    loss = hinge_loss(scores, CHOICE)
    assert loss.total.item() == pytest.approx(ROWS * CHOICES)
    loss.total.backward()
    by_sample = scores.grad.view(ROWS, CHOICES)
    assert by_sample[range(ROWS), CHOICE].tolist() == [1 - CHOICES] * ROWS
    assert by_sample.sum(dim=1).tolist() == [0] * ROWS


def test_a_right_choice_that_leads_by_the_margin_costs_its_comparison_with_itself_alone():
    scores = torch.tensor([[5.0], [3.9], [0.0], [1.0], [2.1], [-1.0]], requires_grad=True)
    loss = hinge_loss(scores, torch.tensor([0, 1]))
    loss.total.backward()
    assert (loss.total.item(), loss.weight, loss.hits.item()) == (pytest.approx(2), 2, 2)
    assert not scores.grad.any()


def test_choices_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match="7 logits for 2 samples; give each sample as many choices"):
        hinge_loss(torch.zeros(7, 1), torch.tensor([0, 1]))


@pytest.mark.parametrize("compute", [multi_label_loss, soft_target_loss, box_loss])
def test_a_target_of_another_shape_is_refused(compute):
    with pytest.raises(ValueError, match=r"target \(1, 4\) for logits \(3, 4\), expected the same shape"):
        compute(torch.zeros(3, 4), torch.zeros(1, 4))


def test_a_box_costs_its_corners_and_its_overlap():
    loss = box_loss(logit_of([[0.2, 0.2, 0.6, 0.6]]), torch.tensor([[0.4, 0.2, 0.8, 0.6]], dtype=torch.float64))
    corners, iou = 0.4, 0.08 / 0.24
    assert loss.total.item() == pytest.approx(corners + 1 - iou)  # the smallest box around both is their union
    assert loss.hits.item() == 0
    same = box_loss(logit_of([[0.2, 0.2, 0.6, 0.6]]), torch.tensor([[0.2, 0.2, 0.6, 0.6]]))
    assert (same.total.item(), same.hits.item()) == (pytest.approx(0, abs=1e-6), 1)


def test_boxes_without_extent_count_by_their_corners_and_leave_the_overlap_of_the_others():
    good = logit_of([[0.1, 0.2, 0.5, 0.7]])
    mixed = torch.cat([good, NO_EXTENT[:1].double()])
    corners = (mixed.sigmoid() - TARGET_BOXES).abs().sum() / 2
    alone = box_loss(good, TARGET_BOXES[:1]).total - (good.sigmoid() - TARGET_BOXES[:1]).abs().sum()
    torch.testing.assert_close(box_loss(mixed, TARGET_BOXES).total, corners + alone)


def test_where_no_box_has_an_extent_the_loss_and_its_gradient_are_those_of_the_corners():
    logits = NO_EXTENT.clone().requires_grad_()
    loss = box_loss(logits, TARGET_BOXES)
    loss.total.backward()
    found = logits.grad.clone()
    logits.grad = None
    ((logits.sigmoid() - TARGET_BOXES).abs().sum() / 2).backward()
    assert loss.total.item() == pytest.approx(((NO_EXTENT.sigmoid() - TARGET_BOXES).abs().sum() / 2).item())
    torch.testing.assert_close(found, logits.grad)
    assert loss.hits.item() == 0


@quick
@given(st.integers(0, 10**6))
def test_no_boxes_make_a_loss_or_gradient_that_is_not_finite(seed):
    logits = (4 * draw(3, 4, seed=seed)).float().requires_grad_()
    loss = box_loss(logits, TARGET_BOXES.repeat(2, 1)[:3])
    loss.total.backward()
    assert math.isfinite(loss.total.item())
    assert logits.grad.isfinite().all()
