"""Estimates what a step of pretraining keeps on one device; without torch.

Parameters and gradients are exact, and so is the optimiser's state but for vectors and small tables, whose moments stay
float32. Activations are counted from what autograd keeps of our layers, which the tests compare with the real thing;
fragmentation and the device's own use are left to a reserve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from models.config import ModelConfig
from models.training import MomentType, Recompute
from pretrain.cost import (
    Pass,
    TransformerSizes,
    count_decoder,
    count_layer,
    count_parameters,
    count_trained,
    decoder_sizes,
)

if TYPE_CHECKING:
    from pretrain.config import ObjectiveConfig

GIB: Final = 2**30
BYTES: Final = {"float32": 4, "bfloat16": 2}
SCORE_BYTES: Final = 4  # the contrasts are computed in float32; pretrain/losses.py
VALUES_PER_OUTPUT: Final = 3  # of a convolution with its norm and GELU: the input of each
STEM_BYTES: Final = 4  # of those: half of them are float32 for the norms in any case, the others have a copy
INT8_BLOCK: Final = 256  # numbers with a scale of float32; models/eight_bits.py

KEPT_BYTES: Final[Mapping[str, Mapping[Recompute, tuple[int, int]]]] = {
    "float32": {"none": (44, 20), "cheap": (28, 8), "layer": (4, 0)},
    "bfloat16": {"none": (36, 12), "cheap": (16, 4), "layer": (4, 0)},
}
"""Bytes that a layer keeps of a token, by the type of the computation and by what is recomputed: for each number of the
model's width, and for each of the feed-forward's. bfloat16 is autocast on a GPU, which keeps the residual stream and
the inputs of norms in float32, and a copy in bfloat16 for each projection that reads them."""
PASSING_BYTES: Final[Mapping[str, int]] = {"float32": 12, "bfloat16": 8}
"""Bytes of the gradients that stand at once in the backward pass of a layer, for each number of the feed-forward's
width: of the gate, of what it is multiplied by, and of their product."""


@dataclass(frozen=True)
class Layout:
    """How a training lies on the devices."""

    shard_size: int
    """Devices that share one copy of parameters, gradients and optimiser state; 1 shards nothing."""
    recompute: Recompute
    dtype: str
    """Of the computation."""
    state_dtype: str
    """Of parameters and gradients."""
    optimizer_state: MomentType = "float32"
    """How AdamW keeps its moments; float32 has the parameters' type."""


@dataclass(frozen=True)
class Workload:
    """What one micro-batch computes."""

    config: ModelConfig
    decoder: TransformerSizes | None
    objective: "ObjectiveConfig"
    trained: str
    passes: Sequence[Pass]
    tokens: Mapping[str, int]
    """By modality, of the whole sequences."""
    batch_size: int
    """Samples of a step on all devices; the aligning contrast compares with all of them."""


def count_all(work: Workload) -> int:
    """Count the parameters of the model and the decoder."""
    return sum(count_parameters(work.config).values()) + (
        count_decoder(work.decoder, work.config) if work.decoder else 0
    )


def estimate_memory(work: Workload, layout: Layout, *, micro_batch_size: int) -> dict[str, int]:
    """Estimate the bytes on one device, by part.

    Args:
        work: what is computed.
        layout: how it is spread.
        micro_batch_size: samples computed at once on the device.
    """
    total, trained = count_all(work), count_trained(work.config, work.decoder, work.trained)
    state, compute = BYTES[layout.state_dtype], BYTES[layout.dtype]
    return {
        "parameters": total * state // layout.shard_size,
        "gradients": trained * state // layout.shard_size,
        "AdamW state": moment_bytes(trained, layout) // layout.shard_size,
        "gathered layers": _gathered(work, layout, total) * compute,
        "activations": activation_bytes(work, layout) * micro_batch_size,
        "scores of the contrasts": _count_scores(work, micro_batch_size) * SCORE_BYTES,
    }


