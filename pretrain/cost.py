"""What one step of pretraining costs in parameters and floating-point operations, from the configs alone.

No weights are built and torch is not imported, so that a plan answers at once. A multiply-add is two operations; only
matrix products and convolutions are counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from models.config import ModelConfig

if TYPE_CHECKING:
    from pretrain.config import ObjectiveConfig

PATCH_SIZE_PX: Final = 16
NUM_CLASS_ROWS: Final = 3  # of a relative table; models/layers/position_bias.py
NUM_AUDIO_POSITIONS: Final = 1026  # of the decoder; models/modalities/audio.py
BACKWARD_SHARE: Final = 2  # gradients of inputs and of weights take one forward each


class TransformerSizes(Protocol):
    """The sizes that layers are built from; a `ModelConfig` and a `DecoderConfig` have them."""

    @property
    def embed_dim(self) -> int: ...  # noqa: D102
    @property
    def ffn_dim(self) -> int: ...  # noqa: D102
    @property
    def num_layers(self) -> int: ...  # noqa: D102
    @property
    def num_heads(self) -> int: ...  # noqa: D102
    @property
    def has_inner_norm(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class Pass:
    """One run of the encoder or of the decoder over a sample."""

    tokens: Mapping[str, int]
    """By modality, the class included: what the layers see."""
    has_gradient: bool
    is_decoder: bool = False
    kept: Mapping[str, int] = field(default_factory=dict)
    """Decoder only: tokens that come from the encoder, by modality."""
    embedded: tuple[str, ...] = ()
    """Modalities whose stem runs for this pass; the passes of a step share it."""
    is_projected: bool = False
    """The class tokens go on to the aligning contrast."""
    has_classes_only: bool = False
    """Nothing else leaves the last layer."""


def count_parameters(config: ModelConfig) -> dict[str, int]:
    """Count a model's parameters, exactly.

    Returns:
        By part, named as the model's parameters begin: `adapters.<modality>`, `encoder.shared` (attention, norms and
        layer scales), `encoder.ffn.<modality>`, `encoder.norms.<modality>`, `projections.<modality>`, `logit_scale`.
    """
    dim = config.embed_dim
    parts = {f"adapters.{name}": _count_adapter(name, options, config) for name, options in config.modalities.items()}
    parts["encoder.shared"] = config.num_layers * _count_shared(config)
    for name in config.modalities:
        parts[f"encoder.ffn.{name}"] = config.num_layers * count_feed_forward(config)
        parts[f"encoder.norms.{name}"] = 2 * dim if config.has_final_norm else 0
        parts[f"projections.{name}"] = dim**2 + dim if config.has_projection else 0
    parts["logit_scale"] = 1 if config.has_projection else 0
    return parts


def count_decoder(decoder: TransformerSizes, config: ModelConfig) -> int:
    """Count the parameters of the pretraining decoder for the modalities of a model, exactly."""
    width, names = decoder.embed_dim, tuple(config.modalities)
    sizes = decoder_sizes(decoder, config)
    layers = decoder.num_layers * count_layer(sizes)
    ways = len(names) * (2 * config.embed_dim * width + width + config.embed_dim)
    tokens = len(names) * 2 * width + (width if "audio" in names else 0)  # mask tokens and unused embeddings
    positions = sum(_count_positions(name, options) for name, options in config.modalities.items()) * width
    return layers + len(names) * 2 * width + ways + tokens + positions


def count_layer(config: ModelConfig) -> int:
    """Count the parameters of one layer with the feed-forwards of all modalities: what FSDP gathers at once."""
    return _count_shared(config) + len(config.modalities) * count_feed_forward(config)


def count_feed_forward(config: ModelConfig) -> int:
    """Count the parameters of one modality's feed-forward in one layer."""
    norm = 2 * config.ffn_dim if config.has_inner_norm else 0
    return 3 * config.embed_dim * config.ffn_dim + config.embed_dim + norm


