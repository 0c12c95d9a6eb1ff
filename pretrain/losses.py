"""The denoising contrast of pretraining, and the regressions that the paper compares it with."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from torch import Tensor
from torch.nn import functional

from models.contrast import multiply, smoothed_cross_entropy, widen

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
    one_peace/criterions/image_text_pretrain_loss.py.
    """
    candidates = real[:, 1:]
    queries = functional.normalize(widen(student[:, 1:][masked[:, 1:]]), dim=1)
    keys = functional.normalize(widen(teacher.detach()[:, 1:][candidates]), dim=1)
    if not len(queries) or len(keys) < 2:
        return student.sum() * 0
    number = candidates.flatten().cumsum(0).view_as(candidates) - 1
    logits, target = scale * multiply(queries, keys), number[masked[:, 1:]]
    return smoothed_cross_entropy(logits, target, label_smoothing=label_smoothing)


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
