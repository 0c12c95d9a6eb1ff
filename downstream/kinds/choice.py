"""Multiple choice: every answer is put to the model with the question and the sound; the highest output wins."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Question
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, number_clusters
from downstream.losses import Loss, hinge_loss
from downstream.metrics.classification import score_accuracy

FORM = "{question} answer: {choice}"  # reference one_peace/data/audio_data/aqa_dataset.py; one blank goes in front


class Choice:
    """The kind."""

    def count_outputs(self, facts: Facts) -> int:  # noqa: ARG002
        """One: how well an answer fits."""
        return 1

    def list_units(self, samples: Sequence[Question], facts: Facts) -> tuple[Unit, ...]:
        """List the answers of every question, side by side."""
        return tuple(unit for sample in samples for unit in _answers(sample, facts))

    def judge(self, samples: Sequence[Question], outputs: Outputs, facts: Facts) -> Judged:
        """Take the answer of the highest output; questions about one clip are one cluster of the interval."""
        scores = outputs(self.list_units(samples, facts)).view(len(samples), -1)
        truth = torch.tensor([sample.answer for sample in samples])
        clusters = number_clusters(sample.media for sample in samples)
        is_right = (scores.argmax(dim=1) == truth).numpy()
        return Judged((score_accuracy(is_right, clusters=clusters, seed=facts.seed),), _rows(samples, scores))

    def list_examples(self, samples: Sequence[Question], facts: Facts) -> tuple[Example, ...]:
        """Take each question once, with all its answers."""
        return tuple(Example(_answers(sample, facts), (sample.answer,)) for sample in samples)

    def compute_loss(self, batch: Batch) -> Loss:
        """Ask the right answer to lead the others."""
        logits = torch.stack(batch.outputs, dim=1).flatten(0, 1)
        return hinge_loss(logits, batch.targets[:, 0])


def _answers(sample: Question, facts: Facts) -> tuple[Unit, ...]:
    texts = (FORM.format(question=sample.question, choice=choice) for choice in sample.choices)
    return tuple(Unit.of(text=text, **{facts.media: sample.media}) for text in texts)


def _rows(samples: Sequence[Question], scores: Tensor) -> Iterator[Row]:
    for sample, row in zip(samples, scores.tolist(), strict=True):
        yield {
            "id": sample.id,
            "truth": sample.answer,
            "prediction": max(range(len(row)), key=row.__getitem__),
            "scores": [round(value, 6) for value in row],
        }


KIND: Kind = Choice()
