"""Counts from the configs alone equal the built model and what it computes."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models.config import ModelConfig, list_sizes, load_config
from models.modalities.audio import Waveforms, count_frames
from models.onepeace import OnePeace, build_model
from pretrain import cost
from pretrain.config import load_stage
from pretrain.cost import (
    Pass,
    contrast_flops,
    count_decoder,
    count_layer,
    count_parameters,
    count_trained,
    decoder_flops,
    forward_flops,
    step_flops,
)
from pretrain.decoder import Decoder, DecoderConfig, KeptTokens

NAMES = ("text", "image", "audio")
BRANCHES = [names for count in (1, 2, 3) for names in itertools.combinations(NAMES, count)]
NUM_SAMPLES = 8720  # the fewest that make 27 frames; more make some extractor layers a frame longer
STAGE1 = 2_759_268_497  # parameters of the reference's pretraining models
STAGE2, STAGE2_TRAINED = 2_775_509_857, 1_183_958_833


def on_meta(config: ModelConfig) -> OnePeace:
    with torch.device("meta"):
        return OnePeace(config)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", list_sizes())
@pytest.mark.parametrize("names", BRANCHES, ids="-".join)
def test_every_part_of_every_branch_counts_exactly(size, names):
    config = load_config(size).branch(*names)
    model, parts = on_meta(config), count_parameters(config)
    assert sum(parts.values()) == count(model)
    for name in names:
        assert parts[f"adapters.{name}"] == count(model.adapters[name])
        assert parts[f"projections.{name}"] == count(model.projections[name])
        assert parts[f"encoder.norms.{name}"] == count(model.encoder.norms[name])
        assert parts[f"encoder.ffn.{name}"] == sum(count(layer.ffn[name]) for layer in model.encoder.layers)
    assert count_layer(config) == count(model.encoder.layers[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_scale_init": None, "has_inner_norm": False},
        {"has_attn_output_norm": True, "has_head_scales": True, "has_per_layer_bias": True},
        {"has_final_norm": False, "has_projection": False},
    ],
)
def test_every_switch_of_a_size_counts_exactly(changes):
    config = load_config("tiny").branch(*NAMES, **changes)
    assert sum(count_parameters(config).values()) == count(on_meta(config))


def test_every_switch_of_a_modality_counts_exactly():
    config = load_config("tiny")
    switches = {"has_embedding_norm": True, "has_type_embedding": True}
    more = {"text": {}, "image": {"stem": "patch"}, "audio": {"has_conv_bias": True, "has_position_norm": True}}
    changed = {name: {**options, **switches, **more[name]} for name, options in config.modalities.items()}
    config = ModelConfig.parse({**config.model_dump(), "modalities": changed}, where="test")
    assert sum(count_parameters(config).values()) == count(on_meta(config))


@pytest.mark.parametrize("names", BRANCHES, ids="-".join)
@pytest.mark.parametrize("has_inner_norm", [True, False])
def test_the_decoder_counts_exactly(names, has_inner_norm):
    config = load_config("tiny").branch(*names)
    decoder = DecoderConfig(embed_dim=24, ffn_dim=40, num_layers=3, num_heads=2, has_inner_norm=has_inner_norm)
    with torch.device("meta"):
        assert count_decoder(decoder, config) == count(Decoder(decoder, config))


def test_the_published_pretraining_models_count_exactly():
    decoder = DecoderConfig()
    first, second = (load_config("4b").branch("text", other) for other in ("image", "audio"))
    assert sum(count_parameters(first).values()) + count_decoder(decoder, first) == STAGE1
    assert count_trained(first, decoder, "all") == STAGE1
    assert sum(count_parameters(second).values()) + count_decoder(decoder, second) == STAGE2
    assert count_trained(second, decoder, "audio") == STAGE2_TRAINED


def inputs_of(model: OnePeace, batch: int, names: tuple[str, ...]) -> dict:
    options = model.config.modalities
    side = options["image"]["bias_grid_size"] * 16
    frames = count_frames(NUM_SAMPLES, options["audio"]["extractor"])
    every = {
        "text": torch.randint(4, options["text"]["vocabulary_size"], (batch, 11)),
        "image": torch.randn(batch, 3, side, side),
        "audio": Waveforms(torch.randn(batch, NUM_SAMPLES), torch.zeros(batch, frames + 1, dtype=torch.bool)),
    }
    return {name: every[name] for name in names}


@pytest.mark.parametrize("size", ["tiny", "mini"])
@pytest.mark.parametrize("names", BRANCHES, ids="-".join)
def test_forward_operations_are_what_torch_counts(size, names):
    model = build_model(load_config(size), seed=0).eval()
    inputs = inputs_of(model, 3, names)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoded = model.encode(inputs)
    tokens = {name: part.features.shape[1] for name, part in encoded.items()}
    assert forward_flops(model.config, tokens, batch=3, embedded=names) == counter.get_total_flops()


def test_the_projections_are_what_torch_counts():
    model = build_model(load_config("tiny"), seed=0).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.embed(inputs_of(model, 2, ("text",)))
    counted = forward_flops(model.config, {"text": 12}, batch=2, is_projected=True, has_classes_only=True)
    assert counted == counter.get_total_flops()


def test_the_decoders_operations_are_what_torch_counts():
    config, sizes = load_config("tiny"), DecoderConfig(embed_dim=24, ffn_dim=40, num_layers=3, num_heads=2)
    decoder = Decoder(sizes, config)
    seen = {
        "text": KeptTokens(torch.randn(2, 5, 32), torch.arange(5).expand(2, 5), torch.ones(2, 9, dtype=torch.bool)),
        "image": KeptTokens(torch.randn(2, 4, 32), torch.arange(4).expand(2, 4), torch.ones(2, 17, dtype=torch.bool)),
    }
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        decoder([seen])
    counted = decoder_flops(sizes, config, {"text": 9, "image": 17}, kept={"text": 5, "image": 4})
    assert 2 * counted == counter.get_total_flops()


def test_a_pass_with_gradient_costs_three_forwards_and_a_fourth_with_checkpointing():
    config = load_config("tiny")
    with_gradient, without = Pass({"text": 9}, has_gradient=True), Pass({"image": 17}, has_gradient=False)
    one, other = forward_flops(config, {"text": 9}), forward_flops(config, {"image": 17})
    assert step_flops([with_gradient, without], config, decoder=None, batch=5) == 5 * (3 * one + other)
    assert step_flops([with_gradient, without], config, decoder=None, batch=5, recomputed=True) == 5 * (4 * one + other)


def test_a_backward_pass_is_what_torch_counts():
    model = build_model(load_config("mini"), seed=0)
    inputs = inputs_of(model, 2, ("text", "image"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.encode(inputs)["text"].features.sum().backward()
    one = Pass({"text": 12, "image": 17}, has_gradient=True, embedded=("image",))
    counted = step_flops([one], model.config, decoder=None, batch=2)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_a_contrast_is_what_torch_counts():
    queries, keys = torch.randn(7, 5, requires_grad=True), torch.randn(11, 5)
    with FlopCounterMode(display=False) as counter:
        (queries @ keys.t()).sum().backward()
    assert contrast_flops(5, 7, 11) == counter.get_total_flops()


def test_a_decoder_pass_without_a_decoder_is_refused():
    with pytest.raises(ValueError, match="expected the decoder's sizes"):
        step_flops([Pass({"text": 3}, has_gradient=True, is_decoder=True)], load_config("tiny"), decoder=None, batch=1)


def test_a_modality_without_a_formula_is_counted_as_it_is_built(monkeypatch):
    config = load_config("tiny")
    parts, decoder = count_parameters(config), count_decoder(DecoderConfig(), config)
    monkeypatch.setattr(cost, "_ADAPTERS", {})
    assert count_parameters(config) == parts
    assert count_decoder(DecoderConfig(), config) == decoder


def test_counting_does_not_import_torch():
    script = (
        "import sys\nfrom models.config import load_config\nfrom pretrain.cost import count_parameters\n"
        "count_parameters(load_config('4b'))\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_stages_read_their_decoder_from_the_config():
    assert load_stage("stage1").decoder == DecoderConfig()
