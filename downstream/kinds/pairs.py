"""Pairs of pictures: a sentence about both is true or false; the first of the two outputs says true."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import PicturePair
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, number_clusters
from downstream.losses import Loss, index_loss
from downstream.metrics.classification import score_accuracy

NUM_OUTPUTS = 2
IS_TRUE = 0  # reference one_peace/data/vl_data/nlvr2_dataset.py


class Pairs:
    """The kind."""

    def count_outputs(self, facts: Facts) -> int:  # noqa: ARG002
        """Two: true and false."""
        return NUM_OUTPUTS

    def list_units(self, samples: Sequence[PicturePair], facts: Facts) -> tuple[Unit, ...]:
        """List every sentence twice in one unit, with the left picture and with the right one."""
        return tuple(
            Unit(tuple((("text", sample.text), (facts.media, picture)) for picture in sample.files))
            for sample in samples
        )

    def judge(self, samples: Sequence[PicturePair], outputs: Outputs, facts: Facts) -> Judged:
        """Take the higher output; sentences about one pair are one cluster of the interval."""
        logits = outputs(self.list_units(samples, facts))
        truth = torch.tensor([_target(sample) for sample in samples])
        is_right = (logits.argmax(dim=1) == truth).numpy()
        clusters = number_clusters(sample.files for sample in samples)
        return Judged((score_accuracy(is_right, clusters=clusters, seed=facts.seed),), _rows(samples, logits))

    def list_examples(self, samples: Sequence[PicturePair], facts: Facts) -> tuple[Example, ...]:
        """Take each sentence once."""
        units = self.list_units(samples, facts)
        return tuple(Example((unit,), (_target(sample),)) for unit, sample in zip(units, samples, strict=True))

    def compute_loss(self, batch: Batch) -> Loss:
        """Cross-entropy, summed over sentences."""
        (logits,) = batch.outputs
        return index_loss(logits, batch.targets[:, 0], label_smoothing=batch.label_smoothing)


def _target(sample: PicturePair) -> int:
    return IS_TRUE if sample.is_true else 1 - IS_TRUE


def _rows(samples: Sequence[PicturePair], logits: Tensor) -> Iterator[Row]:
    for sample, best, shares in zip(
        samples, logits.argmax(dim=1).tolist(), logits.softmax(dim=1).tolist(), strict=True
    ):
        yield {
            "id": sample.id,
            "pictures": [picture.name for picture in sample.files],
            "text": sample.text,
            "truth": sample.is_true,
            "prediction": best == IS_TRUE,
            "share": round(shares[best], 6),
        }


KIND: Kind = Pairs()
