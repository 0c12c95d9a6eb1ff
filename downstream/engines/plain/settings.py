"""What the plain engine can be told: one block for each profile of a task. Imports no torch."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from models.config import PositiveInt, Rate, Settings
from models.training import OptimConfig

Precision = Literal["float32", "bfloat16", "float16"]

_SIDES = frozenset({"paper", "release", "use"})


class InputSettings(Settings):
    """How one modality is prepared."""

    protocol: str
    """Named in `models/modalities/<name>.py`."""
    arguments: dict[str, int | float] = Field(default_factory=dict)
    """Of the protocol's function: `size_px`, `max_duration_s`."""


class HeadSettings(Settings):
    """The head that a fine-tuning puts on the model; a checkpoint brings its own."""

    pooled_modality: str
    """Whose tokens are pooled; a released checkpoint that says otherwise is refused."""
    has_pooler: bool = False
    num_passes: PositiveInt = 1
    """Sequences that are pooled side by side: 2 for a pair of pictures."""
    is_linear: bool = False
    """The mean of the pooled tokens, a norm and one layer, as the vision release has it for ImageNet."""


class FineTuning(Settings):
    """The recipe of a fine-tuning."""

    data: Annotated[tuple[str, ...], Field(min_length=1)]
    """What is trained on, one after the other in one list: tasks by name, or authors' tables below the data root."""
    validation: str
    """The split of the task's own data set by which the weights that stay are chosen."""
    select_by: str
    """The metric that chooses."""
    num_validations: PositiveInt = 1
    """Spread evenly over the training, the last at its end."""
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    """One of the two."""
    batch_size: PositiveInt
    """Samples in one optimiser step, over all processes."""
    micro_batch_size: PositiveInt
    """Samples at once in one process; the rest is accumulated."""
    negatives: Literal["batch", "micro-batch"] = "batch"
    """What a contrast compares with: the whole batch, whatever it is cut into, or as published what is computed at
    once on all devices together."""
    optim: OptimConfig
    precision: Precision = "float32"
    """Of the arithmetic; weights and optimiser stay float32."""
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    drop_path_rate: Rate
    label_smoothing: Rate = 0.0
    crop_scale: tuple[Rate, float] | None = None
    """Least and greatest share of a picture that a random crop keeps; None keeps all of it."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share that each step keeps of a running mean of the weights, which is judged and kept; None does without it."""
    has_checkpointing: bool = False
    """Recompute each layer in the backward pass."""
    state_interval: PositiveInt
    """Steps between two states that an interrupted training goes on from."""

    def count_steps(self, num_examples: int) -> int:
        """Tell the optimiser steps of the whole training."""
        return self.steps or -(-num_examples * (self.epochs or 0) // self.batch_size)

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"epochs {self.epochs} and steps {self.steps}: expected one of the two")
        return self

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of micro_batch_size {self.micro_batch_size}")
        return self


class SettingProfile(Settings):
    """One way of judging: zero-shot, or fine-tuned."""

    kind: str | None = None
    """A file in `downstream/kinds`; None is the task's own."""
    protocol: str
    """Id of the evaluation protocol, as the targets have it, with `{modality.argument}` for what inputs say."""
    inputs: dict[str, InputSettings]
    precision: Precision = "float32"
    batch_size: PositiveInt
    """Samples at once in an evaluation."""
    prompt: str | None = None
    """What is said of a class, with `{label}`."""
    head: HeadSettings | None = None
    """None compares embeddings."""
    has_type_embeddings: bool = False
    """Vectors that tell a pair's pictures apart; NLVR2."""
    training: FineTuning | None = None
    """None where nothing is trained."""

    @property
    def protocol_id(self) -> str:
        """The protocol with what the inputs say."""
        said = {name: SimpleNamespace(**settings.arguments) for name, settings in self.inputs.items()}
        return self.protocol.format(**said)

    @model_validator(mode="after")
    def _protocol_can_be_said(self) -> Self:
        try:
            self.protocol_id  # noqa: B018, only whether it can be said
        except (KeyError, AttributeError, IndexError, ValueError) as error:
            raise ValueError(f"protocol {self.protocol!r} asks for what the inputs do not say: {error}") from None
        return self


class PlainProfile(Settings):
    """Everything that a profile of a task fixes."""

    size: str
    settings: dict[Literal["zero-shot", "fine-tuned"], SettingProfile]


def settle(values: Mapping[str, Any], *, where: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """Choose between the paper and the released files where a config states both.

    Args:
        values: nested mappings; `{paper: ..., release: ..., use: paper}` stands for one value.
        where: the way to these values.

    Returns:
        The values with one of each pair, and a sentence for each.

    Raises:
        ValueError: `use` names neither.
    """
    settled: dict[str, Any] = {}
    told: list[str] = []
    for key, value in values.items():
        place = f"{where}.{key}".lstrip(".")
        if not isinstance(value, Mapping):
            settled[key] = value
        elif set(value) == _SIDES:
            if value["use"] not in ("paper", "release"):
                raise ValueError(f"{place}.use {value['use']!r}, expected 'paper' or 'release'")
            settled[key] = value[value["use"]]
            told.append(
                f"{place}: the paper says {value['paper']}, the release {value['release']}; {value['use']} used"
            )
        else:
            settled[key], below = settle(value, where=place)
            told += below
    return settled, tuple(told)
