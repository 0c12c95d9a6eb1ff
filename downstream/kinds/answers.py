"""Answers of a fixed vocabulary to questions about pictures; each is worth what people's answers make it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from downstream.engines.plain.units import Example, Unit
from downstream.formats.base import PictureQuestion
from downstream.kinds.base import Batch, Facts, Judged, Kind, Outputs, Row, number_clusters
from downstream.losses import Loss, multi_label_loss
from downstream.metrics.classification import score_soft_accuracy
from reports.record import MetricValue

NO_ANSWER = -1.0  # fills targets up to one length
JUDGED_AT_ONCE = 8192  # questions whose outputs are held: 100 MB of the published vocabulary's
SERVER_FILE = "server_answers.json"
SHOWN = 5  # true answers written down of each sample

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Answers:
    """The kind."""

    def count_outputs(self, facts: Facts) -> int:
        """One for each answer of the vocabulary."""
        return len(facts.class_names)

    def list_units(self, samples: Sequence[PictureQuestion], facts: Facts) -> tuple[Unit, ...]:
        """List every question with its picture."""
        return tuple(Unit.of(text=sample.question, **{facts.media: sample.media}) for sample in samples)

    def judge(self, samples: Sequence[PictureQuestion], outputs: Outputs, facts: Facts) -> Judged:
        """Score the answer of the highest output; questions that nobody answered are answered, and not scored.

        Source: reference one_peace/metrics/accuracy.py.
        """
        best, shares = self._choose(samples, outputs, facts)
        answers = [facts.class_names[index] for index in best.tolist()]
        worths = [_worth(sample, answer) for sample, answer in zip(samples, answers, strict=True)]
        return Judged(
            _score(samples, worths, seed=facts.seed),
            _rows(samples, answers, worths, shares),
            files=_list_files(samples, answers),
        )

    def list_examples(self, samples: Sequence[PictureQuestion], facts: Facts) -> tuple[Example, ...]:
        """Take each question once; its target lists answers and what they are worth, filled up to one length.

        Answers outside the vocabulary are dropped; a question that has no others stays, with nothing to answer.

        Raises:
            ValueError: a question that nobody answered.
        """
        places = {answer: index for index, answer in enumerate(facts.class_names)}
        targets = [_list_target(sample, places) for sample in samples]
        longest = max((len(target) for target in targets), default=0) or 2
        units = self.list_units(samples, facts)
        return tuple(
            Example((unit,), target + (NO_ANSWER, 0.0) * ((longest - len(target)) // 2))
            for unit, target in zip(units, targets, strict=True)
        )

    def compute_loss(self, batch: Batch) -> Loss:
        """Binary cross-entropy with fractional targets, summed over questions and answers."""
        (logits,) = batch.outputs
        return multi_label_loss(logits, to_dense(batch.targets, batch.num_classes))

    def _choose(self, samples: Sequence[PictureQuestion], outputs: Outputs, facts: Facts) -> tuple[Ints, Floats]:
        """Give each question the index of its best answer and the output's sigmoid, part by part."""
        units, best, shares = self.list_units(samples, facts), [], []
        for start in range(0, len(units), JUDGED_AT_ONCE):
            logits = outputs(units[start : start + JUDGED_AT_ONCE])
            indices = logits.argmax(dim=1, keepdim=True)
            best.append(indices[:, 0])
            shares.append(logits.gather(1, indices)[:, 0].sigmoid().double())
        return torch.cat(best).numpy(), torch.cat(shares).numpy()


def to_dense(targets: Tensor, num_answers: int) -> Tensor:
    """Spread targets over the vocabulary, (examples, num_answers) float32.

    Args:
        targets: (examples, 2 * answers), index and worth in turn; negative indices count for nothing.
        num_answers: size of the vocabulary.
    """
    pairs = targets.unflatten(1, (-1, 2))
    indices, worths = pairs[..., 0].long(), pairs[..., 1].float()
    dense = torch.zeros(len(targets), num_answers, device=targets.device)
    return dense.scatter_add_(1, indices.clamp(min=0), worths * (indices >= 0))


def _list_files(samples: Sequence[PictureQuestion], answers: Sequence[str]) -> dict[str, Callable[[Path], None]]:
    """Leave the server's file; only where all answers are public, as in a table with ids of its own, may it lack."""
    is_open = any(sample.scores is None for sample in samples)
    if not is_open and not all(map(_has_number, samples)):
        return {}
    return {SERVER_FILE: partial(write_server_file, samples, answers)}


def write_server_file(samples: Sequence[PictureQuestion], answers: Sequence[str], path: Path) -> None:
    """Write answers the way the evaluation server wants them: a list of `question_id`, a number, and `answer`.

    Args:
        samples: the questions.
        answers: to each of them.
        path: the file.

    Raises:
        ValueError: a question whose id is no number.
    """
    entries = [
        {"question_id": _read_number(sample), "answer": answer} for sample, answer in zip(samples, answers, strict=True)
    ]
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")


def _read_number(sample: PictureQuestion) -> int:
    if not _has_number(sample):
        raise ValueError(
            f"{sample.origin}: question {sample.id!r} has no number, which the evaluation server knows questions by"
        )
    return int(sample.id)


def _has_number(sample: PictureQuestion) -> bool:
    return sample.id.isascii() and sample.id.isdecimal()


def _worth(sample: PictureQuestion, answer: str) -> float | None:
    """Tell what an answer is worth; None where nobody tells."""
    return None if sample.scores is None else dict(sample.scores).get(answer, 0.0)


def _score(samples: Sequence[PictureQuestion], worths: Sequence[float | None], *, seed: int) -> tuple[MetricValue, ...]:
    """Average what the answers are worth; questions about one picture are one cluster of the interval."""
    known = [(sample.media, worth) for sample, worth in zip(samples, worths, strict=True) if worth is not None]
    if not known:
        return ()
    clusters = number_clusters(media for media, _ in known)
    chosen = np.array([[worth] for _, worth in known])  # the column of the answer that was chosen
    return (score_soft_accuracy(chosen, np.zeros(len(known), dtype=np.int64), clusters=clusters, seed=seed),)


def _list_target(sample: PictureQuestion, places: Mapping[str, int]) -> tuple[float, ...]:
    if sample.scores is None:
        raise ValueError(f"{sample.origin or sample.id}: a question without answers, of which nothing is learned")
    known = [(float(places[answer]), score) for answer, score in sample.scores if answer in places]
    return tuple(number for pair in known for number in pair)


def _rows(
    samples: Sequence[PictureQuestion], answers: Sequence[str], worths: Sequence[float | None], shares: Floats
) -> Iterator[Row]:
    for sample, answer, worth, share in zip(samples, answers, worths, shares.tolist(), strict=True):
        told = {} if sample.scores is None else {"truth": dict(sample.scores[:SHOWN]), "worth": worth}
        yield {
            "id": sample.id,
            "picture": sample.media.name,
            "question": sample.question,
            "answer": answer,
            "share": round(share, 6),
            **told,
        }


KIND: Kind = Answers()
