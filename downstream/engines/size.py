"""Counts parameters and estimates memory from the settings alone, without torch."""

from dataclasses import dataclass

from downstream.engines.settings import AdapterSettings, HeadSettings, SegmentationProfile
from models.config import ModelConfig, load_config

GIB = 2**30
PATCH_SIZE_PX = 16
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class SegmentorSize:
    """Parameters by part."""

    branch: int
    """The vision branch of the size at its own resolution, with its final norm: what the paper counts as 1.5 B."""
    backbone: int
    """The branch at the profile's resolution, with one relative table a layer and without the final norm."""
    adapter: int
    head: int

    @property
    def total(self) -> int:
        """Parameters of the segmentor."""
        return self.backbone + self.adapter + self.head


def measure(profile: SegmentationProfile, *, num_classes: int) -> SegmentorSize:
    """Count a profile's parameters."""
    model = load_config(profile.size)
    own_grid = model.modalities["image"]["bias_grid_size"]
    layers = count_layers(model)
    branch = layers + count_image_adapter(model, grid=own_grid, num_tables=1) + 2 * model.embed_dim
    grid = profile.geometry.crop_px // PATCH_SIZE_PX
    return SegmentorSize(
        branch=branch,
        backbone=layers + count_image_adapter(model, grid=grid, num_tables=model.num_layers),
        adapter=_count_vit_adapter(model.embed_dim, profile.adapter),
        head=_count_mask2former(model.embed_dim, profile.head, num_classes=num_classes),
    )


def estimate_memory_gib(profile: SegmentationProfile, *, num_classes: int, is_training: bool) -> float:
    """Estimate the peak of device memory: weights, what the optimiser keeps, one layer's attention, the logits.

    A rule of thumb, good to a factor of about 1.5: weights and moments in float32; activations in the profile's
    precision; attention spelled out once, with its bias; logits of a whole picture of twice the window's area.
    """
    model = load_config(profile.size)
    size = measure(profile, num_classes=num_classes)
    per_value = BYTES[profile.precision]
    tokens = (profile.geometry.crop_px // PATCH_SIZE_PX) ** 2 + 1
    attention = 3 * model.num_heads * tokens**2 * per_value
    logits = 3 * num_classes * 2 * profile.geometry.crop_px**2 * 4
    if not is_training:
        return (size.total * 4 + attention + logits) / GIB
    kept_layers = 1 if profile.training.drop_activations else model.num_layers
    per_token = 10 * model.embed_dim + 4 * model.ffn_dim
    activations = kept_layers * tokens * per_token * per_value * profile.training.micro_batch_size
    inputs = model.num_layers * tokens * model.embed_dim * per_value * profile.training.micro_batch_size
    return (size.total * 16 + 2 * attention * profile.training.micro_batch_size + activations + inputs) / GIB


def count_layers(model: ModelConfig) -> int:
    """Count the parameters of all layers of one branch."""
    dim, ffn_dim = model.embed_dim, model.ffn_dim
    attention = 4 * dim**2 + 3 * dim + 2 * dim  # four projections, no bias on the keys; the inner norm
    feed_forward = 3 * dim * ffn_dim + 2 * ffn_dim + dim
    norms_and_scales = 4 * dim + 2 * dim
    return model.num_layers * (attention + feed_forward + norms_and_scales)


def count_image_adapter(model: ModelConfig, *, grid: int, num_tables: int) -> int:
    """Count those of the image adapter: positions and relative tables of a grid, so many tables."""
    dim = model.embed_dim
    narrow = dim // 4
    stem = (3 * 16 + 1) * narrow + (4 * narrow + 1) * narrow + (4 * narrow + 1) * dim + 4 * narrow
    positions = (grid**2 + 2) * dim  # the class vector's own embedding besides
    return stem + positions + num_tables * ((2 * grid - 1) ** 2 + 3) * model.num_heads


def _count_deformable(dim: int, *, num_heads: int, num_levels: int, num_points: int, value_dim: int) -> int:
    samples = num_heads * num_levels * num_points
    return (dim + 1) * 3 * samples + (dim + 1) * value_dim + (value_dim + 1) * dim


def _count_vit_adapter(dim: int, adapter: AdapterSettings) -> int:
    planes, value_dim, hidden = adapter.conv_planes, int(dim * adapter.value_ratio), int(dim * adapter.ffn_ratio)
    convs = 9 * planes * (3 + planes + planes + 2 * planes + 8 * planes + 16 * planes)
    norms = 2 * planes * (3 + 2 + 4 + 4)
    laterals = (planes + 2 * planes + 4 * planes + 4 * planes + 4) * dim
    attention = {
        levels: _count_deformable(
            dim, num_heads=adapter.num_heads, num_levels=levels, num_points=adapter.num_points, value_dim=value_dim
        )
        for levels in (1, 3)
    }
    injector = attention[3] + 5 * dim
    extractor = attention[1] + 6 * dim + (dim + 1) * hidden + 10 * hidden + (hidden + 1) * dim
    interactions = 4 * (injector + extractor) + adapter.num_extra_extractors * extractor
    ends = 3 * dim + (4 * dim + 1) * dim + 4 * 2 * dim  # level embedding, transposed convolution, batch norms
    return convs + norms + laterals + interactions + ends


def _count_mask2former(embed_dim: int, head: HeadSettings, *, num_classes: int) -> int:
    dim = head.channels
    feed_forward = (dim + 1) * head.ffn_dim + (head.ffn_dim + 1) * dim
    attention = 4 * (dim + 1) * dim
    deformable = _count_deformable(dim, num_heads=head.num_heads, num_levels=3, num_points=4, value_dim=dim)
    encoder = head.num_encoder_layers * (deformable + feed_forward + 4 * dim)
    inputs = 3 * ((embed_dim + 1) * dim + 2 * dim)
    finest = embed_dim * dim + 2 * dim + 9 * dim**2 + 2 * dim + (dim + 1) * dim  # lateral, output, mask feature
    decoder = head.num_decoder_layers * (2 * attention + feed_forward + 6 * dim) + 2 * dim
    embeddings = 2 * head.num_queries * dim + 2 * 3 * dim
    outputs = (dim + 1) * (num_classes + 1) + 3 * (dim + 1) * dim
    return inputs + encoder + finest + decoder + embeddings + outputs
