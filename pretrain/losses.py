"""The two contrasts of pretraining, and the regressions that the paper compares the second one with."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Negatives:
    """The features of a whole batch, of all processes, without gradient."""

    features: Mapping[str, Tensor]
    """By modality, (whole batch, dim) unit vectors."""
    first_row: int
    """Where the own rows begin among them."""


@dataclass(frozen=True)
class Alignment:
    """What the aligning contrast gives for the own rows of a batch."""

    loss: Tensor
    """Scalar, the mean of both directions."""
    hits: Mapping[str, Tensor]
    """By the modality that asks, how many of its rows found their partner among all."""


def widen(x: Tensor) -> Tensor:
    """Bring low precision to float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Give a @ b.t() in float32 or wider, also where autocast would take bfloat16: scores reach 100."""
    with torch.autocast(a.device.type, enabled=False):
        return widen(a) @ widen(b).t()


def align(vectors: Mapping[str, Tensor], negatives: Negatives, *, scale: Tensor) -> Alignment:
    """Compute the symmetric InfoNCE between the two modalities of a pair.

    Args:
        vectors: by modality, (own rows, dim) unit vectors with gradient.
        negatives: of the whole batch; no gradient flows into them, those of the own rows included.
        scale: what cosines are multiplied by, a scalar.

    Source: paper, Cross-Modal Contrastive Learning; reference one_peace/criterions/image_text_pretrain_loss.py.
    """
    first, second = vectors
    rows = len(vectors[first])
    target = negatives.first_row + torch.arange(rows, device=vectors[first].device)
    losses, hits = [], {}
    for asking, answering in ((first, second), (second, first)):
        logits = scale * multiply(vectors[asking], negatives.features[answering])
        losses.append(functional.cross_entropy(logits, target))
        hits[asking] = (logits.detach().argmax(dim=1) == target).sum()
    return Alignment(loss=torch.stack(losses).mean(), hits=hits)


DenoisingLoss = Callable[..., Tensor]
"""(student, teacher, masked=, real=) to a scalar; see `contrast_units`."""


def contrast_units(
    student: Tensor, teacher: Tensor, *, masked: Tensor, real: Tensor, scale: float, label_smoothing: float
) -> Tensor:
    """Compute the denoising contrast: each hidden unit finds its teacher among all units of the local batch.

    Args:
        student: (batch, tokens, dim), the class first.
        teacher: as the student's, without gradient.
        masked: (batch, tokens) bool, the hidden units: the queries.
        real: (batch, tokens) bool, no padding. All of these but the class are candidates.
        scale: what cosines are multiplied by; paper: 1 / 0.4.
        label_smoothing: spread over the other candidates as the published code does, which is not torch's way.

    Returns:
        A scalar, the mean over the queries; 0 where nothing is hidden or there is one candidate only.

    Source: paper, Intra-Modal Denoising Contrastive Learning; reference
    one_peace/criterions/label_smoothed_cross_entropy.py.
    """
    candidates = real[:, 1:]
    queries = functional.normalize(widen(student[:, 1:][masked[:, 1:]]), dim=1)
    keys = functional.normalize(widen(teacher.detach()[:, 1:][candidates]), dim=1)
    if not len(queries) or len(keys) < 2:
        return student.sum() * 0
    number = candidates.flatten().cumsum(0).view_as(candidates) - 1
    log_probabilities = functional.log_softmax(scale * multiply(queries, keys), dim=1)
    target = number[masked[:, 1:]]
    wrong = label_smoothing / (len(keys) - 1)
    hit = -log_probabilities.gather(1, target[:, None])[:, 0]
    return ((1 - label_smoothing - wrong) * hit - wrong * log_probabilities.sum(dim=1)).mean()


def regress_units(
    student: Tensor, teacher: Tensor, *, masked: Tensor, real: Tensor, distance: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Compute a denoising regression: the mean distance between hidden units and their teachers.

    Arguments as for `contrast_units`, which it can take the place of; paper, table of masked losses.
    """
    del real  # a regression has no other candidates
    hidden = masked[:, 1:]
    if not hidden.any():
        return student.sum() * 0
    return distance(widen(student[:, 1:][hidden]), widen(teacher.detach()[:, 1:][hidden]))


def _cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    return (1 - functional.cosine_similarity(student, teacher, dim=1)).mean()


REGRESSIONS: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = MappingProxyType(
    {"smooth_l1": functional.smooth_l1_loss, "l2": functional.mse_loss, "cosine": _cosine_distance}
)
"""By the paper's name, what the denoising contrast is compared with."""


def denoising_loss(kind: str, *, scale: float, label_smoothing: float) -> DenoisingLoss:
    """Choose the denoising loss by its name: `contrast`, or one of `REGRESSIONS`."""
    if kind == "contrast":
        return functools.partial(contrast_units, scale=scale, label_smoothing=label_smoothing)
    return functools.partial(regress_units, distance=REGRESSIONS[kind])
