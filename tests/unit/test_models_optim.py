"""Each parameter decays and learns as its name and shape say; the rate rises, falls and ends where it should."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.adamw import LeanAdamW
from models.config import load_config
from models.onepeace import OnePeace
from models.optim import (
    build_optimizer,
    decays,
    layer_of,
    learning_rate,
    parameter_groups,
    set_learning_rate,
    warmup_length,
)
from models.training import OptimConfig

STAGE_1 = OptimConfig(lr=5e-4, warmup_steps=3000)
STAGE_2 = OptimConfig(lr=2e-4, warmup_share=0.1)


def table(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(*shape or (2, 3)))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("model.encoder.layers.0.attn.q_proj.weight", (4, 4), True),
        ("model.encoder.layers.0.attn.q_proj.bias", (4,), False),
        ("model.encoder.layers.0.ffn_norm.weight", (4,), False),
        ("model.logit_scale", (), False),
        ("anything.bias", (4, 4), False),
        ("model.adapters.text.cls_embedding", (1, 1, 4), False),
        ("model.adapters.image.positions", (5, 4), False),
        ("adapters.image.positions", (5, 4), False),  # the encoder alone
        ("model.adapters.audio.cls_position", (1, 1, 4), True),
        ("model.adapters.audio.mask_embedding", (1, 4), True),
        ("model.adapters.text.bias.tables.0", (9, 2), True),
        ("model.adapters.image.type_embedding", (1, 4), True),
        ("decoder.mask_tokens.text", (1, 4), True),
        ("decoder.mask_embeddings.audio", (1, 4), True),
        ("decoder.cls_embeddings.audio", (1, 1, 4), False),
        ("decoder.positions.text", (5, 4), False),
    ],
)
@pytest.mark.parametrize("mode", ["ours", "reference"])
def test_what_decays_in_both_modes(name, shape, expected, mode):
    assert decays(name, table(*shape) if shape else nn.Parameter(torch.ones(())), mode=mode) is expected


@pytest.mark.parametrize("name", ["decoder.cls_embeddings.text", "decoder.positions.image"])
def test_the_missing_comma_is_mended_but_kept_as_reference(name):
    assert not decays(name, table())
    assert decays(name, table(), mode="reference")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.adapters.text.embed_tokens.weight", 0),
        ("model.adapters.text.bias.tables.0", 1),
        ("adapters.image.bias.tables.2", 3),
        ("model.encoder.layers.2.ffn.text.up_proj.weight", 3),
        ("model.encoder.norms.text.weight", 4),
        ("model.projections.text.weight", 4),
        ("head.classifier.0.weight", 4),
        ("decoder.encoder.layers.0.ffn_norm.weight", 4),
    ],
)
def test_layers_are_numbered_from_the_adapters_to_the_head(name, expected):
    assert layer_of(name, 3) == expected


def test_more_layers_than_were_named_are_an_error():
    with pytest.raises(ValueError, match=r"'model.encoder.layers.3.gamma' in a model of 3 layers; set num_layers"):
        layer_of("model.encoder.layers.3.gamma", 3)


def test_every_trained_parameter_is_in_exactly_one_group():
    with torch.device("meta"):
        model = OnePeace(load_config("tiny"))
    model.adapters["text"].requires_grad_(False)
    layers = model.config.num_layers
    groups = parameter_groups(model.named_parameters(), weight_decay=0.05, layer_decay=0.9, num_layers=layers)
    grouped = [parameter for group in groups for parameter in group["params"]]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(grouped) == len(trained)
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in trained}
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names)
    assert {f"layer_{layer}_decay" for layer in range(layers + 2)} <= set(names)


def test_groups_carry_their_decay_and_scale():
    named = [("model.adapters.text.embed_tokens.weight", table()), ("model.encoder.layers.1.x.bias", table(2))]
    low, high = parameter_groups(named, weight_decay=0.1, layer_decay=0.5, num_layers=2)
    assert (low["name"], low["weight_decay"], low["lr_scale"]) == ("layer_0_decay", 0.1, 0.125)
    assert (high["name"], high["weight_decay"], high["lr_scale"]) == ("layer_2_no_decay", 0.0, 0.5)


def test_without_layer_decay_there_are_two_groups_of_full_scale():
    groups = parameter_groups([("a.weight", table()), ("a.bias", table(2))], weight_decay=0.1)
    assert [(group["name"], group["lr_scale"]) for group in groups] == [("decay", 1.0), ("no_decay", 1.0)]


def test_layer_decay_needs_the_number_of_layers():
    with pytest.raises(ValueError, match=r"layer_decay 0.9 without num_layers; give"):
        parameter_groups([("a.weight", table())], weight_decay=0.1, layer_decay=0.9)


def test_a_model_of_frozen_parts_only_is_an_error():
    with pytest.raises(ValueError, match="no parameter to train, expected at least one"):
        parameter_groups([("a.weight", table().requires_grad_(False))], weight_decay=0.1)


@pytest.mark.parametrize(("config", "total", "warmup"), [(STAGE_1, 200_000, 3000), (STAGE_2, 8000, 800)])
def test_the_rate_starts_at_the_floor_peaks_after_the_warm_up_and_ends_at_the_floor(config, total, warmup):
    assert warmup_length(config, total) == warmup
    assert learning_rate(0, config=config, total_steps=total) == config.min_lr
    assert learning_rate(warmup, config=config, total_steps=total) == config.lr
    assert learning_rate(total, config=config, total_steps=total) == config.min_lr
    middle = learning_rate(warmup + (total - warmup) // 2, config=config, total_steps=total)
    assert math.isclose(middle, (config.lr + config.min_lr) / 2, rel_tol=1e-6)
    assert config.min_lr < learning_rate(total - 1, config=config, total_steps=total) < 1.001 * config.min_lr


def test_without_warm_up_the_first_update_is_made_at_the_full_rate():
    config = OptimConfig(lr=1e-3, warmup_steps=0)
    assert learning_rate(0, config=config, total_steps=10) == 1e-3


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 400), st.data())
def test_the_rate_rises_in_the_warm_up_falls_afterwards_and_stays_between_its_ends(total, data):
    config = OptimConfig(lr=1e-3, warmup_steps=data.draw(st.integers(0, total - 1)))
    rates = [learning_rate(step, config=config, total_steps=total) for step in range(total + 1)]
    peak = config.warmup_steps
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert all(config.min_lr <= rate <= config.lr * (1 + 1e-12) for rate in rates)


@pytest.mark.parametrize("step", [-1, 11])
def test_a_step_outside_the_training_is_an_error(step):
    with pytest.raises(ValueError, match=f"step {step}, expected 0 to total_steps 10"):
        learning_rate(step, config=STAGE_2, total_steps=10)


def test_a_warm_up_as_long_as_the_training_is_an_error():
    with pytest.raises(ValueError, match="warm-up of 3000 steps, expected fewer than total_steps 3000; shorten it"):
        learning_rate(0, config=STAGE_1, total_steps=3000)


def test_every_group_learns_at_its_share_of_the_rate():
    named = [("model.adapters.text.embed_tokens.weight", table()), ("head.weight", table())]
    optimizer = build_optimizer(
        parameter_groups(named, weight_decay=0.1, layer_decay=0.5, num_layers=2), OptimConfig(lr=0.8, warmup_steps=0)
    )
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.8]
    set_learning_rate(optimizer, 0.4)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.4]


def test_one_update_is_adamw_with_its_settings():
    decayed, spared, unused = table(2, 2), table(2), table(2, 2)
    config = OptimConfig(lr=0.1, warmup_steps=0, weight_decay=0.5)
    groups = parameter_groups(
        [("a.weight", decayed), ("a.bias", spared), ("b.weight", unused)], weight_decay=config.weight_decay
    )
    optimizer = build_optimizer(groups, config)
    decayed.grad, spared.grad = torch.full((2, 2), 3.0), torch.full((2,), -3.0)
    optimizer.step()
    # The first update of Adam is lr * sign(gradient); decay takes lr * weight_decay of the weight beside it.
    torch.testing.assert_close(decayed.data, torch.full((2, 2), 1 - 0.05 - 0.1))
    torch.testing.assert_close(spared.data, torch.full((2,), 1.1))
    assert torch.equal(unused.data, torch.ones(2, 2))  # no gradient, no update, no decay
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.9, 0.98), 1e-8)}


@pytest.mark.parametrize("state", ["float32", "bfloat16", "int8"])
def test_the_optimiser_keeps_its_state_as_the_config_says(state):
    weight = nn.Parameter(torch.ones(64, 64))
    config = OptimConfig(lr=0.1, warmup_steps=0, state=state)
    optimizer = build_optimizer(parameter_groups([("a.weight", weight)], weight_decay=0.05), config)
    assert isinstance(optimizer, LeanAdamW if state != "float32" else torch.optim.AdamW)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    kept = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.uint8}[state]
    assert optimizer.state[weight]["exp_avg_sq"].dtype == kept
    assert {(group["betas"], group["eps"], group["weight_decay"]) for group in optimizer.param_groups} == {
        ((0.9, 0.98), 1e-8, 0.05)
    }
