"""Groups 04, 05 and 06: every term of both stages, what they are made of, and all gradients; one rank and two."""

import re

import pytest
import torch
from torch import Tensor

from models.batch import Units
from models.checkpoint.load import load_state
from models.checkpoint.published import read_model_config
from models.modalities import load_modality
from models.modalities.audio import Waveforms
from models.onepeace import OnePeace
from models.world import Negatives
from pretrain.config import DecoderConfig, load_stage
from pretrain.decoder import Decoder
from pretrain.masking import UnitMask
from pretrain.names import is_derived, our_name, published_name
from pretrain.objective import Objective, PairBatch, StepLosses
from pretrain.stages import trained_names

pytestmark = pytest.mark.golden

PRECISIONS = (torch.float32, torch.float64)
SINGLE, DOUBLE = ("04", "05_"), ("06a", "06b")
CONTRASTS = {"stage1": "itc_loss", "stage2": "atc_loss"}
GRADIENT_SHARE = 1e-4  # of the tensor's largest entry
SCALE_ATOL = 1e-6  # of the logit scale, a sum that nearly cancels


def stage_of(manifest):
    """The stage as shipped, with the manifest's weights."""
    stage = load_stage(f"stage{manifest['stage']}")
    criterion = manifest["criterion"]
    terms = {
        name: term.model_copy(update={"weight": criterion[f"dcl_{name}_alpha"]})
        for name, term in stage.objective.terms.items()
    }
    changes = {
        "terms": terms,
        "dcl_scale": criterion["dcl_logit_scale"],
        "label_smoothing": criterion["label_smoothing"],
    }
    return stage.model_copy(update={"objective": stage.objective.model_copy(update=changes)})


def build(case, dtype) -> Objective:
    manifest = case.manifest
    stage, published = stage_of(manifest), manifest["config"]
    config = read_model_config(
        published["encoder"],
        head_type={1: "vl", 2: "al"}[manifest["stage"]],
        vocabulary_size=manifest["vocab_size"],
        has_per_layer_bias=False,
        has_projection=True,
        padding_mode="reference",
    )
    decoder = DecoderConfig(
        embed_dim=published["decoder"]["embed_dim"],
        ffn_dim=published["decoder"]["ffn_embed_dim"],
        num_layers=published["decoder"]["layers"],
        num_heads=published["decoder"]["attention_heads"],
        has_inner_norm=published["decoder"]["scale_fc"],
        padding_mode="reference",
    )
    objective = Objective(OnePeace(config), Decoder(decoder, config), stage.objective)
    report = load_state(objective, rename(case.tensors("state")))
    assert not report.missing
    assert not report.unexpected
    trained = trained_names(objective, stage.trained)
    for name, parameter in objective.named_parameters():
        parameter.requires_grad_(name in trained)
    return objective.to(dtype).eval()


def rename(state) -> dict[str, Tensor]:
    return {our_name(name): value for name, value in state.items() if not is_derived(name)}


def read_batch(case, objective, dtype, *, rank: str = "") -> PairBatch:
    io = {name.removeprefix(f"in.{rank}"): value for name, value in case.tensors("io").items() if "in." in name}
    inputs = {"text": io["src_tokens"]}
    if "src_images" in io:
        inputs["image"] = io["src_images"].to(dtype)
    if "src_audios" in io:
        inputs["audio"] = Waveforms(io["src_audios"].to(dtype), io["audio_padding_masks"])
    options = objective.model.config.modalities
    units: dict[str, Units] = {
        name: load_modality(name).find_units(value, options[name]) for name, value in inputs.items()
    }
    masks = {name: UnitMask(io[f"{name}_mask_indices"], io[f"{name}_preserve_ids"]) for name in objective.config.terms}
    return PairBatch(inputs=inputs, units=units, masks=masks)


def outputs_of(losses: StepLosses, stage: str) -> dict[str, Tensor]:
    found = {"loss": losses.total, "logit_scale_exp": losses.scale, CONTRASTS[stage]: losses.terms["contrast"]}
    found |= {f"dcl_{name}_loss": value for name, value in losses.terms.items() if name != "contrast"}
    first, second = losses.hits
    found[f"{second[0]}2{first[0]}_ncorrect"] = losses.hits[second]
    found[f"{first[0]}2{second[0]}_ncorrect"] = losses.hits[first]
    return found


