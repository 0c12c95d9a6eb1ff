"""Zero-shot classification: a picture or a sound finds the sentence that names its class."""

from collections.abc import Iterator, Sequence

import numpy as np

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Labelled
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, list_media
from downstream.losses import Loss
from downstream.metrics.retrieval import score_prompted
from models.retrieval import Retrieved, search

BEST = 5  # classes written down of each sample


class Prompted:
    """The kind."""

    def count_outputs(self, facts: Facts) -> None:
        """Embeddings are compared."""

    def list_units(self, samples: Sequence[Labelled], facts: Facts) -> tuple[Unit, ...]:
        """List every picture or sound, then every class's sentence."""
        return (*list_media(samples, facts), *_prompts(facts))

    def judge(self, samples: Sequence[Labelled], outputs: Outputs, facts: Facts) -> Judged:
        """Take the class of the nearest sentence."""
        classes = np.arange(len(facts.class_names))
        truth = np.array([sample.labels[0] for sample in samples])
        found = search(
            {facts.media: outputs(list_media(samples, facts)), "text": outputs(_prompts(facts))},
            {facts.media: truth, "text": classes},
            query=facts.media,
            gallery="text",
            ks=(1, min(BEST, len(classes))),
        )
        return Judged((score_prompted(found),), _rows(samples, found, facts.class_names))

    def list_examples(self, samples: Sequence[Labelled], facts: Facts) -> tuple[Example, ...]:  # noqa: ARG002
        """Refuse: nothing is learned.

        Raises:
            ValueError: always.
        """
        raise ValueError("classes named by a prompt are judged zero-shot; leave the training out")

    def compute_loss(self, batch: Batch) -> Loss:  # noqa: ARG002
        """Refuse, as `list_examples` does."""
        raise ValueError("classes named by a prompt are judged zero-shot; leave the training out")


def _prompts(facts: Facts) -> tuple[Unit, ...]:
    """Say every class by the first of its names, which are parted by commas; `_` is read as a blank."""
    prompt = facts.prompt or "{label}"
    labels = (name.partition(",")[0].replace("_", " ") for name in facts.class_names)
    return tuple(Unit.of(text=prompt.format(label=label)) for label in labels)


def _rows(samples: Sequence[Labelled], found: Retrieved, class_names: Sequence[str]) -> Iterator[Row]:
    for sample, ranked in zip(samples, found.ranked_ids, strict=True):
        best = [class_names[label] for label in ranked]
        yield {"id": sample.id, "truth": class_names[sample.labels[0]], "prediction": best[0], "best": best}


KIND: Kind = Prompted()
