"""StageConfig: one stage of pretraining at one size, read from YAML and validated. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from models.config import PositiveInt, Rate, Settings, override, unknown_name
from models.training import OptimConfig, ParallelConfig
from pretrain.data.config import BatchConfig, DataConfig
from pretrain.guard import GuardConfig
from pretrain.stage_names import CONFIG_DIR, list_stages

NEW_MODALITY = "NEW"  # stands in a config for the modality that the command line names

PassName = Literal["alone", "fused"]
LossName = Literal["contrast", "smooth_l1", "l2", "cosine"]


_SPAN_SETTINGS = ("span", "adjust")


class MaskConfig(Settings):
    """How one term masks its modality."""

    kind: Literal["units", "words", "spans"]
    """Single units; whole words; runs of frames."""
    ratio: Annotated[float, Field(gt=0, lt=1)]
    """Masked part of the units, or of the words."""
    span: PositiveInt = 5
    """Frames in a run. Reference one_peace/data/pretrain_data/audio_text_pretrain_dataset.py."""
    adjust: Annotated[float, Field(ge=0)] = 0.1
    """Spans are drawn for this much more than `ratio`, since they overlap. Same source."""
    complements: str | None = None
    """Another term of the same modality; units that it leaves visible are masked first."""

    @model_validator(mode="after")
    def _uses_every_setting(self) -> Self:
        for name in _SPAN_SETTINGS:
            value = getattr(self, name)
            if self.kind != "spans" and value != type(self).model_fields[name].default:
                raise ValueError(f"{name} {value} with kind {self.kind!r}, expected kind 'spans'; leave {name} out")
        if self.complements is not None and self.kind != "units":
            raise ValueError(f"complements {self.complements!r} with kind {self.kind!r}, expected kind 'units'")
        return self


class TermConfig(Settings):
    """One denoising term: which student, taught by whom, under which mask."""

    modality: str
    student: PassName
    """Whether the masked pass sees this modality alone or the pair."""
    teacher: PassName
    """Whether the whole pass that teaches saw it alone or the pair."""
    weight: Annotated[float, Field(gt=0)]
    mask: MaskConfig


class ObjectiveConfig(Settings):
    """The pair and its losses."""

    pair: tuple[str, str]
    """In the model's order, text first."""
    terms: dict[str, TermConfig]
    """By name; empty leaves the aligning contrast alone."""
    loss: LossName = "contrast"
    """Of the terms. Paper: contrast; the others are what it is compared with."""
    dcl_scale: Annotated[float, Field(gt=0)] = 2.5
    """What the denoising contrast multiplies cosines by. Paper: temperature 0.4."""
    label_smoothing: Rate = 0.1
    """Of the denoising contrast only; reference, pretraining yaml."""

    @model_validator(mode="after")
    def _terms_fit(self) -> Self:
        for name, term in self.terms.items():
            if term.modality not in self.pair:
                raise ValueError(f"term {name!r}: {unknown_name('modality', term.modality, self.pair)}")
        places = [(term.student, term.modality) for term in self.terms.values()]
        if len(set(places)) < len(places):
            raise ValueError("two terms have the same student and modality, expected one mask for each masked pass")
        fused = [modality for student, modality in places if student == "fused"]
        if len(fused) == 1:
            raise ValueError(f"the fused student has a term for {fused[0]!r} only, expected one for each of the pair")
        return self

    @property
    def masks(self) -> dict[str, MaskConfig]:
        """By term."""
        return {name: term.mask for name, term in self.terms.items()}


class DecoderConfig(Settings):
    """Sizes of the decoder; the defaults are the paper's."""

    embed_dim: PositiveInt = 768
    ffn_dim: PositiveInt = 2048
    num_layers: PositiveInt = 2
    num_heads: PositiveInt = 12
    drop_path_rate: Rate = 0.0
    has_inner_norm: bool = True
    padding_mode: Literal["masked", "reference"] = "masked"
    """`reference`: padded positions are attended to, as zero vectors, as in the published code."""


class SavingConfig(Settings):
    """When the state of a training is saved."""

    every_steps: PositiveInt
    keep: PositiveInt = 2
    """Newest checkpoints that stay."""


class WorldConfig(Settings):
    """The miniature world that a small size is trained on."""

    folder: str
    """Below the project, where it is written; sources lie in it."""
    num_pictures: PositiveInt
    num_sounds: PositiveInt
    num_held_out: PositiveInt = 500
    seed: Annotated[int, Field(ge=0)] = 0


class StageConfig(Settings):
    """One stage at one size."""

    stage: str
    size: str
    title: str
    source: str
    """Where the paper's values come from."""
    starts_from: str | None
    """The stage whose weights this one takes; None starts from random ones."""
    trained: str
    """`all`, or a modality: then only what it uses alone is trained, the logit scale and the decoder."""
    reset_logit_scale: bool = False
    drop_path_rate: Rate = 0.4
    objective: ObjectiveConfig
    decoder: DecoderConfig = DecoderConfig()
    optim: OptimConfig
    steps: PositiveInt
    batch: BatchConfig
    data: DataConfig
    world: WorldConfig | None = None
    """Drawn where it is not there yet; None: the data is the user's."""
    num_workers: Annotated[int, Field(ge=0)] = 0
    parallel: ParallelConfig = ParallelConfig()
    guard: GuardConfig = GuardConfig()
    saving: SavingConfig
    log_every_steps: PositiveInt = 10
    seed: Annotated[int, Field(ge=0)] = 0


def load_stage(
    stage: str, size: str = "4b", *, modality: str | None = None, assignments: Sequence[str] = ()
) -> StageConfig:
    """Read a stage by its name, at one size.

    Args:
        stage: file name without its suffix.
        size: the paper's values stand at the top of the file, other sizes change them in `sizes`.
        modality: takes the place of `NEW` in stages that add any modality.
        assignments: `key.path=value` from the command line.

    Raises:
        ValueError: no such stage or size, a modality where none belongs or none where one does, or a faulty file.
    """
    if stage not in list_stages():
        raise ValueError(unknown_name("stage", stage, list_stages()))
    path = CONFIG_DIR / f"{stage}.yaml"
    text = path.read_text(encoding="utf-8")
    if (NEW_MODALITY in text) != (modality is not None):
        wish = "expected --modality NAME" if modality is None else "it takes no --modality"
        raise ValueError(f"stage {stage!r} and modality {modality!r}: {wish}")
    values = yaml.safe_load(text.replace(NEW_MODALITY, modality or ""))
    sizes = values.pop("sizes")
    if size not in {"4b", *sizes}:
        raise ValueError(unknown_name("size", size, ["4b", *sizes]))
    merged = {"stage": stage, "size": size, **_merge(values, sizes.get(size) or {})}
    config = StageConfig.parse(merged, where=path.name)
    if not assignments:
        return config
    # Assignments may name what the file leaves at its default.
    return StageConfig.parse(override(config.model_dump(mode="json"), assignments), where="--set")


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change values by values of the same form; blocks are merged, everything else is replaced."""
    merged = dict(values)
    for key, value in changes.items():
        is_block = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if is_block else value
    return merged
