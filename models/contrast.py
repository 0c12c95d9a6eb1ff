"""The symmetric contrast between the two modalities of a pair, in pretraining and in fine-tuning."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.onepeace import MAX_LOGIT_SCALE
from models.world import Negatives


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


def read_scale(logit_scale: nn.Parameter) -> Tensor:
    """Clamp the stored logarithm in place, which cuts no gradient, and give the scale.

    Source: reference one_peace/models/one_peace/one_peace_retrieval.py.
    """
    with torch.no_grad():
        logit_scale.clamp_(0, math.log(MAX_LOGIT_SCALE))
    return logit_scale.exp()


def smoothed_cross_entropy(logits: Tensor, target: Tensor, *, label_smoothing: float) -> Tensor:
    """Compute the cross-entropy, a share of which is spread over the other candidates.

    Args:
        logits: (rows, candidates), float32 or wider.
        target: (rows,), each row's own candidate.
        label_smoothing: e of N candidates: (1 - e - e / (N - 1)) * -log p of the own one, e / (N - 1) * -log p of all.
            Each of the others so weighs e / (N - 1), but the own one 1 - e, where torch has 1 - e + e / N.

    Returns:
        A scalar, the mean over the rows. A single candidate has no others, and costs 0.

    Source: reference one_peace/criterions/image_text_retrieval_loss.py.
    """
    if not label_smoothing or logits.shape[1] == 1:
        return functional.cross_entropy(logits, target)
    log_probabilities = functional.log_softmax(logits, dim=1)
    wrong = label_smoothing / (logits.shape[1] - 1)
    hit = -log_probabilities.gather(1, target[:, None])[:, 0]
    return ((1 - label_smoothing - wrong) * hit - wrong * log_probabilities.sum(dim=1)).mean()


def align(
    vectors: Mapping[str, Tensor], negatives: Negatives, *, scale: Tensor, label_smoothing: float = 0.0
) -> Alignment:
    """Compute the symmetric InfoNCE between the two modalities of a pair.

    Args:
        vectors: by modality, (own rows, dim) unit vectors with gradient.
        negatives: of the whole batch; no gradient flows into them, those of the own rows included.
        scale: what cosines are multiplied by, a scalar.
        label_smoothing: of each direction, see `smoothed_cross_entropy`. Published: 0 in pretraining.

    Source: paper, Cross-Modal Contrastive Learning; reference one_peace/criterions/image_text_pretrain_loss.py.
    """
    first, second = vectors
    rows = len(vectors[first])
    target = negatives.first_row + torch.arange(rows, device=vectors[first].device)
    losses, hits = [], {}
    for asking, answering in ((first, second), (second, first)):
        logits = scale * multiply(vectors[asking], negatives.features[answering])
        losses.append(smoothed_cross_entropy(logits, target, label_smoothing=label_smoothing))
        hits[asking] = (logits.detach().argmax(dim=1) == target).sum()
    return Alignment(loss=torch.stack(losses).mean(), hits=hits)