def count_trained(config: ModelConfig, decoder: TransformerSizes | None, trained: str) -> int:
    """Count what a stage trains: `all`, or what one modality uses alone, the logit scale and the decoder."""
    parts = count_parameters(config)
    if trained != "all":
        parts = {name: count for name, count in parts.items() if name == "logit_scale" or name.endswith(f".{trained}")}
    return sum(parts.values()) + (count_decoder(decoder, config) if decoder else 0)


def decoder_sizes(decoder: TransformerSizes, config: ModelConfig) -> ModelConfig:
    """Give the decoder's layers as a model's, without what the decoder lacks: layer scale, projections."""
    return ModelConfig(
        name="decoder",
        embed_dim=decoder.embed_dim,
        ffn_dim=decoder.ffn_dim,
        num_layers=decoder.num_layers,
        num_heads=decoder.num_heads,
        modalities={name: {} for name in config.modalities},
        layer_scale_init=None,
        has_inner_norm=decoder.has_inner_norm,
        has_projection=False,
    )


def forward_flops(
    config: ModelConfig,
    tokens: Mapping[str, int],
    *,
    batch: int = 1,
    embedded: Sequence[str] = (),
    is_projected: bool = False,
    has_classes_only: bool = False,
) -> int:
    """Count the operations of one pass of the encoder.

    Args:
        config: of the model.
        tokens: by modality, of one sample; padding counts, for it is computed.
        batch: samples.
        embedded: modalities whose stem runs too. A modality without a formula here has a stem of no cost: that of
            pictures is 0.2 % of the paper's layers.
        is_projected: the class tokens are projected.
        has_classes_only: the last layer runs for the class tokens alone.
    """
    flops = _layer_flops(config, sum(tokens.values()), leaving=len(tokens) if has_classes_only else None)
    for name, count in tokens.items():
        if name == "audio":
            flops += _position_flops(config, count - 1)
        if name in embedded and name in _STEMS:
            flops += _STEMS[name](config.modalities[name], config, count - 1)
    flops += 2 * config.embed_dim**2 * len(tokens) if is_projected else 0
    return batch * flops


def decoder_flops(
    decoder: TransformerSizes, config: ModelConfig, tokens: Mapping[str, int], *, kept: Mapping[str, int]
) -> int:
    """Count the operations of the decoder over one sample.

    Args:
        decoder: its sizes.
        config: of the encoder.
        tokens: by modality, the whole sequence.
        kept: by modality, what the encoder saw.
    """
    way = 2 * config.embed_dim * decoder.embed_dim
    return _layer_flops(decoder, sum(tokens.values())) + way * (sum(tokens.values()) + sum(kept.values()))


def contrast_flops(dim: int, queries: int, candidates: int) -> int:
    """Count the operations of a denoising contrast: the scores, and the gradient of the queries alone."""
    return 2 * 2 * dim * queries * candidates


def pass_flops(one: Pass, config: ModelConfig, *, decoder: TransformerSizes | None) -> int:
    """Count the forward operations of a pass over one sample.

    Raises:
        ValueError: a pass of the decoder, and no decoder.
    """
    if not one.is_decoder:
        return forward_flops(
            config,
            one.tokens,
            embedded=one.embedded,
            is_projected=one.is_projected,
            has_classes_only=one.has_classes_only,
        )
    if decoder is None:
        raise ValueError("a pass of the decoder, expected the decoder's sizes beside it")
    return decoder_flops(decoder, config, one.tokens, kept=one.kept)


def step_flops(
    passes: Sequence[Pass],
    config: ModelConfig,
    *,
    decoder: TransformerSizes | None,
    batch: int,
    recomputed: bool = False,
) -> int:
    """Count the operations of one step: three forwards for a pass with gradient, one for a pass without.

    A frozen weight counts as a trained one, which is a little too much in stages that train one modality.

    Args:
        passes: of one sample.
        config: of the model.
        decoder: its sizes.
        batch: samples of the step.
        recomputed: add the layers that activation checkpointing runs again. They are executed, but are no part of
            what utilisation (MFU) is measured by.
    """
    factor = 1 + BACKWARD_SHARE + (1 if recomputed else 0)
    return batch * sum(pass_flops(one, config, decoder=decoder) * (factor if one.has_gradient else 1) for one in passes)


