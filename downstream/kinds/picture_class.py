"""Classification of pictures as ImageNet judges it: the best class, the best five, and the loss."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Labelled
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, list_media
from downstream.losses import Loss, index_loss
from reports.interval import NUM_RESAMPLES, bootstrap_interval, measure_share, name_bootstrap
from reports.record import MetricValue

RANKS = (1, 5)
OVER = "pictures"

Floats = NDArray[np.float64]


class PictureClass:
    """The kind."""

    def count_outputs(self, facts: Facts) -> int:
        """One for each class."""
        return len(facts.class_names)

    def list_units(self, samples: Sequence[Labelled], facts: Facts) -> tuple[Unit, ...]:
        """List every picture."""
        return list_media(samples, facts)

    def judge(self, samples: Sequence[Labelled], outputs: Outputs, facts: Facts) -> Judged:
        """Tell how often the class is the best or among the best five, and the cross-entropy.

        Five are only looked for among five classes or more. Of equal outputs the first comes first.

        Source: reference one_peace_vision/classification.
        """
        logits = outputs(self.list_units(samples, facts))
        truth = torch.tensor([sample.labels[0] for sample in samples])
        ks = [k for k in RANKS if k <= logits.shape[1]]
        best = logits.sort(dim=1, descending=True, stable=True).indices[:, : ks[-1]].clone()
        is_found = best == truth[:, None]
        shares = [
            measure_share(f"accuracy_top_{k}", is_found[:, :k].any(dim=1).long().numpy(), over=OVER, seed=facts.seed)
            for k in ks
        ]
        losses = functional.cross_entropy(logits, truth, reduction="none").double().numpy()
        return Judged((*shares, score_loss(losses, seed=facts.seed)), _rows(samples, logits, best, facts.class_names))

    def list_examples(self, samples: Sequence[Labelled], facts: Facts) -> tuple[Example, ...]:
        """Take each picture once."""
        units = self.list_units(samples, facts)
        return tuple(Example((unit,), sample.labels[:1]) for unit, sample in zip(units, samples, strict=True))

    def compute_loss(self, batch: Batch) -> Loss:
        """Cross-entropy, summed over pictures."""
        (logits,) = batch.outputs
        return index_loss(logits, batch.targets[:, 0], label_smoothing=batch.label_smoothing)


def score_loss(losses: Floats, *, seed: int) -> MetricValue:
    """Average the cross-entropy over pictures, without smoothing: `loss`, in nats, the lower the better.

    Args:
        losses: (pictures,).
        seed: of the bootstrap over pictures.

    Differs: the published value is a mean over batches of their means, so the pictures of a short last batch count for
    more in it. Ours does not depend on the batch size.
    """
    low, high = bootstrap_interval(
        lambda weights: weights @ losses / len(losses), len(losses), seed=seed, num_resamples=NUM_RESAMPLES
    )
    return MetricValue(
        name="loss",
        value=float(losses.mean()),
        unit="nats",
        n=len(losses),
        ci_low=low,
        ci_high=high,
        ci_method=name_bootstrap(OVER, seed=seed),
        direction="lower",
    )


def _rows(samples: Sequence[Labelled], logits: Tensor, best: Tensor, class_names: Sequence[str]) -> Iterator[Row]:
    shares = logits.softmax(dim=1).gather(1, best)
    for sample, labels, values in zip(samples, best.tolist(), shares.tolist(), strict=True):
        yield {
            "id": sample.id,
            "truth": class_names[sample.labels[0]],
            "prediction": class_names[labels[0]],
            "best": [class_names[label] for label in labels],  # a list: two classes of ImageNet share a name
            "shares": [round(value, 6) for value in values],
        }


KIND: Kind = PictureClass()