def check_gradient(name: str, ours: Tensor, stored: Tensor) -> None:
    atol = GRADIENT_SHARE * stored.abs().max().item() + (SCALE_ATOL if name == "logit_scale" else 0)
    torch.testing.assert_close(ours.to(stored.dtype), stored, rtol=0, atol=atol, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("prefix", SINGLE)
def test_every_term(find_cases, prefix, dtype):
    for case in find_cases(prefix):
        if "criterion" not in case.manifest:
            continue
        objective = build(case, dtype)
        losses = objective(read_batch(case, objective, dtype))
        found = outputs_of(losses, f"stage{case.manifest['stage']}")
        scalars = [name for name, facts in case.manifest["outputs"].items() if not facts["shape"]]
        assert sorted(found) == sorted(scalars)
        for name, value in found.items():
            case.check(name, value.to(dtype))


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("prefix", SINGLE)
def test_what_the_terms_are_made_of(find_cases, prefix):
    for case in find_cases(prefix):
        if "criterion" not in case.manifest:
            continue
        objective = build(case, torch.float32)
        batch = read_batch(case, objective, torch.float32)
        with torch.no_grad():
            encoded = objective.encode(batch)
            alone, teachers = encoded.alone, encoded.teachers
            students = objective.decode(encoded.students)
            vectors = objective(batch, None)
        pair = "vl" if case.manifest["stage"] == 1 else "al"
        found = {f"{name}_logits": value for name, value in vectors.items()}
        found |= {f"teacher_{name}_features": value for (kind, name), value in teachers.items() if kind == "alone"}
        found |= {f"teacher_{pair}_{name}_features": v for (kind, name), v in teachers.items() if kind == "fused"}
        found |= {f"student_{name}_features": value for name, value in students.items()}
        found["audio_only_features"] = alone["audio"].features if "audio" in alone else None
        features = [name for name, facts in case.manifest["outputs"].items() if facts["shape"]]
        assert set(features) <= set(found)
        for name in features:
            check_real(case, name, found[name], batch)


def check_real(case, name, ours, batch) -> None:
    """Compare the positions that are no padding; the others mean nothing."""
    stored = case.tensors("io")[f"out.{name}"]
    atol = case.manifest["outputs"][name]["suggested_atol"]
    if stored.ndim == 3:
        modality = next(part for part in name.split("_")[::-1] if part in batch.units)
        real = batch.units[modality].real
        ours, stored = ours[real], stored[real]
    torch.testing.assert_close(ours, stored, rtol=0, atol=atol)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("prefix", SINGLE)
def test_all_gradients(find_cases, prefix):
    for case in find_cases(prefix):
        if "criterion" not in case.manifest:
            continue
        objective = build(case, torch.float32)
        objective(read_batch(case, objective, torch.float32)).total.backward()
        stored = case.tensors("grads")
        found = {published_name(name): p.grad for name, p in objective.named_parameters() if p.grad is not None}
        assert set(found) == set(stored)
        for name, gradient in found.items():
            check_gradient(name, gradient, stored[name])


@pytest.mark.parametrize("prefix", ["05_"])
def test_what_is_trained_and_what_is_frozen(find_cases, prefix):
    for case in find_cases(prefix):
        if "criterion" not in case.manifest:
            continue
        objective = build(case, torch.float32)
        trained = {published_name(name) for name, p in objective.named_parameters() if p.requires_grad}
        frozen = {published_name(name) for name, p in objective.named_parameters() if not p.requires_grad}
        assert trained == set(case.manifest["params_with_requires_grad"])
        assert frozen == set(case.manifest["params_without_requires_grad"])


def known(whole, first_row):
    """Gather what was computed before."""
    return lambda _: Negatives(whole, first_row)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("prefix", DOUBLE)
def test_two_ranks(find_cases, prefix, dtype):
    for case in find_cases(prefix):
        objective = build(case, dtype)
        ranks = range(case.manifest["world_size"])
        batches = [read_batch(case, objective, dtype, rank=f"rank{rank}.") for rank in ranks]
        with torch.no_grad():
            vectors = [objective(batch, None) for batch in batches]
        whole = {name: torch.cat([part[name] for part in vectors]) for name in vectors[0]}
        gradients = []
        for rank, batch in zip(ranks, batches, strict=True):
            first_row = sum(len(vectors[before]["text"]) for before in range(rank))
            losses = objective(batch, known(whole, first_row))
            for name, value in outputs_of(losses, f"stage{case.manifest['stage']}").items():
                case.check(f"rank{rank}.{name}", value.to(dtype))
            for name, value in vectors[rank].items():
                case.check(f"rank{rank}.{name}_logits", value)
            objective.zero_grad()
            losses.total.backward()
            gradients.append({published_name(n): p.grad for n, p in objective.named_parameters() if p.grad is not None})
        check_ranks(case.tensors("grads"), gradients)


def check_ranks(stored, gradients) -> None:
    """Compare each rank's gradients where they are stored, and the mean of all."""
    average = {name: sum(part[name] for part in gradients) / len(gradients) for name in gradients[0]}
    assert {name.removeprefix("avg.") for name in stored if name.startswith("avg.")} == set(average)
    for key, value in stored.items():
        kind, name = key.split(".", 1)
        ours = average if kind == "avg" else gradients[int(re.sub(r"\D", "", kind))]
        check_gradient(name, ours[name], value)


@pytest.mark.parametrize(
    ("prefix", "victim"),
    [
        ("04", "decoder.mask_tokens.image"),
        ("04", "model.adapters.text.positions"),
        ("05_", "decoder.positions.audio"),
        ("05_", "decoder.outputs.text.bias"),
    ],
)
def test_a_planted_error_is_seen(find_cases, prefix, victim):
    case = next(case for case in find_cases(prefix) if "criterion" in case.manifest)
    objective = build(case, torch.float32)
    with torch.no_grad():
        objective.get_parameter(victim).view(-1)[::2].add_(1e-1)
        losses = objective(read_batch(case, objective, torch.float32))
    with pytest.raises(AssertionError):
        case.check("loss", losses.total)


@pytest.mark.parametrize("prefix", ["05b"])
def test_stage_two_takes_what_it_can_from_stage_one(find_cases, prefix):
    """Every name it takes is one of its own; every name it drops belongs to the picture, or follows from the sizes."""
    for case in find_cases(prefix):
        report = case.manifest["report"]
        dropped = [name for name in report["dropped"] if not is_derived(name)]
        assert dropped
        assert all(".image." in f".{our_name(name)}." for name in dropped)
