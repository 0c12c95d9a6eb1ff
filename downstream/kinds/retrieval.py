"""Retrieval: pictures or sounds and their captions find each other by the cosine of their embeddings."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import Captioned
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, list_media
from downstream.losses import Loss, contrastive_loss
from downstream.metrics.retrieval import score_recall
from models.retrieval import RANKS, Retrieved, search_both_ways


class Retrieval:
    """The kind."""

    def count_outputs(self, facts: Facts) -> None:
        """Embeddings are compared."""

    def list_units(self, samples: Sequence[Captioned], facts: Facts) -> tuple[Unit, ...]:
        """List every picture or sound, then every caption."""
        return (*list_media(samples, facts), *_captions(samples))

    def judge(self, samples: Sequence[Captioned], outputs: Outputs, facts: Facts) -> Judged:
        """Search both ways among all candidates; recall at the ranks that there are candidates for."""
        items = np.arange(len(samples))
        owners = np.repeat(items, [len(sample.captions) for sample in samples])
        vectors = {facts.media: outputs(list_media(samples, facts)), "text": outputs(_captions(samples))}
        ks = tuple(k for k in RANKS if k <= len(samples))
        found = search_both_ways(vectors, {facts.media: items, "text": owners}, ks=ks)
        return Judged(score_recall(found, seed=facts.seed), _rows(samples, found, facts.media))

    def list_examples(self, samples: Sequence[Captioned], facts: Facts) -> tuple[Example, ...]:
        """Pair every caption with its picture or sound, as the published tables do."""
        return tuple(
            Example((Unit.of(**{facts.media: sample.media}), Unit.of(text=caption)), target=())
            for sample in samples
            for caption in sample.captions
        )

    def compute_loss(self, batch: Batch) -> Loss:
        """Contrast the pairs with the whole batch."""
        media, text = batch.outputs
        vectors = {"media": media, "text": text}
        assert batch.scale is not None, "embeddings have a scale"
        return contrastive_loss(
            vectors, batch.gather(vectors), scale=batch.scale, label_smoothing=batch.label_smoothing
        )


def _captions(samples: Sequence[Captioned]) -> tuple[Unit, ...]:
    return tuple(Unit.of(text=caption) for sample in samples for caption in sample.captions)


def _rows(samples: Sequence[Captioned], found: Mapping[str, Retrieved], media: str) -> Iterator[Row]:
    """Say of every query what it found, best first, and at which place its own was."""
    captions = [caption for sample in samples for caption in sample.captions]
    for direction, retrieved in found.items():
        is_text = direction == f"text_to_{media}"
        for number, (query, ranked) in enumerate(zip(retrieved.query_ids, retrieved.ranked_ids, strict=True)):
            place = np.flatnonzero(ranked == query)
            yield {
                "direction": direction,
                "id": samples[query].id,
                **({"caption": captions[number]} if is_text else {}),
                "best": [samples[item].id for item in ranked],
                "place": int(place[0]) + 1 if len(place) else None,
            }


KIND: Kind = Retrieval()
