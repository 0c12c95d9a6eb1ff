"""What the detection engine can be told: one block for each profile of the task. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from downstream.engines.settings import Count, NonNegativeFloat, PositiveFloat, Ratio, TrainingSettings
from models.config import PositiveInt, Rate, Settings, load_config

PATCH_SIZE_PX = 16
STRIDES = (4, 8, 16, 32, 64)
"""Of the maps that things are proposed on; the heads look at all but the last."""


class WindowSettings(Settings):
    """The picture the model sees, and which layers see all of it."""

    side_px: PositiveInt
    """Side of the square; pictures are resized until their longer side has it, and padded."""
    window: PositiveInt
    """Patches along one side of a window."""
    global_layers: tuple[Count, ...]
    """Layers, from 0, that attend to the whole picture; all others attend within windows."""
    train_ratio: tuple[Ratio, Ratio]
    """Range of the random resize in training, relative to `side_px`."""

    @property
    def grid(self) -> int:
        """Patches along one side of the picture."""
        return self.side_px // PATCH_SIZE_PX

    @model_validator(mode="after")
    def _windows_fill_the_picture(self) -> Self:
        if self.side_px % STRIDES[-1]:
            raise ValueError(f"side_px {self.side_px} is not a multiple of {STRIDES[-1]}")
        if self.grid % self.window:
            raise ValueError(f"window {self.window} does not divide the {self.grid} patches of side_px {self.side_px}")
        return self


class CascadeSettings(Settings):
    """Sizes of the pyramid, of the proposals and of the cascade's heads; the defaults are the released model's."""

    channels: PositiveInt = 256
    fc_dim: PositiveInt = 1024
    num_convs: PositiveInt = 4
    """Of a box head, and of the mask head."""
    num_rpn_convs: Annotated[int, Field(ge=2)] = 2
    anchor_scale: PositiveInt = 8
    """Side of an anchor over the stride of its map."""
    finest_scale_px: PositiveInt = 56
    """Things of twice this side and more are looked for above the finest map."""
    sampling_ratio: Count = 0
    """Samples along one side of a cell of a region; 0 takes as many as the region needs."""
    num_candidates: tuple[PositiveInt, PositiveInt] = (2000, 1000)
    """Best anchors of each map that become proposals, in training and in the test."""
    num_proposals: PositiveInt = 1000
    num_anchor_samples: PositiveInt = 256
    """Anchors of a picture that the proposals' loss looks at."""
    num_region_samples: PositiveInt = 512
    """Proposals of a picture that the heads' losses look at."""


class TestSettings(Settings):
    """What becomes of scores and boxes; the defaults are those of the published evaluation."""

    __test__ = False  # for pytest, which takes it for a test

    soft_nms: Literal["linear", "gaussian", "hard"] = "linear"
    iou_threshold: Rate = 0.6
    sigma: PositiveFloat = 0.5
    """Of the gaussian."""
    prune_threshold: NonNegativeFloat = 1e-3
    """What a score falls to before its box is forgotten."""
    score_threshold: NonNegativeFloat = 0.0
    max_detections: PositiveInt = 100
    """In one picture."""
    mask_threshold: Rate = 0.5
    maskness_threshold: Rate | None = 0.5
    """Masks are ranked by score times mean probability of the pixels above it; None ranks them by score alone."""


class DetectionTraining(TrainingSettings):
    """The fine-tuning recipe; the rate falls in steps."""

    milestones: tuple[PositiveInt, ...]
    """Iterations after which the rate falls."""
    step_factor: Rate = 0.1

    @model_validator(mode="after")
    def _milestones_ascend(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)) or max(self.milestones, default=0) > self.iterations:
            raise ValueError(f"milestones {self.milestones} do not ascend up to iterations {self.iterations}")
        return self


class DetectionProfile(Settings):
    """Everything that a profile of a detection task fixes."""

    size: str
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    mean: tuple[float, float, float] = (122.7709383, 116.7460125, 104.09373615)  # the released detection config
    """RGB, of 8-bit values."""
    std: tuple[float, float, float] = (68.5005327, 66.6321579, 70.32316305)
    picture: WindowSettings
    cascade: CascadeSettings = CascadeSettings()
    test: TestSettings = TestSettings()
    training: DetectionTraining

    @model_validator(mode="after")
    def _global_layers_are_there(self) -> Self:
        num_layers = load_config(self.size).num_layers
        if unknown := [layer for layer in self.picture.global_layers if layer >= num_layers]:
            raise ValueError(f"picture.global_layers names {unknown[0]}, size {self.size!r} has {num_layers} layers")
        return self


@dataclass(frozen=True)
class DetectionJob:
    """One resolved run of a detection task."""

    profile: DetectionProfile
    num_classes: int
    checkpoint: Path | None
    """Fine-tuned weights; None fine-tunes first."""
    pretrained: Path | None
    """Encoder weights that a fine-tuning starts from; None starts from random ones."""
    seed: int
    device: str
    num_workers: int

    @property
    def protocol(self) -> str:
        """Id of the evaluation protocol, as the targets have it."""
        test = self.profile.test
        masks = "no-maskness" if test.maskness_threshold is None else f"maskness-{test.maskness_threshold:g}"
        return f"square-{self.profile.picture.side_px}-{test.soft_nms}-nms-{test.iou_threshold:g}-{masks}/ss"
