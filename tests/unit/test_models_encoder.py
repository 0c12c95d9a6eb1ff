"""Modalities share one sequence: bias on the diagonal blocks, padding hidden, each with its own feed-forward."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.batch import Tokens
from models.config import ModelConfig
from models.encoder import FusionEncoder, LayerView, Sequenced, attention_bias
from models.layers.attention import Scores
from models.layers.position_bias import PositionBias
from models.layout import lay_out
from models.training import Recompute

NAMES = ("first", "second", "third")
HEADS, DIM = 2, 6


def make_config(**changes) -> ModelConfig:
    values = {
        "name": "test",
        "embed_dim": DIM,
        "ffn_dim": 10,
        "num_layers": 3,
        "num_heads": HEADS,
        "modalities": {name: {} for name in NAMES},
        "layer_scale_init": 1.0,
    }
    return ModelConfig.parse({**values, **changes}, where="test")


def make_encoder(seed: int = 0, **changes) -> FusionEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FusionEncoder(make_config(**changes)).eval()


def make_bias(length: int, num_tables: int = 1) -> PositionBias:
    tables = tuple(torch.randn(7, HEADS) for _ in range(num_tables))
    return PositionBias(tables=tables, buckets=torch.randint(0, 7, (length, length)))


def make_tokens(length: int, *, batch: int = 2, has_bias: bool = True, num_padded: int = 0) -> Tokens:
    mask = torch.zeros(batch, length, dtype=torch.bool)
    mask[0, length - num_padded :] = True
    features = torch.randn(batch, length, DIM).masked_fill(mask[..., None], 0)
    return Tokens(features, mask if num_padded else None, make_bias(length) if has_bias else None)


@st.composite
def token_sets(draw: st.DrawFn) -> dict[str, Tokens]:
    """Any non-empty set of modalities, each with or without bias and padding."""
    torch.manual_seed(draw(st.integers(0, 999)))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    made = {}
    for name in names:
        length = draw(st.integers(2, 5))
        padded = draw(st.integers(0, length - 1))
        made[name] = make_tokens(length, has_bias=draw(st.booleans()), num_padded=padded)
    return made


@settings(max_examples=25, deadline=None)
@given(tokens=token_sets())
def test_the_bias_is_each_modalitys_own_on_its_block_and_zero_between(tokens: dict[str, Tokens]) -> None:
    sequence = FusionEncoder(make_config(num_layers=1)).join(tokens)
    bias = attention_bias(sequence, 0)
    if bias is None:
        assert all(part.bias is None for part in tokens.values())
        return
    length = sequence.features.shape[1]
    assert bias.shape == (1, HEADS, length, length), "one bias for the whole batch, padded or not"
    for query, query_span in sequence.spans.items():
        for key, key_span in sequence.spans.items():
            own = tokens[query].bias if query == key else None
            block = bias[0, :, query_span, key_span]
            assert torch.equal(block, torch.zeros_like(block) if own is None else own.at_layer(0)[0])


@settings(max_examples=25, deadline=None)
@given(tokens=token_sets())
def test_modalities_stand_in_the_models_order_whatever_order_they_come_in(tokens: dict[str, Tokens]) -> None:
    encoder = make_encoder(num_layers=1)
    sequence = encoder.join(tokens)
    assert list(sequence.spans) == [name for name in NAMES if name in tokens]
    for name, span in sequence.spans.items():
        assert torch.equal(sequence.features[:, span], tokens[name].features)
    reversed_tokens = dict(reversed(tokens.items()))
    with torch.no_grad():
        for name, part in encoder(reversed_tokens).items():
            assert torch.equal(part.features, encoder(tokens)[name].features)


def test_padding_is_masked_only_where_there_is_some() -> None:
    encoder = make_encoder()
    assert encoder.join({"first": make_tokens(3), "third": make_tokens(2)}).padding_mask is None
    mask = encoder.join({"first": make_tokens(3), "third": make_tokens(4, num_padded=1)}).padding_mask
    assert mask is not None
    assert mask.tolist() == [[False] * 6 + [True], [False] * 7]


@pytest.mark.parametrize("num_tables", [1, 3])
def test_what_stands_in_padding_does_not_change_features(num_tables: int) -> None:
    encoder = make_encoder()
    tokens = {
        "first": dataclasses.replace(make_tokens(4, num_padded=2), bias=make_bias(4, num_tables)),
        "second": dataclasses.replace(make_tokens(3), bias=make_bias(3, num_tables)),
    }
    noisy = dataclasses.replace(tokens["first"], features=tokens["first"].features.clone())
    noisy.features[0, 2:] = 50.0
    with torch.no_grad():
        clean, changed = encoder(tokens), encoder({**tokens, "first": noisy})
    assert torch.equal(clean["first"].features[0, :2], changed["first"].features[0, :2])
    assert torch.equal(clean["second"].features, changed["second"].features)


def test_each_modality_has_its_own_feed_forward_and_final_norm() -> None:
    encoder = make_encoder()
    same = make_tokens(3)
    with torch.no_grad():
        outputs = [encoder({name: same})[name].features for name in NAMES]
        for name in NAMES[1:]:
            for layer in encoder.layers:
                layer.ffn[name].load_state_dict(layer.ffn["first"].state_dict())
        shared = [encoder({name: same})[name].features for name in NAMES]
    assert not torch.equal(outputs[0], outputs[1])
    assert torch.equal(shared[0], shared[1])
    assert torch.equal(shared[0], shared[2])


def test_a_layer_is_the_pre_norm_formula() -> None:
    encoder = make_encoder(layer_scale_init=0.3).double()
    layer = encoder.layers[0]
    x, bias = torch.randn(2, 5, DIM).double(), torch.randn(1, HEADS, 5, 5).double()
    middle = x + 0.3 * layer.attn(layer.attn_norm(x), bias)
    normed = layer.ffn_norm(middle)
    branch = torch.cat([layer.ffn["first"](normed[:, :2]), layer.ffn["third"](normed[:, 2:])], dim=1)
    spans = {"first": slice(0, 2), "third": slice(2, 5)}
    layout = lay_out([{name: (2, span.stop - span.start) for name, span in spans.items()}], [dict.fromkeys(spans)])
    rows = torch.cat([x[:, span].flatten(0, 1) for span in spans.values()])
    out = layer(rows, LayerView(layout, [Scores(bias)], None))
    expected = middle + branch * layer.ffn_residual.gamma
    torch.testing.assert_close(out, torch.cat([expected[:, span].flatten(0, 1) for span in spans.values()]))


def test_the_final_norm_is_the_modalitys_or_none() -> None:
    tokens = {"second": make_tokens(3)}
    plain, normed = make_encoder(has_final_norm=False), make_encoder()
    assert len(plain.norms) == 0
    normed.layers.load_state_dict(plain.layers.state_dict())
    with torch.no_grad():
        raw = plain(tokens)["second"].features
        torch.testing.assert_close(normed(tokens)["second"].features, normed.norms["second"](raw))


@pytest.mark.parametrize(("num_layers", "rates"), [(1, [0.0]), (2, [0.0, 0.4]), (5, [0.0, 0.1, 0.2, 0.3, 0.4])])
def test_the_drop_path_rate_grows_linearly_to_the_last_layer(num_layers: int, rates: list[float]) -> None:
    encoder = make_encoder(num_layers=num_layers, drop_path_rate=0.4)
    assert [layer.attn_residual.drop_rate for layer in encoder.layers] == pytest.approx(rates)
    assert [layer.ffn_residual.drop_rate for layer in encoder.layers] == pytest.approx(rates)


def test_each_layer_takes_its_own_table() -> None:
    encoder = make_encoder()
    sequence = encoder.join({"first": dataclasses.replace(make_tokens(4), bias=make_bias(4, num_tables=3))})
    biases = [attention_bias(sequence, layer) for layer in range(3)]
    assert not torch.equal(biases[0], biases[1])
    own = sequence.biases["first"]
    assert own is not None
    assert torch.equal(biases[2], own.at_layer(2))


def gradients(encoder: FusionEncoder, sequence: Sequenced, tables: tuple[Tensor, ...]) -> list[Tensor]:
    encoder.zero_grad()
    out = encoder.run_layers(sequence, range(len(encoder.layers)))
    leaves = [*(table for table in tables), *encoder.layers.parameters()]
    found = torch.autograd.grad(out.square().mean(), leaves, allow_unused=True)
    return [torch.zeros(0) if gradient is None else gradient for gradient in found]


@pytest.mark.parametrize("choice", ["cheap", "layer"])
@pytest.mark.parametrize("num_tables", [1, 3])
def test_gradient_flows_to_the_tables_with_and_without_checkpointing(num_tables: int, choice: Recompute) -> None:
    encoder = make_encoder()
    tables = tuple(torch.randn(7, HEADS, requires_grad=True) for _ in range(num_tables))
    bias = PositionBias(tables=tables, buckets=torch.randint(0, 7, (4, 4)))
    tokens = {"first": make_tokens(3), "second": dataclasses.replace(make_tokens(4), bias=bias)}
    sequence = encoder.join(tokens)
    kept = gradients(encoder, sequence, tables)
    encoder.recompute = choice
    recomputed = gradients(encoder, sequence, tables)
    assert all(gradient.abs().sum() > 0 for gradient in kept[:num_tables])
    for ours, theirs in zip(kept, recomputed, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_layers_run_in_parts_as_they_run_whole() -> None:
    encoder = make_encoder()
    sequence = encoder.join({"first": make_tokens(4), "third": make_tokens(3, num_padded=1)})
    with torch.no_grad():
        half = dataclasses.replace(sequence, features=encoder.run_layers(sequence, range(1)))
        assert torch.equal(encoder.run_layers(half, range(1, 3)), encoder.run_layers(sequence, range(3)))


@settings(max_examples=25, deadline=None)
@given(tokens=token_sets(), drop_path_rate=st.sampled_from([0.0, 0.6]))
def test_classes_alone_are_those_of_all_tokens_with_their_gradients(
    tokens: dict[str, Tokens], drop_path_rate: float
) -> None:
    encoder = make_encoder(drop_path_rate=drop_path_rate).double().train()
    tokens = {
        name: dataclasses.replace(
            part,
            features=part.features.double(),
            bias=part.bias and dataclasses.replace(part.bias, tables=tuple(t.double() for t in part.bias.tables)),
        )
        for name, part in tokens.items()
    }
    passes = [encoder.join(tokens), encoder.join({name: tokens[name] for name in list(tokens)[:1]})]
    whole = [{name: part.features[:, 0] for name, part in found.items()} for found in encoder.encode(passes)]
    alone = encoder.encode_classes(passes)
    for ours, theirs in zip(alone, whole, strict=True):
        assert ours.keys() == theirs.keys()
        for name, expected in theirs.items():
            torch.testing.assert_close(ours[name], expected)
    leaves = list(encoder.parameters())
    found, expected = (
        torch.autograd.grad(sum(x.square().sum() for part in parts for x in part.values()), leaves, allow_unused=True)
        for parts in (alone, whole)
    )
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        torch.testing.assert_close(mine, theirs)


def test_the_bias_is_in_the_scores_type_under_half_precision() -> None:
    encoder = make_encoder().to(torch.bfloat16)
    part = make_tokens(4, num_padded=1)
    tokens = {"first": dataclasses.replace(part, features=part.features.to(torch.bfloat16))}
    with torch.no_grad():
        out = encoder(tokens)["first"].features
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_an_unknown_modality_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no modality 'fourth', only first, second, third"):
        make_encoder()({"fourth": make_tokens(3)})


def test_features_are_finite_even_when_a_sample_is_padded_but_for_its_class() -> None:
    with torch.no_grad():
        out = make_encoder()({"first": make_tokens(5, num_padded=4)})["first"].features
    assert math.isfinite(float(out.sum()))


def test_passes_that_run_together_are_as_each_alone() -> None:
    encoder = make_encoder()
    passes = [
        {"first": make_tokens(4, num_padded=2)},
        {"second": make_tokens(3, batch=3)},
        {"first": make_tokens(2, batch=1), "third": make_tokens(5, batch=1, num_padded=1)},
    ]
    with torch.no_grad():
        together = encoder.encode([encoder.join(tokens) for tokens in passes])
        for tokens, found in zip(passes, together, strict=True):
            for name, alone in encoder(tokens).items():
                mask = torch.zeros(alone.features.shape[:2], dtype=torch.bool)
                mask = mask if alone.padding_mask is None else alone.padding_mask
                torch.testing.assert_close(found[name].features[~mask], alone.features[~mask])
                assert found[name].padding_mask is alone.padding_mask is tokens[name].padding_mask


def test_dropped_paths_are_those_that_were_drawn_when_joining() -> None:
    encoder = make_encoder(drop_path_rate=0.6).train()
    tokens = {"first": make_tokens(3, batch=40), "third": make_tokens(4, batch=40, num_padded=2)}
    sequence = encoder.join(tokens)
    idle = torch.zeros(2, 2, 1, dtype=torch.bool)  # the first sample loses all that can be lost
    assert sequence.kept is not None
    assert sequence.kept.shape == (3, 2, 40)
    assert sequence.kept[0].all(), "the first layer drops nothing"
    assert 0.2 < sequence.kept[-1].float().mean() < 0.6
    sequence.kept[1:, :, :1] = idle
    with torch.no_grad():
        out = encoder.run_layers(sequence, range(3))
        assert torch.equal(out, encoder.run_layers(sequence, range(3)))
        whole = encoder.eval().run_layers(dataclasses.replace(sequence, kept=None), range(3))
    dropped_all = ~sequence.kept[1:].flatten(0, 1).any(dim=0)
    first_only = encoder.run_layers(dataclasses.replace(sequence, kept=None), range(1))
    torch.testing.assert_close(out[dropped_all], first_only[dropped_all])
    assert not torch.allclose(out[~dropped_all], whole[~dropped_all])


def test_nothing_is_drawn_outside_training() -> None:
    encoder = make_encoder(drop_path_rate=0.6)
    assert encoder.join({"first": make_tokens(3)}).kept is None
