"""A small probe: some samples go through the model as configured, and again with one thing changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downstream.doctor.case import LEAST_PROBED, Case
from downstream.doctor.scores import Floats, Table, score_guesses, score_samples, tabulate
from downstream.engines.plain.inputs import Preparer
from downstream.engines.plain.model import DTYPES, Loaded, TaskModel, load_finetuned, load_pretrained
from downstream.engines.plain.settings import InputSettings
from downstream.engines.plain.units import Source, Unit
from downstream.kinds import load_kind
from downstream.kinds.base import Facts, Kind
from downstream.media import check_media
from models.batch import move
from models.config import ModelConfig
from models.heads import Classifier
from models.modalities import load_modality
from models.tokenizer import Tokenizer
from models.world import World

NUM_PROBED = 64  # samples
SCREENED = 4  # every so manieth sample shows first whether a change does any good
LEAST_GAIN = 0.05  # of the score, whose range is 0 to 1
LEAST_ERRORS = 2.0  # by which answers have to lead guesses
NUM_ERRORS = 3.0  # standard errors that a gain has to exceed


@dataclass(frozen=True)
class Change:
    """One thing done otherwise than configured."""

    decoded: Callable[[Any], Any] | None = None
    """Changes a decoded picture or sound."""
    prepared: Callable[[Tensor], Tensor] | None = None
    """Changes what the model is given of it."""
    prompt: str | None = None
    pooled: str | None = None
    """Whose tokens are pooled."""


AS_IT_IS = Change()


class ChangedPreparer(Preparer):
    """Prepares as configured but for one change of the pictures or sounds."""

    def __init__(
        self, config: ModelConfig, inputs: Mapping[str, InputSettings], tokenizer: Tokenizer | None, change: Change
    ) -> None:
        super().__init__(config, inputs, tokenizer)
        self.change = change

    def transform(self, name: str, source: Source, crop: Callable[[Any], Any] | None = None) -> Tensor:
        """Read and prepare one source; see `Preparer`."""
        if isinstance(source, str):
            return super().transform(name, source, crop)
        decoded = load_modality(name).read(source)
        if self.change.decoded is not None:
            decoded = self.change.decoded(decoded)
        tensor: Tensor = self._transforms[name](decoded)
        return tensor if self.change.prepared is None else self.change.prepared(tensor)


@dataclass(frozen=True)
class Probe:
    """Some samples, and the model that they go through; what was encoded once is kept."""

    kind_name: str
    facts: Facts
    samples: tuple[Any, ...]
    loaded: Loaded
    precision: str
    batch_size: int
    device: torch.device
    known: dict[tuple[Change, Unit], Tensor] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What the samples are judged as."""
        return load_kind(self.kind_name)

    @property
    def pooled(self) -> str | None:
        """Whose tokens the head pools; None without such a head."""
        module = self.loaded.module
        return module.head.config.pooled_modality if isinstance(module, Classifier) else None

    def score(self, change: Change = AS_IT_IS, samples: Sequence[Any] | None = None) -> Floats:
        """Score samples, all unless some are named, (samples,) from 0 to 1."""
        facts, outputs = self._read_as(change)
        return score_samples(self.kind_name, self.kind, self.samples if samples is None else samples, outputs, facts)

    def guess(self, change: Change = AS_IT_IS) -> Floats:
        """Score the answers to all samples as answers to others, (samples,)."""
        facts, outputs = self._read_as(change)
        return score_guesses(self.kind_name, self.kind, self.samples, outputs, facts)

    def tabulate(self) -> Table:
        """Put the outputs as configured beside what is right.

        Raises:
            ValueError: as `scores.tabulate`.
        """
        facts, outputs = self._read_as(AS_IT_IS)
        return tabulate(self.kind_name, self.kind, self.samples, outputs, facts)

    def count_faulty(self) -> int:
        """Count samples some of whose outputs are no finite numbers."""
        units = self.kind.list_units(self.samples, self.facts)
        return int((~self._encode(units, AS_IT_IS).isfinite().all(dim=1)).sum())

    def _read_as(self, change: Change) -> tuple[Facts, Callable[[Sequence[Unit]], Tensor]]:
        facts = self.facts
        if change.prompt is not None:
            facts = Facts(facts.media, facts.class_names, change.prompt, seed=facts.seed, sizes=facts.sizes)
        return facts, lambda units: self._encode(units, change)

    def _encode(self, units: Sequence[Unit], change: Change) -> Tensor:
        """Give (units, width) float32; only what the change concerns goes through the model again."""
        keys = [(change if _concerns(change, unit) else AS_IT_IS, unit) for unit in units]
        left = [key for key in dict.fromkeys(keys) if key not in self.known]
        for made in dict.fromkeys(key[0] for key in left):
            self._run([unit for key, unit in left if key == made], made)
        return torch.stack([self.known[key] for key in keys])

    def _run(self, units: Sequence[Unit], change: Change) -> None:
        loaded = self.loaded
        preparer = ChangedPreparer(loaded.model.config, loaded.inputs, loaded.tokenizer, change)
        module = loaded.module if change.pooled is None else _pool(loaded.module, change.pooled).to(self.device)
        groups: dict[object, list[Unit]] = {}
        for unit in units:
            groups.setdefault(unit.signature, []).append(unit)
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                some = group[start : start + self.batch_size]
                passes = [move(each, self.device, dtype=DTYPES[self.precision]) for each in preparer.collate(some)]
                with torch.inference_mode():
                    vectors = module(*passes).float().cpu()
                self.known.update(zip([(change, unit) for unit in some], vectors, strict=True))

    @cached_property
    def screened(self) -> tuple[Any, ...]:
        """The few samples that show whether a change is worth trying on all."""
        few = self.samples[::SCREENED]
        return few if len(few) >= LEAST_PROBED else self.samples


