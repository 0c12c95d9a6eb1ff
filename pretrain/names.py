"""Published parameter names of the pretraining model to ours and back.

Ours holds the encoder as `model` and the light decoder, with all that belongs to it, as `decoder`. The published model
spreads the decoder over its top level; only the three released modalities have names there.
"""

from models.checkpoint import names as encoder_names

_MODEL = "model."
_DECODER = "decoder."
_PUBLISHED_ENCODER_STACK = "encoder_wrapper.fusion_model."
_PUBLISHED_DECODER = "decoder_wrapper."
_PUBLISHED_DECODER_STACK = "decoder_wrapper.fusion_model."

_POSITIONS = {"text": "embed_positions.weight", "image": "pos_embed", "audio": "embed_positions.weight"}


def _decoder_pairs() -> dict[str, str]:
    """Pair the published names around the decoder's layers with ours."""
    pairs = {"decoder_wrapper.audio_adapter.mask_embedding": "decoder.mask_embeddings.audio"}
    for modality, positions in _POSITIONS.items():
        pairs[f"decoder_wrapper.{modality}_adapter.{positions}"] = f"decoder.positions.{modality}"
        pairs[f"decoder_wrapper.{modality}_adapter.cls_embedding"] = f"decoder.cls_embeddings.{modality}"
        pairs[f"{modality}_mask_token"] = f"decoder.mask_tokens.{modality}"
        for leaf in ("weight", "bias"):
            pairs[f"decoder_{modality}_embed.{leaf}"] = f"decoder.inputs.{modality}.{leaf}"
            pairs[f"{modality}_mask_head.{leaf}"] = f"decoder.outputs.{modality}.{leaf}"
    return pairs


_TO_OURS = _decoder_pairs()
_TO_PUBLISHED = {ours: published for published, ours in _TO_OURS.items()}


def is_derived(name: str) -> bool:
    """Tell whether a published entry is a buffer that follows from the sizes, in the encoder or in the decoder."""
    if name.startswith(_PUBLISHED_DECODER):
        name = "encoder_wrapper." + name.removeprefix(_PUBLISHED_DECODER)
    return encoder_names.is_derived(name)


def our_name(published: str) -> str | None:
    """Translate a published name; None where the pretraining model has no such parameter."""
    if published in _TO_OURS:
        return _TO_OURS[published]
    if published.startswith(_PUBLISHED_DECODER_STACK):
        as_encoder = _PUBLISHED_ENCODER_STACK + published.removeprefix(_PUBLISHED_DECODER_STACK)
        return _prefixed(_DECODER, encoder_names.our_name(as_encoder))
    ours = encoder_names.our_name(published)
    # A fine-tuned head stands beside the encoder, and pretraining has none.
    return None if ours is None or ours.startswith(encoder_names.HEAD_PREFIX) else _MODEL + ours


def published_name(ours: str) -> str | None:
    """Translate one of our names to the published form; None where the published model has no such parameter."""
    if ours in _TO_PUBLISHED:
        return _TO_PUBLISHED[ours]
    if ours.startswith(f"{_DECODER}encoder."):
        as_encoder = encoder_names.published_name(ours.removeprefix(_DECODER))
        stack = None if as_encoder is None else as_encoder.removeprefix(_PUBLISHED_ENCODER_STACK)
        return _prefixed(_PUBLISHED_DECODER_STACK, stack)
    name = ours.removeprefix(_MODEL)
    is_encoder = name != ours and not name.startswith(encoder_names.HEAD_PREFIX)
    return encoder_names.published_name(name) if is_encoder else None


def _prefixed(prefix: str, name: str | None) -> str | None:
    """Put a prefix in front of a name, if there is one."""
    return None if name is None else prefix + name