def moment_bytes(trained: int, layout: Layout) -> int:
    """Count the bytes of the moments of so many parameters."""
    if layout.optimizer_state == "int8":
        return 2 * (trained + trained * BYTES["float32"] // INT8_BLOCK)
    return 2 * trained * BYTES["bfloat16" if layout.optimizer_state == "bfloat16" else layout.state_dtype]


def activation_bytes(work: Workload, layout: Layout) -> int:
    """Count the bytes that are kept of one sample for the backward pass, and what that needs for a layer at a time.

    The passes of the encoder that learn go through each layer together, those of the decoder one after the other.
    """
    kept, together, largest = 0, 0, 0
    for one in work.passes:
        if not one.has_gradient:
            continue
        sizes = work.config
        if one.is_decoder:
            assert work.decoder is not None, "a pass of the decoder needs its sizes"
            sizes = decoder_sizes(work.decoder, work.config)
        count = sum(one.tokens.values())
        kept += sizes.num_layers * count * layer_bytes(sizes, layout.dtype, recompute=layout.recompute)
        passing = count * _passing_bytes(sizes, layout)
        together += 0 if one.is_decoder else passing
        largest = max(largest, passing)
        kept += sum(stem_values(name, work.config, one.tokens[name] - 1) for name in one.embedded) * STEM_BYTES
        if "audio" in one.tokens and not one.is_decoder:
            kept += _position_values(work.config, one.tokens["audio"] - 1) * STEM_BYTES
    return kept + max(largest, together)


def layer_bytes(sizes: ModelConfig, dtype: str, *, recompute: Recompute) -> int:
    """Count the bytes that one layer keeps of one token."""
    of_width, of_inner = KEPT_BYTES[dtype][recompute]
    return of_width * sizes.embed_dim + of_inner * sizes.ffn_dim


def _passing_bytes(sizes: ModelConfig, layout: Layout) -> int:
    """Count the bytes of one token that one layer's backward pass needs for its time: what is recomputed, gradients."""
    whole, kept = (layer_bytes(sizes, layout.dtype, recompute=choice) for choice in ("none", layout.recompute))
    return whole - kept + PASSING_BYTES[layout.dtype] * sizes.ffn_dim


def stem_values(name: str, config: ModelConfig, units: int) -> int:
    """Count the numbers that a stem keeps of one sample; none for a modality without a formula here.

    Args:
        name: modality.
        config: of the model.
        units: patches or frames.
    """
    options = config.modalities[name]
    if name == "image" and options.get("stem") != "patch":
        return VALUES_PER_OUTPUT * (16 + 4) * units * (config.embed_dim // 4)  # maps of 4 px and of 8 px a cell
    return _extractor_values(options, units) if name == "audio" else 0


def _extractor_values(options: Mapping[str, Any], num_frames: int) -> int:
    """Count what every convolution keeps: the windows it reads, and its output before the norm and after it."""
    values, length = 0, num_frames
    inputs = [1, *(width for width, _, _ in options["extractor"])]
    for (width, kernel, stride), channels in reversed(list(zip(options["extractor"], inputs, strict=False))):
        values += length * (2 * width + kernel * channels)
        length = (length - 1) * stride + kernel
    return int(values)


def _position_values(config: ModelConfig, num_frames: int) -> int:
    depth = int(config.modalities["audio"]["position_depth"])
    return VALUES_PER_OUTPUT * depth * num_frames * config.embed_dim


def _gathered(work: Workload, layout: Layout, total: int) -> int:
    """Count the parameters that stand whole on a device: two layers and the gradient of one, and all that is no layer.

    Unsharded, a second copy of everything stands there where the computation has a type of its own.
    """
    if layout.shard_size == 1:
        return 0 if layout.dtype == layout.state_dtype else total
    layer = count_layer(work.config)
    return 3 * layer + total - work.config.num_layers * layer


def _count_scores(work: Workload, micro_batch_size: int) -> int:
    """Count the scores of all terms, which stay until the backward pass, and twice the largest, which it needs."""
    sizes = [
        queries * candidates
        for queries, candidates in (term_sizes(work, name, micro_batch_size) for name in work.objective.terms)
        if work.objective.loss == "contrast"
    ]
    align = 2 * micro_batch_size * work.batch_size
    return sum(sizes) + 2 * max(sizes, default=0) + 2 * align


def term_sizes(work: Workload, term: str, micro_batch_size: int) -> tuple[int, int]:
    """Give the queries and the candidates of one denoising term in a micro-batch."""
    settings = work.objective.terms[term]
    units = work.tokens[settings.modality] - 1
    return micro_batch_size * int(units * settings.mask.ratio), micro_batch_size * units
