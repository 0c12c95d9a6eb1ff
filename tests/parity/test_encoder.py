"""Groups 00, 01 and 02: buckets, adapters, layers, encoder, projections, and changes of resolution."""

import numpy as np
import pytest
import torch

from models.batch import Tokens
from models.checkpoint.load import load_state
from models.checkpoint.names import rename_state
from models.checkpoint.published import read_model_config
from models.layers.position_bias import grid_buckets, resize_grid_table, resize_positions, token_buckets
from models.modalities.audio import Waveforms
from models.onepeace import OnePeace

pytestmark = pytest.mark.golden

PRECISIONS = (torch.float32, torch.float64)
CPU = torch.device("cpu")


def build(case, state, *, dtype=torch.float32) -> OnePeace:
    manifest = case.manifest
    config = read_model_config(
        manifest["config"]["encoder"],
        head_type=manifest["head_type"],
        vocabulary_size=manifest["vocab_size"],
        has_per_layer_bias=manifest["config"]["copy_rel_pos_table"],
        has_projection=True,
        padding_mode="reference",
    )
    model = OnePeace(config)
    load_state(model, rename_state(state))
    return model.to(dtype).eval()


def test_buckets_equal_the_published_ones(golden_dir):
    stored = np.load(golden_dir / "00_rel_pos_buckets.npz")
    assert len(stored.files) >= 3
    for name in stored.files:
        kind, size = name.rsplit("_", 1)
        expected = torch.from_numpy(stored[name].astype(np.int64))
        is_grid = kind == "image"
        ours = grid_buckets(int(size), CPU) if is_grid else token_buckets(len(expected), int(size), CPU)
        assert torch.equal(ours, expected), name


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("prefix", ["01a", "01b", "01c"])
def test_embeddings(find_cases, prefix, dtype):
    for case in find_cases(prefix):
        model = build(case, case.tensors("state"), dtype=dtype)
        with torch.no_grad():
            for name, vectors in model.embed(case.model_inputs(dtype)).items():
                case.check(f"{name}_features", vectors)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("prefix", ["01a", "01b"])
def test_every_stage_on_the_way(find_cases, prefix):
    for case in find_cases(prefix):
        model = build(case, case.tensors("state"))
        outputs = case.manifest["outputs"]
        for name, value in case.model_inputs(torch.float32).items():
            with torch.no_grad():
                tokens = model.adapters[name](value)
                real = torch.ones(tokens.features.shape[:2], dtype=torch.bool)
                if tokens.padding_mask is not None:
                    real = ~tokens.padding_mask
                check_real(case, f"{name}_adapter_x", tokens.features, real)
                if f"{name}_attn_bias_0" in outputs:
                    case.check(f"{name}_attn_bias_0", tokens.bias.at_layer(0)[0])
                sequence = model.encoder.join({name: tokens})
                for layer in range(len(model.encoder.layers)):
                    features = model.encoder.run_layers(sequence, range(layer + 1))
                    check_real(case, f"{name}_layer{layer}", features, real)
                check_real(case, f"{name}_encoder_out", model.encoder({name: tokens})[name].features, real)


def check_real(case, name, ours, real) -> None:
    """Compare the positions that are no padding; the others mean nothing."""
    if name not in case.manifest["outputs"]:
        return
    stored = case.tensors("io")[f"out.{name}"]
    torch.testing.assert_close(
        ours[real], stored[real], rtol=0, atol=case.manifest["outputs"][name].get("suggested_atol", 1e-6)
    )


def test_the_logit_scale_is_stored_as_a_logarithm(find_cases):
    for case in find_cases("01a"):
        model = build(case, case.tensors("state"))
        case.check("logit_scale_exp", model.logit_scale.exp())


def test_a_clip_alone_gives_the_published_feature(find_cases):
    for case in find_cases("01a"):
        model = build(case, case.tensors("state"))
        shortest = min(range(len(case.manifest["audio_lens"])), key=case.manifest["audio_lens"].__getitem__)
        samples = case.input("src_audios")[shortest : shortest + 1, : case.manifest["audio_lens"][shortest]]
        frames = int((~case.input("audio_padding_masks")[shortest]).sum())
        clip = Waveforms(samples, torch.zeros(1, frames, dtype=torch.bool))
        with torch.no_grad():
            vectors = model.embed({"audio": clip})["audio"]
        case.check("audio_features_shortest_clip_alone", vectors)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("prefix", ["02a", "02b", "02c", "02d"])
def test_another_resolution(find_cases, prefix, dtype):
    (source,) = find_cases("02a")
    for case in find_cases(prefix):
        state = case.tensors("state") if "state" in case.manifest["files"] else source.tensors("source_state")
        model = build(case, state)
        if "upgraded_changed_keys" in case.manifest["files"]:
            ours = model.state_dict()
            for name, stored in rename_state(case.tensors("upgraded_changed_keys")).items():
                torch.testing.assert_close(ours[name], stored, rtol=0, atol=1e-6)
        adapter = model.adapters["image"]
        case.check("pos_embed_at_run_time", resize_positions(adapter.positions, adapter.grid_size))
        model.to(dtype)
        with torch.no_grad():
            encoded = model.encode(case.model_inputs(dtype))["image"]
            # Resized while loading, tables and positions are rounded to float32 once.
            atol = 1e-7 if dtype == torch.float64 else None
            check(case, "image_features", model.embed(case.model_inputs(dtype))["image"], atol)
            if "image_encoder_out" in case.manifest["outputs"]:
                case.check("image_encoder_out", encoded.features.float())


def check(case, name, ours, atol) -> None:
    if atol is None:
        case.check(name, ours)
    else:
        torch.testing.assert_close(ours, case.tensors("io")[f"out64.{name}"], rtol=0, atol=atol)


def test_tables_grow_as_published(find_cases):
    for case in find_cases("02e"):
        for old, new in case.manifest["pairs"]:
            name = f"table_{old}to{new}"
            stored = case.input(name)
            table = torch.cat([stored, torch.zeros(3, stored.shape[1])])
            case.check(name, resize_grid_table(table, new)[:-3])


def test_padding_is_hidden_from_every_query(find_cases):
    (case, *_) = find_cases("01a")
    model = build(case, case.tensors("state"))
    with torch.no_grad():
        tokens: Tokens = model.adapters["text"](case.input("src_tokens"))
        assert tokens.padding_mask.any()
        garbage = tokens.features + 9 * tokens.padding_mask[..., None]
        real = ~tokens.padding_mask
        ours, theirs = (
            model.encoder({"text": Tokens(features, tokens.padding_mask, tokens.bias)})["text"].features[real]
            for features in (tokens.features, garbage)
        )
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "victim",
    [
        "adapters.text.positions",
        "encoder.layers.1.attn.inner_norm.weight",
        "encoder.layers.0.ffn.text.up_proj.weight",
        "adapters.text.bias.tables.0",
        "projections.text.bias",
    ],
)
def test_a_planted_error_in_the_encoder_is_seen(find_cases, victim):
    (case, *_) = find_cases("01a")
    model = build(case, case.tensors("state"))
    with torch.no_grad():
        parameter = model.get_parameter(victim)
        parameter.add_(1e-2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        vectors = model.embed({"text": case.input("src_tokens")})["text"]
    with pytest.raises(AssertionError):
        case.check("text_features", vectors)