def stage_passes(
    objective: "ObjectiveConfig", tokens: Mapping[str, int], *, trained: str, has_feature_pass: bool = False
) -> list[Pass]:
    """List the passes of one step over one sample.

    Args:
        objective: the pair and its denoising terms.
        tokens: by modality, of the whole sequences, the class included.
        trained: what the stage trains, `all` or one modality; the whole sequences of others need no gradient then.
        has_feature_pass: the whole sequences run once more without gradient, as where several micro-batches make up
            the batch that the aligning contrast compares.

    Source: paper, Pretraining; reference one_peace/models/one_peace/one_peace_pretrain.py.
    """
    pair = objective.pair
    passes = [
        Pass({name: tokens[name]}, has_gradient=trained in ("all", name), embedded=(name,), is_projected=True)
        for name in pair
    ]
    if has_feature_pass:
        passes += [replace(one, has_gradient=False, has_classes_only=True) for one in passes]
    if any(term.teacher == "fused" for term in objective.terms.values()):
        passes.append(Pass({name: tokens[name] for name in pair}, has_gradient=False))
    students: dict[str, dict[str, int]] = {}
    for term in objective.terms.values():
        place = term.modality if term.student == "alone" else "fused"
        students.setdefault(place, {})[term.modality] = _kept(tokens[term.modality], term.mask.ratio)
    for kept in students.values():
        whole = {name: tokens[name] for name in kept}
        passes.append(Pass(kept, has_gradient=True))
        passes.append(Pass(whole, has_gradient=True, is_decoder=True, kept=kept))
    return passes


def _count_shared(config: ModelConfig) -> int:
    """Count what one layer has but feed-forwards."""
    dim = config.embed_dim
    attention = 4 * dim**2 + 3 * dim + (2 * dim if config.has_inner_norm else 0)  # the keys have no bias
    attention += config.num_heads if config.has_head_scales else 0
    norms = 4 * dim + (2 * dim if config.has_attn_output_norm else 0)
    return attention + norms + (0 if config.layer_scale_init is None else 2 * dim)


def _count_adapter(name: str, options: Mapping[str, Any], config: ModelConfig) -> int:
    """Count an adapter by its formula; one that has none is built without memory, which imports torch."""
    if name in _ADAPTERS:
        return _ADAPTERS[name](options, config)
    import torch

    from models.modalities import load_modality

    with torch.device("meta"):
        adapter = load_modality(name).build_adapter(options, config)
    return sum(parameter.numel() for parameter in adapter.parameters())


def _count_tables(rows: int, config: ModelConfig) -> int:
    return config.num_bias_tables * (rows + NUM_CLASS_ROWS) * config.num_heads


def _count_switches(options: Mapping[str, Any], dim: int, *, type_embeddings: int = 1) -> int:
    norm = 2 * dim if options.get("has_embedding_norm") else 0
    return norm + (type_embeddings * dim if options.get("has_type_embedding") else 0)


def _count_text(options: Mapping[str, Any], config: ModelConfig) -> int:
    dim = config.embed_dim
    rows = options["vocabulary_size"] + 1 + options["max_positions"]
    return int(rows * dim + _count_switches(options, dim) + _count_tables(2 * options["bucket_size"] - 1, config))


def _count_image(options: Mapping[str, Any], config: ModelConfig) -> int:
    dim, narrow = config.embed_dim, config.embed_dim // 4
    hmlp = (3 * 16 + 1) * narrow + (4 * narrow + 1) * narrow + (4 * narrow + 1) * dim + 4 * narrow
    stem = 3 * PATCH_SIZE_PX**2 * dim if options.get("stem") == "patch" else hmlp
    positions = (options["grid_size"] ** 2 + 2) * dim  # the class's own embedding besides
    tables = _count_tables((2 * options["bias_grid_size"] - 1) ** 2, config)
    return int(stem + positions + tables + _count_switches(options, dim, type_embeddings=2))


