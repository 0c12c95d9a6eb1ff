"""What fine-tuning minimises: a loss for each kind of answer, each with what it counts."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou, generalized_box_iou_loss

from models.contrast import align, widen
from models.world import Negatives

HINGE_MARGIN = 1.0  # reference one_peace/criterions/hinge_loss.py: its margin setting is never read
IOU_OF_A_HIT = 0.5  # reference one_peace/metrics/iou_acc.py


@dataclass(frozen=True)
class Loss:
    """What a micro-batch costs; a step costs the sum of `total` over the sum of `weight`, of all on every rank."""

    total: Tensor
    """Scalar with gradient, float32 or wider."""
    weight: int
    """What totals are divided by: the samples, or 1 where `total` is a mean already; the published sample size."""
    hits: Tensor
    """Scalar without gradient, out of the samples: the right answers, or the targets' share in what was answered."""


def contrastive_loss(
    vectors: Mapping[str, Tensor], negatives: Negatives, *, scale: Tensor, label_smoothing: float
) -> Loss:
    """Compute the loss of retrieval: a mean over the batch and both directions, so several batches are averaged alike.

    Args:
        vectors: by modality, (own rows, dim) unit vectors with gradient.
        negatives: of the whole batch, without gradient.
        scale: what cosines are multiplied by, a scalar; see `models.contrast.read_scale`.
        label_smoothing: spread over the other candidates, not in torch's way.

    Returns:
        `hits` is the mean of both directions.

    Source: reference one_peace/criterions/{image,audio}_text_retrieval_loss.py.
    """
    alignment = align(vectors, negatives, scale=scale, label_smoothing=label_smoothing)
    forth, back = alignment.hits.values()
    return Loss(alignment.loss, weight=1, hits=(forth + back) / 2)


def multi_label_loss(logits: Tensor, target: Tensor) -> Loss:
    """Compute binary cross-entropy, summed over samples and classes.

    Args:
        logits: (batch, classes).
        target: (batch, classes), 0 to 1, fractions too: several labels of a clip, or scores of answers.

    Returns:
        `hits` sums the target of each sample's highest logit.

    Raises:
        ValueError: the shapes differ.

    Source: reference one_peace/criterions/classify_loss.py.
    """
    _require_alike(logits, target)
    logits = widen(logits)
    target = target.to(logits.dtype)
    total = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    best = logits.argmax(dim=1, keepdim=True)
    return Loss(total, weight=len(logits), hits=target.gather(1, best).sum())


def soft_target_loss(logits: Tensor, target: Tensor) -> Loss:
    """Compute the cross-entropy with weighted classes, summed over samples.

    Args:
        logits: (batch, classes).
        target: (batch, classes), taken as it is: a row need not sum to 1.

    Returns:
        `hits` sums the target weighted by the predicted probabilities.

    Raises:
        ValueError: the shapes differ.

    Source: reference one_peace/criterions/classify_loss.py.
    """
    _require_alike(logits, target)
    logits = widen(logits)
    target = target.to(logits.dtype)
    total = -(target * functional.log_softmax(logits, dim=1)).sum()
    return Loss(total, weight=len(logits), hits=(logits.detach().softmax(dim=1) * target).sum())


def index_loss(logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Loss:
    """Compute the cross-entropy with one class a sample, summed over samples.

    Args:
        logits: (batch, classes).
        target: (batch,), each sample's class.
        label_smoothing: torch's own, spread over all classes; the contrastive losses have another.

    Source: reference one_peace/criterions/classify_loss.py.
    """
    logits = widen(logits)
    total = functional.cross_entropy(logits, target, reduction="sum", label_smoothing=label_smoothing)
    return Loss(total, weight=len(logits), hits=_count_hits(logits, target))


def hinge_loss(logits: Tensor, target: Tensor) -> Loss:
    """Compute how far the right choice fails to lead every choice by 1, summed over samples.

    Args:
        logits: (batch * choices, 1), the choices of a sample side by side.
        target: (batch,), the number of each sample's right choice.

    Raises:
        ValueError: the logits are no whole number of choices for each sample.

    Source: reference one_peace/criterions/hinge_loss.py. The right choice is compared with itself too, which adds 1 for
    each sample and no gradient.
    """
    if logits.numel() % len(target):
        raise ValueError(f"{logits.numel()} logits for {len(target)} samples; give each sample as many choices")
    scores = widen(logits).view(len(target), -1)
    lead = scores.gather(1, target[:, None]) - scores
    return Loss((HINGE_MARGIN - lead).relu().sum(), weight=len(target), hits=_count_hits(scores, target))


def box_loss(logits: Tensor, target: Tensor) -> Loss:
    """Compute the loss of grounding: the distance of corners, and how badly boxes overlap.

    Args:
        logits: (batch, 4); their sigmoid gives a box's left, top, right and bottom.
        target: (batch, 4), corners as parts of the picture, 0 to 1.

    Returns:
        The sum over corners per sample, plus the mean of 1 - GIoU over the predicted boxes that have an extent. Both
        are means, so several batches are averaged alike. `hits` counts boxes that overlap by half.

    Raises:
        ValueError: the shapes differ.

    Source: reference one_peace/criterions/refcoco_loss.py.
    Differs: where no predicted box has an extent, the second part is 0; the reference gives NaN.
    """
    _require_alike(logits, target)
    boxes = widen(logits).sigmoid()
    target = target.to(boxes.dtype)
    distance = (boxes - target).abs().sum() / len(boxes)
    has_extent = (boxes[:, :2] < boxes[:, 2:]).all(dim=1)
    # Without its epsilon: the published one has none. The mean of no boxes is 0 here.
    gap = generalized_box_iou_loss(boxes[has_extent], target[has_extent], reduction="mean", eps=0.0)
    overlap = box_iou(boxes.detach(), target).diagonal()
    return Loss(distance + gap, weight=1, hits=(overlap >= IOU_OF_A_HIT).sum())


def _require_alike(logits: Tensor, target: Tensor) -> None:
    if logits.shape != target.shape:
        raise ValueError(f"target {tuple(target.shape)} for logits {tuple(logits.shape)}, expected the same shape")


def _count_hits(scores: Tensor, target: Tensor) -> Tensor:
    hits: Tensor = (scores.argmax(dim=1) == target).sum()
    return hits
