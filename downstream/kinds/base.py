"""What a kind of task is to the engine: samples to units, outputs to a loss, outputs to numbers."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from downstream.engines.plain.units import Example, Unit
from downstream.losses import Loss
from models.world import Negatives
from reports.record import MetricValue

Row = dict[str, Any]
"""What is written of one sample: its id, what was said, what is right."""
Outputs = Callable[[Sequence[Unit]], Tensor]
"""Gives (units, width) float32 for units that were encoded."""
Gather = Callable[[Mapping[str, Tensor]], Negatives]
"""Gives the vectors of the whole batch, without gradient, for the own ones by modality."""


@dataclass(frozen=True)
class Facts:
    """What a kind has to know of its task."""

    media: str
    """Modality of the samples' files."""
    class_names: tuple[str, ...] = ()
    """By output of the head: classes, or answers."""
    prompt: str | None = None
    """What is said of a class, with `{label}`."""
    seed: int = 0
    """Of the intervals that are drawn."""
    sizes: Mapping[Path, tuple[int, int]] = field(default_factory=dict)
    """Width and height of every picture, in pixels."""


@dataclass(frozen=True)
class Batch:
    """What came out for the examples of a micro-batch, and what a loss needs besides."""

    outputs: tuple[Tensor, ...]
    """By the place of a unit in its example, (examples, width) with gradient."""
    targets: Tensor
    """(examples, numbers of a target), int64, or float32 where they are no whole numbers."""
    num_classes: int
    """Outputs of the head."""
    scale: Tensor | None
    """What cosines are multiplied by; None where the model has a head."""
    gather: Gather
    label_smoothing: float


@dataclass(frozen=True)
class Judged:
    """What the outputs come to."""

    metrics: tuple[MetricValue, ...]
    rows: Iterable[Row]
    per_class: dict[str, float | None] = field(default_factory=dict)
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """By name, what else is left beside the predictions: each writes to the path that it is given."""


class _WithMedia(Protocol):
    @property
    def media(self) -> Path: ...


def list_media(samples: Sequence[_WithMedia], facts: Facts) -> tuple[Unit, ...]:
    """List a unit for each sample: its picture or sound alone."""
    return tuple(Unit.of(**{facts.media: sample.media}) for sample in samples)


def number_clusters(owners: Iterable[Hashable]) -> NDArray[np.int64]:
    """Number what samples have in common, in the order it comes: equal owners make one cluster of an interval."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(owner, len(numbers)) for owner in owners], dtype=np.int64)


class Kind(Protocol):
    """One kind of task; `Any` stands for its own kind of sample."""

    def count_outputs(self, facts: Facts) -> int | None:
        """Tell how many outputs the head has; None where embeddings are compared."""
        ...

    def list_units(self, samples: Sequence[Any], facts: Facts) -> tuple[Unit, ...]:
        """List everything that has to be encoded to judge the samples; a unit may come twice."""
        ...

    def judge(self, samples: Sequence[Any], outputs: Outputs, facts: Facts) -> Judged:
        """Score the outputs.

        Raises:
            ValueError: too few samples for the metric.
        """
        ...

    def list_examples(self, samples: Sequence[Any], facts: Facts) -> tuple[Example, ...]:
        """List what a fine-tuning learns from."""
        ...

    def compute_loss(self, batch: Batch) -> Loss:
        """Compute the loss of a micro-batch."""
        ...
