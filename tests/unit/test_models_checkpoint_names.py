"""Published names become ours and ours published ones, one to one."""

import pytest
import torch

from models.checkpoint.names import is_derived, our_name, published_name, rename_state
from models.config import load_config
from models.onepeace import OnePeace

FUSION = "encoder_wrapper.fusion_model"


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("encoder_wrapper.text_adapter.embed_positions.weight", "adapters.text.positions"),
        ("encoder_wrapper.image_adapter.pos_embed", "adapters.image.positions"),
        ("encoder_wrapper.audio_adapter.cls_pos_embed", "adapters.audio.cls_position"),
        ("encoder_wrapper.audio_adapter.rel_pos_table_list.12.weight", "adapters.audio.bias.tables.12"),
        (f"{FUSION}.layers.39.image_ffn.0.wi_1.weight", "encoder.layers.39.ffn.image.up_proj.weight"),
        (f"{FUSION}.layers.3.self_attn.ln.bias", "encoder.layers.3.attn.inner_norm.bias"),
        (f"{FUSION}.layers.0.gamma_2", "encoder.layers.0.ffn_residual.gamma"),
        ("audio_proj.weight", "projections.audio.weight"),
        ("logit_scale", "logit_scale"),
        # the vision release, the segmentation backbone and the classifier
        ("image_adapter.pos_embed", "adapters.image.positions"),
        ("image_adapter.rel_pos_table.weight", "adapters.image.bias.tables.0"),
        ("encoder_wrapper.text_adapter.rel_pos_table.weight", "adapters.text.bias.tables.0"),
        ("encoder.layers.7.rel_pos_table.weight", "adapters.image.bias.tables.7"),
        ("encoder.layers.7.self_attn.q_proj.bias", "encoder.layers.7.attn.q_proj.bias"),
        ("encoder.layer_norm.weight", "encoder.norms.image.weight"),
    ],
)
def test_published_names_become_ours(published: str, ours: str) -> None:
    assert our_name(published) == ours


@pytest.mark.parametrize(
    "name", ["decode_head.cls_embed.weight", "head.weight", "spm.stem.0.weight", "", "xlogit_scale", "logit_scale2"]
)
def test_names_of_other_parts_are_none_of_ours(name: str) -> None:
    assert our_name(name) is None
    assert published_name(name) is None


@pytest.mark.parametrize("per_layer", [False, True])
def test_every_parameter_goes_to_its_published_name_and_back(per_layer: bool) -> None:
    config = load_config("tiny").model_copy(update={"has_per_layer_bias": per_layer})
    with torch.device("meta"):
        names = list(OnePeace(config).state_dict())
    published = [published_name(name) for name in names]
    assert None not in published
    assert len(set(published)) == len(names)
    assert [our_name(name) for name in published if name is not None] == names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder_wrapper.image_adapter.rp_bucket", True),
        ("encoder.layers.4.rp_bucket", True),
        ("rp_bucket", True),
        ("encoder_wrapper.text_adapter.position_idx", True),
        (f"{FUSION}.version", True),
        (f"{FUSION}.layers.0.gamma_1", False),
        ("my_rp_bucket", False),
    ],
)
def test_buffers_that_follow_from_the_sizes_are_told(name: str, expected: bool) -> None:
    assert is_derived(name) is expected


def test_renaming_keeps_tensors_strangers_and_our_own_names() -> None:
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    state = {
        "image_adapter.pos_embed": one,
        "encoder.layers.0.rp_bucket": torch.zeros(9),
        "head.weight": two,
        "encoder.layers.0.ffn_norm.bias": three,
    }
    renamed = rename_state(state, prefix="model.")
    assert renamed == {
        "model.adapters.image.positions": one,
        "head.weight": two,
        "encoder.layers.0.ffn_norm.bias": three,
    }
    assert len(state) == 4
