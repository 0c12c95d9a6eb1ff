"""A published configuration, as found inside fairseq checkpoints, to ours."""

import ast
from collections.abc import Mapping
from typing import Any

from models.config import ModelConfig
from models.modalities.audio import PaddingMode

MODALITIES = {
    "val": ("text", "image", "audio"),
    "vl": ("text", "image"),
    "al": ("text", "audio"),
    "text": ("text",),
    "image": ("image",),
    "audio": ("audio",),
}
TEXT_POSITIONS = 514  # reference one_peace/models/adapter/text.py: a table that no config changes


def read_model_config(
    encoder: Mapping[str, Any],
    *,
    head_type: str,
    vocabulary_size: int,
    has_per_layer_bias: bool,
    has_projection: bool,
    padding_mode: PaddingMode = "masked",
) -> ModelConfig:
    """Translate the block `encoder` of a published model configuration.

    Args:
        encoder: by the published field names.
        head_type: which modalities the published model was built with: `val`, `vl`, `al`, `text`, `image`, `audio`.
        vocabulary_size: entries of the dictionary, which the published configuration does not hold.
        has_per_layer_bias: classification models always; retrieval models where `copy_rel_pos_table` is set.
        has_projection: retrieval models.
        padding_mode: of the audio adapter.

    Raises:
        ValueError: a head type or a switch that no model of ours has.
    """
    if head_type not in MODALITIES:
        raise ValueError(f"head_type {head_type!r}, expected one of {', '.join(MODALITIES)}")
    if encoder["magneto_scale_attn"] != encoder["scale_fc"]:
        raise ValueError("magneto_scale_attn and scale_fc differ; expected both inner norms, or none")
    options = {
        "text": _read_text(encoder["text_adapter"], vocabulary_size),
        "image": _read_image(encoder["image_adapter"]),
        "audio": _read_audio(encoder["audio_adapter"], padding_mode),
    }
    return ModelConfig.parse(
        {
            "name": "published",
            "embed_dim": encoder["embed_dim"],
            "ffn_dim": encoder["ffn_embed_dim"],
            "num_layers": encoder["layers"],
            "num_heads": encoder["attention_heads"],
            "modalities": {name: options[name] for name in MODALITIES[head_type]},
            "layer_scale_init": encoder["layer_scale_init_value"] if encoder["use_layer_scale"] else None,
            "drop_path_rate": encoder["drop_path_rate"],
            "has_inner_norm": encoder["magneto_scale_attn"],
            "has_attn_output_norm": encoder["scale_attn"],
            "has_head_scales": encoder["scale_heads"],
            "has_per_layer_bias": has_per_layer_bias,
            "has_projection": has_projection,
        },
        where="published configuration",
    )


def _read_common(adapter: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "has_embedding_norm": adapter["layernorm_embedding"],
        "has_type_embedding": adapter["add_type_embedding"],
    }


def _read_text(adapter: Mapping[str, Any], vocabulary_size: int) -> dict[str, Any]:
    return {
        **_read_common(adapter),
        "vocabulary_size": vocabulary_size,
        "max_positions": TEXT_POSITIONS,
        "bucket_size": adapter["bucket_size"],
    }


def _read_image(adapter: Mapping[str, Any]) -> dict[str, Any]:
    stems = {"hmlp": "hmlp", "mlp": "patch"}
    return {
        **_read_common(adapter),
        "grid_size": adapter["bucket_size"],
        "bias_grid_size": adapter["rel_bucket_size"],
        "stem": stems[adapter["vision_encoder_type"]],
    }


def _read_audio(adapter: Mapping[str, Any], padding_mode: PaddingMode) -> dict[str, Any]:
    return {
        **_read_common(adapter),
        "bucket_size": adapter["bucket_size"],
        "extractor": read_extractor(adapter["feature_encoder_spec"]),
        "position_depth": adapter["conv_pos_depth"],
        "position_width": adapter["conv_pos_width"],
        "position_groups": adapter["conv_pos_groups"],
        "has_conv_bias": adapter["conv_bias"],
        "has_position_norm": adapter["conv_pos_pre_ln"],
        "padding_mode": padding_mode,
    }


def read_extractor(text: str) -> list[tuple[int, int, int]]:
    """Read `[(512, 10, 5)] + [(512, 3, 2)] * 4` without evaluating it.

    Returns:
        Channels, kernel and stride of each convolution.

    Raises:
        ValueError: anything but sums and repetitions of lists of number triples.
    """
    try:
        return _read_lists(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError):
        raise ValueError(f"feature_encoder_spec {text!r}, expected lists of triples, added and repeated") from None


def _read_lists(node: ast.expr) -> list[tuple[int, int, int]]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _read_lists(node.left) + _read_lists(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _read_lists(node.left) * min(int(ast.literal_eval(node.right)), 100)
    triples = []
    for entry in ast.literal_eval(node):
        channels, kernel, stride = (int(number) for number in entry)
        triples.append((channels, kernel, stride))
    return triples
