"""Finished trainings of an ablation, one file each, so that a killed ablation goes on where it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from models.config import Settings
from pretrain.ablation.config import Job
from reports.record import MetricValue

RESULTS: Final = "results"
TRAINED_CONTRAST: Final = "training_contrast"  # the metric of the training itself, in nats


class RunResult(Settings):
    """What one variant with one seed came to."""

    variant: str
    seed: int
    settings: dict[str, Any]
    """All that its numbers depend on."""
    metrics: tuple[MetricValue, ...]
    """Of the held-out part, and the contrast at the end of the training."""
    chance: dict[str, float]
    """By metric, what blind choice would reach, in per cent."""
    num_parameters: int
    """Of the model, without the decoder."""
    steps: int
    duration_s: float
    """Of the training steps."""
    commit: str
    weights: str | None = None
    """The file that was judged, with its digest; None where it was trained here."""

    def value(self, metric: str) -> float:
        """Look a metric up.

        Raises:
            ValueError: it was not measured.
        """
        return self.find(metric).value

    def find(self, metric: str) -> MetricValue:
        """Look a metric up, with its interval over samples.

        Raises:
            ValueError: it was not measured.
        """
        for each in self.metrics:
            if each.name == metric:
                return each
        names = ", ".join(each.name for each in self.metrics)
        raise ValueError(f"{self.variant} with seed {self.seed} has no {metric}, only {names}; train it in another run")


def read_result(folder: Path, job: Job, *, device: str) -> RunResult | None:
    """Read what a job came to; None where it is not finished.

    Args:
        folder: of the ablation.
        job: what is asked for.
        device: kind of device, on which numbers depend.

    Raises:
        ValueError: a damaged file, or one that was made with other settings.
    """
    path = folder / RESULTS / f"{job.name}.json"
    if not path.is_file():
        return None
    try:
        result = RunResult.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"{path.name} is damaged ({fault['msg']}); remove it, and it is trained again") from None
    wanted = job.settings(device)
    if result.settings != wanted:
        changed = _first_difference(result.settings, wanted)
        raise ValueError(f"{path.name} was made with another {changed}; use the same settings, or name another --run")
    return result


def write_result(folder: Path, job: Job, result: RunResult) -> None:
    """Keep a result; whole or not at all."""
    path = folder / RESULTS / f"{job.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _first_difference(one: Any, other: Any, where: str = "") -> str:
    """Name the first place where two nested values differ, with both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys((*one, *other)):
            if one.get(key) != other.get(key):
                return _first_difference(one.get(key), other.get(key), f"{where}.{key}".lstrip("."))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            if left != right:
                return _first_difference(left, right, f"{where}.{index}")
    return f"{where}: {one!r} instead of {other!r}"
