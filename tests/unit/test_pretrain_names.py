"""Names of the whole pretraining model go from published to ours and back, one to one."""

import json

import pytest

from pretrain.names import is_derived, our_name, published_name


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("logit_scale", "model.logit_scale"),
        ("text_proj.weight", "model.projections.text.weight"),
        ("encoder_wrapper.image_adapter.pos_embed", "model.adapters.image.positions"),
        ("encoder_wrapper.fusion_model.layers.3.gamma_1", "model.encoder.layers.3.attn_residual.gamma"),
        (
            "decoder_wrapper.fusion_model.layers.1.text_ffn.0.wi_0.weight",
            "decoder.encoder.layers.1.ffn.text.gate_proj.weight",
        ),
        ("decoder_wrapper.fusion_model.audio_layer_norm.bias", "decoder.encoder.norms.audio.bias"),
        ("decoder_wrapper.text_adapter.embed_positions.weight", "decoder.positions.text"),
        ("decoder_wrapper.image_adapter.pos_embed", "decoder.positions.image"),
        ("decoder_wrapper.audio_adapter.cls_embedding", "decoder.cls_embeddings.audio"),
        ("decoder_wrapper.audio_adapter.mask_embedding", "decoder.mask_embeddings.audio"),
        ("decoder_image_embed.bias", "decoder.inputs.image.bias"),
        ("image_mask_token", "decoder.mask_tokens.image"),
        ("audio_mask_head.weight", "decoder.outputs.audio.weight"),
    ],
)
def test_published_names_become_ours_and_back(published: str, ours: str) -> None:
    assert our_name(published) == ours
    assert published_name(ours) == published


@pytest.mark.parametrize(
    "name",
    [
        "",
        "head.weight",
        "classify_head.norm.weight",  # published, of a fine-tuned model
        "model.head.norm.weight",
        "decoder_wrapper.fusion_model.layers.0.other",
        "decoder_wrapper.depth_adapter.cls_embedding",
        "decoder.encoder.layers.0.other",
        "decoder.positions.depth",
        "logit_scale2",
    ],
)
def test_names_of_other_models_are_none_of_these(name: str) -> None:
    assert our_name(name) is None
    assert published_name(name) is None


def test_the_bare_encoder_has_other_names_than_the_pretraining_model() -> None:
    assert published_name("adapters.image.positions") is None


@pytest.mark.parametrize("part", ["encoder_wrapper", "decoder_wrapper"])
def test_buffers_that_follow_from_the_sizes_are_told_in_both_parts(part: str) -> None:
    assert is_derived(f"{part}.fusion_model.version")
    assert is_derived(f"{part}.image_adapter.position_idx")
    assert not is_derived(f"{part}.image_adapter.pos_embed")


@pytest.mark.golden
@pytest.mark.parametrize("prefix", ["04", "05"])
def test_every_stored_name_goes_to_ours_and_back(golden_dir, prefix) -> None:
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(golden_dir.glob(f"{prefix}*.json"))]
    stored = [part for manifest in manifests for part in manifest.get("state_dicts", {}).values()]
    assert stored
    for part in stored:
        names = [name for name in part["all_official_keys"] if not is_derived(name)]
        ours = [our_name(name) for name in names]
        assert [name for name, found in zip(names, ours, strict=True) if found is None] == []
        assert len(set(ours)) == len(names)
        assert [published_name(name) for name in ours] == names
