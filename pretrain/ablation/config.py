"""Ablations: the variants, the tables they stand in, and the published numbers beside them. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import Field, model_validator

from models.config import PositiveInt, Settings, unknown_name
from pretrain.config import LossName, StageConfig, load_stage
from reports.target import load_targets

ABLATIONS_FILE: Final = Path(__file__).resolve().parent.parent / "ablations.yaml"
EMERGENT: Final = "emergent"
RECALLS: Final = ("recall_at_1_image_to_text", "recall_at_1_text_to_image")
_NUMBERLESS: Final = frozenset({"num_workers", "log_every_steps", "saving"})  # settings that move no number

Sharing = Literal["attention", "attention_and_ffn", "ffn", "nothing"]

Published = Mapping[tuple[str, str], float]
"""By variant and metric."""


class VariantConfig(Settings):
    """What sets one variant apart; the defaults are the model with the contrast alone."""

    sharing: Sharing = "attention"
    """What text and image have in common."""
    terms: tuple[str, ...] = ()
    """Those of the stage's denoising terms that are kept."""
    loss: LossName = "contrast"
    """Of the terms."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.sharing != "attention" and self.terms:
            raise ValueError(f"sharing {self.sharing!r} with terms, expected the contrast alone; leave terms out")
        if self.loss != "contrast" and not self.terms:
            raise ValueError(f"loss {self.loss!r} without terms, expected terms that have it; name them")
        return self


class RowConfig(Settings):
    """One row of a table."""

    variant: str
    label: str
    """As it is shown."""


class TableConfig(Settings):
    """One of the paper's tables."""

    title: str
    source: str
    reference: str
    """The variant that the others are compared with."""
    rows: Annotated[tuple[RowConfig, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        names = self.variants
        if len(set(names)) < len(names):
            raise ValueError(f"a variant stands twice among {', '.join(names)}, expected each once")
        if self.reference not in names:
            raise ValueError(unknown_name("reference", self.reference, names))
        return self

    @property
    def variants(self) -> tuple[str, ...]:
        """In the order of the rows."""
        return tuple(row.variant for row in self.rows)


class EmergentConfig(Settings):
    """The claim that has no table: retrieval between modalities that never met."""

    title: str
    source: str
    stages: tuple[str, ...]
    """Trained one after the other."""


class SizeConfig(Settings):
    """How long is trained at one size."""

    steps: PositiveInt
    emergent: dict[str, PositiveInt]
    """By stage."""


class AblationsConfig(Settings):
    """All of `ablations.yaml`."""

    stage: str
    """That the variants of the tables are made of."""
    num_seeds: PositiveInt
    last_share: Annotated[float, Field(gt=0, le=1)]
    sizes: dict[str, SizeConfig]
    variants: dict[str, VariantConfig]
    tables: dict[str, TableConfig]
    emergent: EmergentConfig
    targets: tuple[dict[str, Any], ...]
    """Published numbers; `reports.target` knows their form."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        published = self.find_published()
        for name, table in self.tables.items():
            for variant in table.variants:
                if variant not in self.variants:
                    raise ValueError(f"table {name!r}: {unknown_name('variant', variant, self.variants)}")
                if missing := [metric for metric in RECALLS if (variant, metric) not in published]:
                    raise ValueError(f"table {name!r}: no target of variant {variant!r} for {', '.join(missing)}")
        for size, lengths in self.sizes.items():
            if set(lengths.emergent) != set(self.emergent.stages):
                raise ValueError(f"size {size!r} has steps of {sorted(lengths.emergent)}, expected of emergent.stages")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of everything that can be asked for."""
        return (*self.tables, EMERGENT)

    def find_published(self) -> Published:
        """Give the published zero-shot recalls.

        Raises:
            ValueError: a target that is not whole.
        """
        targets = load_targets({"targets": self.targets})
        found = {(target.protocol.rpartition("/")[2], target.metric): target.value for target in targets}
        return {key: value for key, value in found.items() if key[1] in RECALLS}


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Args:
        tables: by name, in the order of the report.
        size: of the model.
        num_seeds: how often every variant is trained, with seeds from 0.
        steps: None takes those of the size.
    """

    tables: tuple[str, ...]
    size: str
    num_seeds: int
    steps: int | None = None


@dataclass(frozen=True)
class Job:
    """One variant with one seed: a single training, or the stages of the emergent claim one after the other."""

    variant: str
    seed: int
    config: VariantConfig | None
    """None: the stages as they are."""
    stages: tuple[StageConfig, ...]

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.variant}-seed{self.seed}"

    def settings(self, device: str) -> dict[str, Any]:
        """Give everything that its numbers depend on, in plain values."""
        stages = [stage.model_dump(mode="json") for stage in self.stages]
        kept = [{key: value for key, value in stage.items() if key not in _NUMBERLESS} for stage in stages]
        variant = None if self.config is None else self.config.model_dump(mode="json")
        return {"variant": variant, "device": device, "stages": kept}


def load_ablations(path: Path = ABLATIONS_FILE) -> AblationsConfig:
    """Read the ablations.

    Raises:
        ValueError: a faulty file.
    """
    values: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return AblationsConfig.parse(values, where=path.name)


def make_order(
    ablations: AblationsConfig,
    tables: Sequence[str],
    *,
    size: str,
    steps: int | None,
    num_seeds: int | None,
    has_weights: bool = False,
) -> Order:
    """Check what the command line asks for.

    Raises:
        ValueError: an unknown table or size, a count below 1, or weights that no table judges.
    """
    for name in tables:
        if name not in ablations.names:
            raise ValueError(unknown_name("table", name, ablations.names))
    if size not in ablations.sizes:
        raise ValueError(unknown_name("size", size, ablations.sizes))
    for flag, value in (("--steps", steps), ("--seeds", num_seeds)):
        if value is not None and value < 1:
            raise ValueError(f"{flag} {value}, expected at least 1")
    chosen = tuple(name for name in ablations.names if name in tables or not tables)
    if has_weights and EMERGENT not in chosen:
        raise ValueError(f"--weights without table {EMERGENT!r}, which alone judges them; name it, or leave them out")
    return Order(chosen, size, ablations.num_seeds if num_seeds is None else num_seeds, steps)


def plan_jobs(ablations: AblationsConfig, order: Order, *, with_emergent: bool = True) -> tuple[Job, ...]:
    """List what has to be trained, each variant once for each seed; all variants of a seed before the next seed.

    Args:
        ablations: as read.
        order: what is asked for.
        with_emergent: False where finished weights are given for that table.
    """
    tables = [ablations.tables[name] for name in order.tables if name != EMERGENT]
    variants = dict.fromkeys(variant for table in tables for variant in table.variants)
    base, stages = load_stage(ablations.stage, order.size), []
    if with_emergent and EMERGENT in order.tables:
        stages = [load_stage(name, order.size) for name in ablations.emergent.stages]
    jobs = []
    for seed in range(order.num_seeds):
        jobs += [_variant_job(ablations, order, variant=variant, base=base, seed=seed) for variant in variants]
        if stages:
            jobs.append(_emergent_job(ablations, order, stages=stages, seed=seed))
    return tuple(jobs)


def describe_jobs(jobs: Sequence[Job]) -> str:
    """Put what has to be trained into one line."""
    variants = dict.fromkeys(job.variant for job in jobs)
    steps = sum(stage.steps for job in jobs for stage in job.stages)
    return f"{len(jobs)} trainings, {steps} steps in all: {', '.join(variants) or 'none'}"


def _variant_job(ablations: AblationsConfig, order: Order, *, variant: str, base: StageConfig, seed: int) -> Job:
    config = ablations.variants[variant]
    for term in config.terms:
        if term not in base.objective.terms:
            raise ValueError(f"variant {variant!r}: {unknown_name('term', term, base.objective.terms)}")
    terms = {name: base.objective.terms[name] for name in config.terms}
    objective = base.objective.model_copy(update={"terms": terms, "loss": config.loss})
    stage = base.model_copy(update={"objective": objective})
    return Job(variant, seed, config, (_shorten(stage, order.steps or ablations.sizes[order.size].steps, seed=seed),))


def _emergent_job(ablations: AblationsConfig, order: Order, *, stages: Sequence[StageConfig], seed: int) -> Job:
    lengths = ablations.sizes[order.size].emergent
    shortened = (_shorten(stage, order.steps or lengths[stage.stage], seed=seed) for stage in stages)
    return Job(EMERGENT, seed, None, tuple(shortened))


def _shorten(stage: StageConfig, steps: int, *, seed: int) -> StageConfig:
    """Give a stage its length, and one seed for its weights, masks, order and crops."""
    values = stage.model_dump(mode="json")
    changes = {
        "steps": steps,
        "seed": seed,
        "data": {**values["data"], "seed": seed},
        "saving": {"every_steps": min(steps, stage.saving.every_steps), "keep": 1},
        "log_every_steps": max(1, steps // 4),
    }
    return StageConfig.parse({**values, **changes}, where=f"{stage.stage}, size {stage.size}")
