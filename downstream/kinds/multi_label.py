"""Classification by a fine-tuned head, several classes a sample."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Labelled
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, list_media
from downstream.losses import Loss, multi_label_loss
from downstream.metrics.classification import average_precisions, score_map

BEST = 5  # classes written down of each sample
NO_LABEL = -1  # fills targets up to one length


class MultiLabel:
    """The kind."""

    def count_outputs(self, facts: Facts) -> int:
        """One for each class."""
        return len(facts.class_names)

    def list_units(self, samples: Sequence[Labelled], facts: Facts) -> tuple[Unit, ...]:
        """List every picture or sound."""
        return list_media(samples, facts)

    def judge(self, samples: Sequence[Labelled], outputs: Outputs, facts: Facts) -> Judged:
        """Average the precision of every class's ranking; a class without positives counts 0."""
        scores = outputs(self.list_units(samples, facts)).sigmoid()
        width = len(facts.class_names)
        targets = np.zeros((len(samples), width))
        for row, sample in zip(targets, samples, strict=True):
            row[list(sample.labels)] = 1
        values = scores.double().numpy()
        by_class = 100 * average_precisions(values, targets)
        metric = score_map(values, targets, seed=facts.seed)
        per_class = dict(zip(facts.class_names, by_class.tolist(), strict=True))
        return Judged((metric,), _rows(samples, scores, facts.class_names), per_class)

    def list_examples(self, samples: Sequence[Labelled], facts: Facts) -> tuple[Example, ...]:
        """Take each sample once; targets are filled up to one length."""
        units = self.list_units(samples, facts)
        longest = max((len(sample.labels) for sample in samples), default=0)
        return tuple(
            Example((unit,), (*sample.labels, *[NO_LABEL] * (longest - len(sample.labels))))
            for unit, sample in zip(units, samples, strict=True)
        )

    def compute_loss(self, batch: Batch) -> Loss:
        """Binary cross-entropy, summed over samples and classes."""
        (logits,) = batch.outputs
        is_label = batch.targets != NO_LABEL
        one_hot = functional.one_hot(batch.targets.clamp(min=0), batch.num_classes) * is_label[..., None]
        return multi_label_loss(logits, one_hot.amax(dim=1))


def _rows(samples: Sequence[Labelled], scores: Tensor, class_names: Sequence[str]) -> Iterator[Row]:
    values, labels = torch.topk(scores, min(BEST, scores.shape[1]), dim=1)
    for sample, best, names in zip(samples, values.tolist(), labels.tolist(), strict=True):
        yield {
            "id": sample.id,
            "truth": [class_names[label] for label in sample.labels],
            "prediction": {class_names[label]: round(value, 6) for label, value in zip(names, best, strict=True)},
        }


KIND: Kind = MultiLabel()