def _count_audio(options: Mapping[str, Any], config: ModelConfig) -> int:
    dim, channels, extractor = config.embed_dim, 1, 0
    for width, kernel, _ in options["extractor"]:
        extractor += channels * width * kernel + 2 * width + (width if options.get("has_conv_bias") else 0)
        channels = width
    projection = 2 * channels + channels * dim + dim
    convolution = dim * (dim // options["position_groups"]) * _position_kernel(options) + dim
    vectors = 3 * dim + (2 * dim if options.get("has_position_norm") else 0)  # class, its position, mask embedding
    positions = options["position_depth"] * convolution + vectors
    tables = _count_tables(2 * options["bucket_size"] - 1, config)
    return int(extractor + projection + positions + tables + _count_switches(options, dim))


_ADAPTERS: Final[Mapping[str, Callable[[Mapping[str, Any], ModelConfig], int]]] = MappingProxyType(
    {"text": _count_text, "image": _count_image, "audio": _count_audio}
)


def _count_positions(name: str, options: Mapping[str, Any]) -> int:
    """Count the decoder's absolute positions of a modality."""
    if name == "text":
        return int(options["max_positions"])
    if name == "image":
        return int(options["bias_grid_size"]) ** 2 + 1
    if name == "audio":
        return NUM_AUDIO_POSITIONS
    from models.modalities import load_modality  # which imports torch

    return load_modality(name).count_positions(options)


def _position_kernel(options: Mapping[str, Any]) -> int:
    return max(3, int(options["position_width"]) // int(options["position_depth"]))


def _layer_flops(sizes: TransformerSizes, num_tokens: int, *, leaving: int | None = None) -> int:
    """Count all layers over one sequence: four projections, scores and values, and GeGLU's three products.

    Of the last layer, keys and values are of all tokens, everything else of those that leave it; None for all.
    """
    dim, num_layers = sizes.embed_dim, sizes.num_layers
    going_on = (num_layers - 1) * num_tokens + (num_tokens if leaving is None else leaving)
    asking = 4 * dim**2 + 6 * dim * sizes.ffn_dim + 4 * num_tokens * dim
    return num_layers * num_tokens * 4 * dim**2 + going_on * asking


def _position_flops(config: ModelConfig, num_frames: int) -> int:
    """Count the position convolutions, which every pass over sounds runs for itself."""
    options, dim = config.modalities["audio"], config.embed_dim
    kernel = _position_kernel(options)
    frames = num_frames + (1 - kernel % 2)  # an even kernel makes one that is dropped
    return int(2 * options["position_depth"] * frames * dim * (dim // options["position_groups"]) * kernel)


def _image_stem_flops(options: Mapping[str, Any], config: ModelConfig, num_patches: int) -> int:
    dim, narrow = config.embed_dim, config.embed_dim // 4
    if options.get("stem") == "patch":
        return 2 * num_patches * 3 * PATCH_SIZE_PX**2 * dim
    return 2 * num_patches * (16 * 3 * 16 * narrow + 4 * 4 * narrow**2 + 4 * narrow * dim)


def _audio_stem_flops(options: Mapping[str, Any], config: ModelConfig, num_frames: int) -> int:
    """Count the extractor backwards, from the frames to the fewest samples that make so many."""
    inputs = [1, *(width for width, _, _ in options["extractor"])]
    length, flops = num_frames, 2 * num_frames * inputs[-1] * config.embed_dim
    for channels, (width, kernel, stride) in reversed(list(zip(inputs, options["extractor"], strict=False))):
        flops += 2 * length * channels * width * kernel
        length = (length - 1) * stride + kernel
    return int(flops)


_STEMS: Final[Mapping[str, Callable[[Mapping[str, Any], ModelConfig, int], int]]] = MappingProxyType(
    {"image": _image_stem_flops, "audio": _audio_stem_flops}
)


def _kept(tokens: int, ratio: float) -> int:
    """Count what a mask leaves of a sequence, its class included."""
    return tokens - int((tokens - 1) * ratio)