def _concerns(change: Change, unit: Unit) -> bool:
    """Tell whether a change can move the vector of a unit; another prompt makes other units."""
    has_file = any(isinstance(source, Path) for sources in unit.passes for _, source in sources)
    return change.pooled is not None or (has_file and (change.decoded is not None or change.prepared is not None))


def _pool(module: TaskModel, modality: str) -> Classifier:
    """Give the same model and head, pooling the tokens of another modality."""
    assert isinstance(module, Classifier), "a head that pools"
    other = Classifier(module.model, module.head.config.model_copy(update={"pooled_modality": modality}))
    other.head.load_state_dict(module.head.state_dict())
    reference = next(module.head.parameters())
    other.head.to(reference.dtype)
    return other.eval()


def open_probe(case: Case, *, precision: str | None = None) -> Probe:
    """Choose samples, spread over the split, decode their files once, and load the weights as a run does.

    Args:
        case: with weights and data.
        precision: of the arithmetic; None takes the settings'.

    Raises:
        ValueError, FileNotFoundError: weights or files that are not what they should be.
    """
    assert case.weights is not None, "weights are named"
    assert case.listing is not None, "data is named"
    setting, options = case.setting, case.options
    total = len(case.listing.samples)
    count = NUM_PROBED if options.limit is None else max(LEAST_PROBED, options.count(total))
    samples = spread(case.listing.samples, count)
    media = case.plain.media
    sizes = {path: (fact.width_px or 0, fact.height_px or 0) for path, fact in check_media(samples, media).items()}
    facts = Facts(media, case.listing.class_names, setting.prompt, seed=options.seed, sizes=sizes)
    kind_name = setting.kind or case.plain.kind
    named = precision or setting.precision
    loaded = _load(case, case.weights, num_outputs=load_kind(kind_name).count_outputs(facts), dtype=DTYPES[named])
    device = World.join(options.device).device
    loaded.module.to(device).eval()
    return Probe(kind_name, facts, samples, loaded, named, min(setting.batch_size, 16), device)


def _load(case: Case, path: Path, *, num_outputs: int | None, dtype: torch.dtype) -> Loaded:
    size, setting = case.profile.size, case.setting
    if case.part.setting == "zero-shot":
        return load_pretrained(path, size=size, setting=setting, seed=case.options.seed, dtype=dtype)
    assert case.listing is not None, "data"
    names = case.listing.class_names
    return load_finetuned(path, size=size, setting=setting, class_names=names, num_outputs=num_outputs, dtype=dtype)


def spread(samples: Sequence[Any], count: int) -> tuple[Any, ...]:
    """Take so many samples at even distances: lists are often sorted by class."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return tuple(samples[place] for place in places)


@dataclass(frozen=True)
class Compared:
    """The probe as configured, and with one thing changed."""

    name: str
    before: float
    after: float
    gain: float
    error: float
    """Standard error of the gain, over the samples."""
    num_samples: int
    is_informed: bool = True
    """Whether what was changed is better than guessing: a model that always says the same may be lucky."""

    @property
    def is_better(self) -> bool:
        """Whether the change is clearly better."""
        return self.is_informed and self.gain >= LEAST_GAIN and self.gain > NUM_ERRORS * self.error

    @property
    def told(self) -> str:
        """One sentence."""
        return (
            f"score {100 * self.before:.0f} as configured, {100 * self.after:.0f} with {self.name} "
            f"({100 * self.gain:+.0f}, standard error {100 * self.error:.0f}, {self.num_samples} samples)"
        )


def compare(name: str, before: Floats, after: Floats) -> Compared:
    """Compare two scores of the same samples, paired."""
    differences = after - before
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    return Compared(name, float(before.mean()), float(after.mean()), float(differences.mean()), error, len(before))


def is_informed(scores: Floats, guessed: Floats) -> bool:
    """Tell whether answers are better than the same answers to other samples."""
    compared = compare("", guessed, scores)
    return compared.gain > LEAST_ERRORS * compared.error


@dataclass(frozen=True)
class Trial:
    """What came of several changes."""

    tried: tuple[Compared, ...]

    @property
    def best(self) -> Compared | None:
        """The change that is clearly better, and best of those; None where none is."""
        return max((each for each in self.tried if each.is_better), key=lambda each: each.gain, default=None)

    @property
    def told(self) -> str:
        """One sentence about the best change, whether it is any good or not."""
        return max(self.tried, key=lambda each: each.gain).told


def try_changes(probe: Probe, changes: Mapping[str, Change]) -> Trial:
    """Score the probe with each change; one that does a few samples no good is not tried on the others."""
    before, first = probe.score(), probe.score(samples=probe.screened)
    tried = []
    for name, change in changes.items():
        compared = compare(name, first, probe.score(change, probe.screened))
        if compared.gain > 0 and len(probe.screened) < len(probe.samples):
            compared = compare(name, before, probe.score(change))
        if compared.is_better:
            compared = replace(compared, is_informed=is_informed(probe.score(change), probe.guess(change)))
        tried.append(compared)
    return Trial(tuple(tried))
