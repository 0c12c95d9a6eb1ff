"""What the segmentation engine can be told: one block for each profile of a task. Imports no torch."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from downstream.formats.segmentation import LabelledSet
from models.config import PositiveInt, Rate, Settings, load_config

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


def _read_ratio(value: object) -> object:
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except ZeroDivisionError:
        raise ValueError("a fraction over zero") from None


Ratio = Annotated[float, BeforeValidator(_read_ratio), Field(gt=0)]
"""A positive number that may be written as a fraction: "384/896"."""


NORM_GROUPS = 32  # of the pixel decoder


class AdapterSettings(Settings):
    """Sizes of the ViT-Adapter; the defaults are the released segmentation model's."""

    conv_planes: PositiveInt = 64
    num_points: PositiveInt = 4
    num_heads: PositiveInt = 24
    value_ratio: PositiveFloat = 0.5
    ffn_ratio: PositiveFloat = 0.25
    injector_scale_init: float = 1e-6
    num_extra_extractors: Count = 2


class HeadSettings(Settings):
    """Sizes of the Mask2Former head."""

    channels: PositiveInt
    num_queries: PositiveInt
    num_encoder_layers: PositiveInt
    num_decoder_layers: PositiveInt
    num_heads: PositiveInt
    ffn_dim: PositiveInt
    num_points: PositiveInt
    """Points of a mask that the losses look at."""
    no_object_weight: PositiveFloat = 0.1

    @model_validator(mode="after")
    def _channels_divide(self) -> Self:
        for divisor, what in ((NORM_GROUPS, "groups of its norms"), (self.num_heads, "heads")):
            if self.channels % divisor:
                raise ValueError(f"head.channels {self.channels} is no multiple of its {divisor} {what}")
        return self


class GeometrySettings(Settings):
    """Sizes of pictures on their way in, in pixels."""

    crop_px: PositiveInt
    """Side of the square that the model sees."""
    stride_px: PositiveInt
    """Step of the sliding window."""
    scale_px: tuple[PositiveInt, PositiveInt]
    """Longest and shortest side a picture is resized to, its aspect kept."""
    size_divisor: PositiveInt
    """Test pictures are stretched so that both sides are multiples of it."""
    test_ratios: tuple[Ratio, ...]
    """Scales of the multi-scale test, relative to `scale_px`."""
    train_ratio: tuple[Ratio, Ratio]
    """Range of the random resize in training, relative to `scale_px`."""
    max_class_share: Rate
    """A training crop in which one class covers more than this is drawn again."""
    has_photometric_distortion: bool = True
    """Random brightness, contrast, saturation and hue in training."""

    @model_validator(mode="after")
    def _crop_is_whole_patches(self) -> Self:
        if self.crop_px % 32:
            raise ValueError(f"crop_px {self.crop_px} is not a multiple of 32")
        return self

    @model_validator(mode="after")
    def _windows_touch(self) -> Self:
        if self.stride_px > self.crop_px:
            raise ValueError(
                f"stride_px {self.stride_px} is above crop_px {self.crop_px}: no window would see some pixels"
            )
        return self


class TrainingSettings(Settings):
    """The fine-tuning recipe."""

    iterations: PositiveInt
    batch_size: PositiveInt
    """Pictures in one optimiser step."""
    micro_batch_size: PositiveInt
    """Pictures at once; the rest is accumulated."""
    lr: PositiveFloat
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    weight_decay: NonNegativeFloat
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    warmup_iterations: Count
    warmup_start: PositiveFloat = 1e-6
    """Share of `lr` that the warm-up begins with."""
    max_grad_norm: PositiveFloat | None = None
    drop_path_rate: Rate
    drop_activations: bool
    """Recompute activations in the backward pass."""
    state_interval: PositiveInt
    """Iterations between two states that a resumed run starts from."""

    @property
    def accumulation(self) -> int:
        """Micro-batches in one optimiser step."""
        return self.batch_size // self.micro_batch_size

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        if self.batch_size % self.micro_batch_size:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of micro_batch_size {self.micro_batch_size}")
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup_iterations >= self.iterations:
            raise ValueError(f"warmup_iterations {self.warmup_iterations} is not below iterations {self.iterations}")
        return self


class SegmentationProfile(Settings):
    """Everything that a profile of a segmentation task fixes."""

    size: str
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    mean: tuple[float, float, float] = (122.771, 116.746, 104.094)  # the released segmentation configs
    """RGB, of 8-bit values."""
    std: tuple[float, float, float] = (68.5, 66.632, 70.323)
    geometry: GeometrySettings
    adapter: AdapterSettings = AdapterSettings()
    head: HeadSettings
    training: TrainingSettings

    @model_validator(mode="after")
    def _adapter_heads_divide(self) -> Self:
        value_dim = int(load_config(self.size).embed_dim * self.adapter.value_ratio)
        if value_dim % self.adapter.num_heads:
            raise ValueError(
                f"adapter.num_heads {self.adapter.num_heads} does not divide its values' width {value_dim}"
            )
        return self


@dataclass(frozen=True)
class SegmentationJob:
    """One resolved run of a segmentation task."""

    data: LabelledSet
    profile: SegmentationProfile
    has_views: bool
    """Evaluate on all scales and flips instead of one view."""
    checkpoint: Path | None
    """Fine-tuned weights; None fine-tunes first."""
    pretrained: Path | None
    """Weights that a fine-tuning starts from, of an encoder or a whole segmentor; None starts from random ones."""
    seed: int
    device: str
    num_workers: int

    @property
    def num_classes(self) -> int:
        """Classes of the data set."""
        return self.data.num_classes

    @property
    def view(self) -> str:
        """`ss`, one view; `ms`, all scales and flips."""
        return "ms" if self.has_views else "ss"

    @property
    def protocol(self) -> str:
        """Id of the evaluation protocol, as the targets have it."""
        return f"slide-{self.profile.geometry.crop_px}-{self.profile.geometry.stride_px}/{self.view}"
