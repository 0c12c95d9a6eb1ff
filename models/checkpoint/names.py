"""Published parameter names to ours and back.

The fairseq files say `encoder_wrapper...`. The vision release, the segmentation backbone and the ImageNet classifier
drop that prefix and put the relative tables elsewhere; their names are first brought to the fairseq form.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_PLACEHOLDERS = {"m": r"[a-z0-9]+", "n": r"\d+", "leaf": "weight|bias", "proj": "q|k|v|out"}

# Fairseq form, ours.
_PAIRS = (
    ("logit_scale", "logit_scale"),
    ("{m}_proj.{leaf}", "projections.{m}.{leaf}"),
    ("encoder_wrapper.{m}_adapter.cls_embedding", "adapters.{m}.cls_embedding"),
    ("encoder_wrapper.{m}_adapter.type_embedding", "adapters.{m}.type_embedding"),
    ("encoder_wrapper.{m}_adapter.type_embedding_2", "adapters.{m}.second_type_embedding"),
    ("encoder_wrapper.{m}_adapter.layernorm_embedding.{leaf}", "adapters.{m}.embedding_norm.{leaf}"),
    ("encoder_wrapper.{m}_adapter.rel_pos_table_list.{n}.weight", "adapters.{m}.bias.tables.{n}"),
    ("encoder_wrapper.text_adapter.embed_tokens.weight", "adapters.text.embed_tokens.weight"),
    ("encoder_wrapper.text_adapter.embed_positions.weight", "adapters.text.positions"),
    ("encoder_wrapper.image_adapter.pos_embed", "adapters.image.positions"),
    ("encoder_wrapper.image_adapter.embed_images.{leaf}", "adapters.image.stem.{leaf}"),
    ("encoder_wrapper.image_adapter.embed_images.{n}.{leaf}", "adapters.image.stem.{n}.{leaf}"),
    ("encoder_wrapper.image_adapter.embed_images.{n}.layer_norm.{leaf}", "adapters.image.stem.{n}.norm.{leaf}"),
    ("encoder_wrapper.audio_adapter.cls_pos_embed", "adapters.audio.cls_position"),
    ("encoder_wrapper.audio_adapter.mask_embedding", "adapters.audio.mask_embedding"),
    (
        "encoder_wrapper.audio_adapter.embed_audios.0.conv_layers.{n}.0.{leaf}",
        "adapters.audio.extractor.{n}.conv.{leaf}",
    ),
    (
        "encoder_wrapper.audio_adapter.embed_audios.0.conv_layers.{n}.2.1.{leaf}",
        "adapters.audio.extractor.{n}.norm.{leaf}",
    ),
    ("encoder_wrapper.audio_adapter.embed_audios.2.{leaf}", "adapters.audio.extractor_norm.{leaf}"),
    ("encoder_wrapper.audio_adapter.embed_audios.3.{leaf}", "adapters.audio.extractor_proj.{leaf}"),
    ("encoder_wrapper.audio_adapter.embed_positions.{n}.0.{leaf}", "adapters.audio.position_convs.{n}.{leaf}"),
    ("encoder_wrapper.audio_adapter.embed_positions.0.{leaf}", "adapters.audio.position_norm.{leaf}"),
    # With a norm in front of them, the position convolutions stand one level deeper.
    ("encoder_wrapper.audio_adapter.embed_positions.1.{n}.0.{leaf}", "adapters.audio.position_convs.{n}.{leaf}"),
    ("encoder_wrapper.fusion_model.{m}_layer_norm.{leaf}", "encoder.norms.{m}.{leaf}"),
    ("encoder_wrapper.fusion_model.layers.{n}.gamma_1", "encoder.layers.{n}.attn_residual.gamma"),
    ("encoder_wrapper.fusion_model.layers.{n}.gamma_2", "encoder.layers.{n}.ffn_residual.gamma"),
    ("encoder_wrapper.fusion_model.layers.{n}.attn_ln.{leaf}", "encoder.layers.{n}.attn_output_norm.{leaf}"),
    ("encoder_wrapper.fusion_model.layers.{n}.self_attn.c_attn", "encoder.layers.{n}.attn.head_scales"),
    ("encoder_wrapper.fusion_model.layers.{n}.self_attn.ln.{leaf}", "encoder.layers.{n}.attn.inner_norm.{leaf}"),
    (
        "encoder_wrapper.fusion_model.layers.{n}.self_attn.{proj}_proj.{leaf}",
        "encoder.layers.{n}.attn.{proj}_proj.{leaf}",
    ),
    ("encoder_wrapper.fusion_model.layers.{n}.self_attn_layer_norm.{leaf}", "encoder.layers.{n}.attn_norm.{leaf}"),
    ("encoder_wrapper.fusion_model.layers.{n}.final_layer_norm.{leaf}", "encoder.layers.{n}.ffn_norm.{leaf}"),
    (
        "encoder_wrapper.fusion_model.layers.{n}.{m}_ffn.0.wi_0.{leaf}",
        "encoder.layers.{n}.ffn.{m}.gate_proj.{leaf}",
    ),
    ("encoder_wrapper.fusion_model.layers.{n}.{m}_ffn.0.wi_1.{leaf}", "encoder.layers.{n}.ffn.{m}.up_proj.{leaf}"),
    ("encoder_wrapper.fusion_model.layers.{n}.{m}_ffn.2.{leaf}", "encoder.layers.{n}.ffn.{m}.inner_norm.{leaf}"),
    ("encoder_wrapper.fusion_model.layers.{n}.{m}_ffn.3.{leaf}", "encoder.layers.{n}.ffn.{m}.down_proj.{leaf}"),
    ("classify_head.norm.{leaf}", "head.norm.{leaf}"),
    ("classify_head.attn_pooling_func.q", "head.pooling.q"),
    ("classify_head.attn_pooling_func.{proj}_proj.{leaf}", "head.pooling.{proj}_proj.{leaf}"),
    ("classify_head.pooler.1.{leaf}", "head.pooler.0.{leaf}"),
    ("classify_head.classifier.{n}.{leaf}", "head.classifier.{n}.{leaf}"),
)

# Vision, segmentation and classifier forms, fairseq form; the first that fits is taken.
_VISION_PAIRS = (
    (r"encoder\.layers\.(\d+)\.rel_pos_table\.weight", r"encoder_wrapper.image_adapter.rel_pos_table_list.\1.weight"),
    (r"(encoder_wrapper\.)?(\w+_adapter)\.rel_pos_table\.weight", r"encoder_wrapper.\2.rel_pos_table_list.0.weight"),
    (r"image_adapter\.(.+)", r"encoder_wrapper.image_adapter.\1"),
    (r"encoder\.layer_norm\.(weight|bias)", r"encoder_wrapper.fusion_model.image_layer_norm.\1"),
    (r"encoder\.layers\.(.+)", r"encoder_wrapper.fusion_model.layers.\1"),
)

HEAD_PREFIX = "head."

# Buffers that follow from the sizes: nothing is lost without them.
_DERIVED = re.compile(r"(.+\.)?(rp_bucket|position_idx)|encoder_wrapper\.fusion_model\.version")


def _pattern(template: str) -> re.Pattern[str]:
    """Turn a template into a pattern with one named group for each placeholder."""
    text = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    for name, expression in _PLACEHOLDERS.items():
        text = text.replace(f"{{{name}}}", f"(?P<{name}>{expression})")
    return re.compile(text)


_TO_OURS = tuple((_pattern(theirs), ours) for theirs, ours in _PAIRS)
_TO_PUBLISHED = tuple((_pattern(ours), theirs) for theirs, ours in _PAIRS)


def _rename(name: str, pairs: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    """Rewrite a name by the first pair that fits."""
    for pattern, template in pairs:
        if match := pattern.fullmatch(name):
            return template.format(**match.groupdict())
    return None


def is_derived(name: str) -> bool:
    """Tell whether a published entry is a buffer that follows from the sizes."""
    return _DERIVED.fullmatch(name) is not None


def our_name(published: str) -> str | None:
    """Translate a published parameter name of any release; None where the encoder has no such parameter."""
    for pattern, replacement in _VISION_PAIRS:
        if re.fullmatch(pattern, published):
            published = re.sub(pattern, replacement, published)
            break
    return _rename(published, _TO_OURS)


def published_name(ours: str) -> str | None:
    """Translate one of our parameter names to the fairseq form; None where the published model has no such one."""
    return _rename(ours, _TO_PUBLISHED)


def rename_state(state: Mapping[str, Tensor], *, prefix: str = "") -> dict[str, Tensor]:
    """Give a published state our names; entries without one keep their own, derived buffers are left out.

    Args:
        state: tensors by published name, of any release, or by our name.
        prefix: put in front of the encoder's names; a head's names stand beside it.
    """
    return {_place(name, prefix): value for name, value in state.items() if not is_derived(name)}


def _place(published: str, prefix: str) -> str:
    ours = our_name(published)
    if ours is None:
        return published
    return ours if ours.startswith(HEAD_PREFIX) else prefix + ours
