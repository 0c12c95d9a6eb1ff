"""Counts a detector's parameters and estimates memory from the settings alone, without torch."""

from dataclasses import dataclass

from downstream.engines.openmmlab.detection_settings import CascadeSettings, DetectionProfile
from downstream.engines.size import BYTES, GIB, count_image_adapter, count_layers
from models.config import load_config

NUM_STAGES, NUM_RATIOS = 3, 3
BOX_CELLS = 7 * 7


@dataclass(frozen=True)
class DetectorSize:
    """Parameters by part."""

    backbone: int
    """The vision branch at the picture's resolution with its split positions, without class token and final norm."""
    pyramid: int
    proposals: int
    heads: int

    @property
    def total(self) -> int:
        """Parameters of the detector."""
        return self.backbone + self.pyramid + self.proposals + self.heads


def measure_detector(profile: DetectionProfile, *, num_classes: int) -> DetectorSize:
    """Count a profile's parameters."""
    model, picture, cascade = load_config(profile.size), profile.picture, profile.cascade
    dim, grid = model.embed_dim, picture.grid
    own_grid = model.modalities["image"]["bias_grid_size"]
    adapter = count_image_adapter(model, grid=own_grid, num_tables=1) + (grid**2 - own_grid**2 - 1) * dim
    sides = [grid if layer in picture.global_layers else picture.window for layer in range(model.num_layers)]
    split = sum(2 * (2 * side - 1) * (dim // model.num_heads) for side in sides)
    width = cascade.channels
    return DetectorSize(
        backbone=count_layers(model) + adapter + split,
        pyramid=_count_pyramid(dim, width),
        proposals=cascade.num_rpn_convs * (9 * width**2 + width) + (width + 1) * NUM_RATIOS * 5,
        heads=_count_heads(cascade, num_classes=num_classes),
    )


def estimate_detector_memory_gib(profile: DetectionProfile, *, num_classes: int, is_training: bool) -> float:
    """Estimate the peak of device memory: weights, what the optimiser keeps, the attention of one global layer.

    A rule of thumb, good to a factor of about 1.5: weights and moments in float32; two biases and the scores of a
    layer that sees the whole picture, spelled out; activations in the profile's precision.
    """
    model, training = load_config(profile.size), profile.training
    per_value, tokens = BYTES[profile.precision], profile.picture.grid**2
    attention = 4 * model.num_heads * tokens**2 * per_value
    total = measure_detector(profile, num_classes=num_classes).total
    if not is_training:
        return (total * 4 + attention) / GIB
    kept_layers = 1 if training.drop_activations else model.num_layers
    per_token = kept_layers * (10 * model.embed_dim + 4 * model.ffn_dim) + model.num_layers * model.embed_dim
    activations = per_token * tokens * per_value * training.micro_batch_size
    return (total * 16 + 2 * attention * training.micro_batch_size + activations) / GIB


def _count_pyramid(dim: int, width: int) -> int:
    half, quarter = dim // 2, dim // 4
    enlarge = 4 * dim * half + half
    tail = 2 * width + 9 * width**2 + 2 * width  # norm, convolution, norm
    finest = enlarge + 2 * half + 4 * half * quarter + quarter + quarter * width + tail
    return finest + enlarge + half * width + tail + 2 * (dim * width + tail)


def _count_heads(cascade: CascadeSettings, *, num_classes: int) -> int:
    width, fc_dim = cascade.channels, cascade.fc_dim
    convs = cascade.num_convs * (9 * width**2 + 2 * width)
    box = convs + (BOX_CELLS * width + 1) * fc_dim + (fc_dim + 1) * (num_classes + 1 + 4)
    mask = convs + 4 * width**2 + width + (width + 1) * num_classes
    return NUM_STAGES * box + mask
