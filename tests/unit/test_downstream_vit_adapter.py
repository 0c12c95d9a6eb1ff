"""The ViT-Adapter runs every layer once, and gives four maps of a square picture."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from downstream.engines.settings import AdapterSettings
from downstream.engines.vit_adapter import ConvFeedForward, ViTAdapter, rename_adapter_state
from models.config import load_config
from models.onepeace import OnePeace, build_model

SETTINGS = AdapterSettings(
    conv_planes=3, num_points=2, num_heads=2, value_ratio=0.5, ffn_ratio=0.25, injector_scale_init=0.5
)
DIM, SIDE = 32, 64


def make_model(num_layers: int = 4, drop_path_rate: float = 0.0) -> OnePeace:
    config = load_config("tiny").branch(
        "image",
        num_layers=num_layers,
        has_per_layer_bias=True,
        has_final_norm=False,
        has_projection=False,
        drop_path_rate=drop_path_rate,
    )
    return build_model(config, seed=0)


def make_adapter(num_layers: int = 4, *, drop_activations: bool = False) -> ViTAdapter:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return ViTAdapter(make_model(num_layers), SETTINGS, drop_activations=drop_activations).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_four_maps_of_strides_4_to_32(images: torch.Tensor) -> None:
    with torch.no_grad():
        maps = make_adapter()(images)
    assert [tuple(part.shape) for part in maps] == [(2, DIM, SIDE // s, SIDE // s) for s in (4, 8, 16, 32)]


@settings(max_examples=8, deadline=None)
@given(num_layers=st.integers(1, 9))
def test_every_layer_runs_once_and_in_order(num_layers: int) -> None:
    adapter = make_adapter(num_layers)
    ran: list[int] = []
    for index, layer in enumerate(adapter.encoder.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    with torch.no_grad():
        adapter(torch.zeros(1, 3, SIDE, SIDE))
    assert ran == list(range(num_layers))


def test_each_interaction_leaves_its_patch_tokens_for_the_map_of_its_number(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter()
    outputs: list[torch.Tensor] = []
    joined: list[torch.Tensor] = []
    for layer in adapter.encoder.layers:
        layer.register_forward_hook(lambda _, __, output: outputs.append(output.unflatten(0, (2, -1))))
    monkeypatch.setattr(adapter, "_join", lambda _, kept: joined.extend(kept))
    with torch.no_grad():
        adapter(images)
    for output, kept in zip(outputs, joined, strict=True):
        assert torch.equal(output[:, 1:], kept.flatten(2).transpose(1, 2))


def test_without_injection_the_encoder_is_the_plain_one(images: torch.Tensor) -> None:
    adapter = make_adapter()
    with torch.no_grad():
        for interaction in adapter.interactions:
            interaction.injector.gamma.zero_()
        seen: list[torch.Tensor] = []
        last = adapter.encoder.layers[-1]
        last.register_forward_hook(lambda _, __, output: seen.append(output.unflatten(0, (2, -1))))
        adapter(images)
        plain = adapter.model.encode({"image": images})["image"].features
    torch.testing.assert_close(seen[0], plain)


def test_recomputing_activations_changes_no_gradient(images: torch.Tensor) -> None:
    gradients = []
    for drop_activations in (False, True):
        adapter = make_adapter(drop_activations=drop_activations)
        assert adapter.encoder.recompute == ("layer" if drop_activations else "none")
        sum(part.square().mean() for part in adapter(images)).backward()
        gradients.append({name: parameter.grad for name, parameter in adapter.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_gradient_flows_to_every_parameter(images: torch.Tensor) -> None:
    adapter = make_adapter()
    sum(part.square().mean() for part in adapter(images)).backward()
    without = [name for name, parameter in adapter.named_parameters() if parameter.grad is None]
    assert without == []


def test_only_the_last_interaction_has_extra_extractors() -> None:
    assert [len(interaction.extra_extractors) for interaction in make_adapter().interactions] == [0, 0, 0, 2]


def test_interaction_norms_have_their_own_epsilon() -> None:
    adapter = make_adapter()
    norms = [module for module in adapter.interactions.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}
    assert {norm.eps for norm in adapter.norms} == {1e-5}


def test_the_convolution_mixes_cells_of_one_map_only() -> None:
    ffn, sizes = ConvFeedForward(6, 5), [(4, 4), (2, 3), (1, 1)]
    x = torch.randn(2, 23, 6)
    changed = x.clone()
    changed[:, 16] += 1  # the first cell of the second map
    with torch.no_grad():
        moved = (ffn(x, sizes) != ffn(changed, sizes)).any(-1)[0]
    assert not moved[:16].any()
    assert moved[16:22].tolist() == [True, True, False, True, True, False]
    assert not moved[22]


def test_published_names_of_the_adapter_become_ours() -> None:
    one = torch.zeros(1)
    renamed = rename_adapter_state(
        {
            "norm3.running_var": one,
            "interactions.3.extra_extractors.1.ffn.dwconv.dwconv.bias": one,
            "image_adapter.pos_embed": one,
            "encoder.layers.5.rel_pos_table.weight": one,
            "encoder.layers.5.rp_bucket": one,
            "encoder.layers.5.gamma_1": one,
            "spm.stem.1.weight": one,
            "level_embed": one,
        }
    )
    assert set(renamed) == {
        "norms.2.running_var",
        "interactions.3.extra_extractors.1.ffn.dwconv.bias",
        "model.adapters.image.positions",
        "model.adapters.image.bias.tables.5",
        "model.encoder.layers.5.attn_residual.gamma",
        "spm.stem.1.weight",
        "level_embed",
    }


def test_our_own_names_stay_as_they_are() -> None:
    adapter = make_adapter()
    assert set(rename_adapter_state(adapter.state_dict())) == set(adapter.state_dict())
