"""Classification by a fine-tuned head, one class a sample."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Labelled
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, list_media
from downstream.losses import Loss, index_loss
from downstream.metrics.classification import score_accuracy


class Classification:
    """The kind."""

    def count_outputs(self, facts: Facts) -> int:
        """One for each class."""
        return len(facts.class_names)

    def list_units(self, samples: Sequence[Labelled], facts: Facts) -> tuple[Unit, ...]:
        """List every picture or sound."""
        return list_media(samples, facts)

    def judge(self, samples: Sequence[Labelled], outputs: Outputs, facts: Facts) -> Judged:
        """Take the class of the highest output."""
        logits = outputs(self.list_units(samples, facts))
        truth = torch.tensor([sample.labels[0] for sample in samples])
        is_right = (logits.argmax(dim=1) == truth).numpy()
        return Judged((score_accuracy(is_right, seed=facts.seed),), _rows(samples, logits, facts.class_names))

    def list_examples(self, samples: Sequence[Labelled], facts: Facts) -> tuple[Example, ...]:
        """Take each sample once."""
        units = self.list_units(samples, facts)
        return tuple(Example((unit,), sample.labels[:1]) for unit, sample in zip(units, samples, strict=True))

    def compute_loss(self, batch: Batch) -> Loss:
        """Cross-entropy, summed over samples."""
        (logits,) = batch.outputs
        return index_loss(logits, batch.targets[:, 0], label_smoothing=batch.label_smoothing)


def _rows(samples: Sequence[Labelled], logits: Tensor, class_names: Sequence[str]) -> Iterator[Row]:
    shares = logits.softmax(dim=1).numpy()
    for sample, row in zip(samples, shares, strict=True):
        label = int(np.argmax(row))
        yield {
            "id": sample.id,
            "truth": class_names[sample.labels[0]],
            "prediction": class_names[label],
            "share": round(float(row[label]), 6),
        }


KIND: Kind = Classification()
