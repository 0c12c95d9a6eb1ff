"""A stage begins from the weights it should, refuses others, and trains what it should."""

import math
import re

import pytest
import torch

from models.config import load_config
from models.embedding import find_tokenizer
from models.optim import build_optimizer, parameter_groups
from models.tokenizer import EOS_ID
from pretrain.batches import Batcher
from pretrain.config import load_stage
from pretrain.data.lane import Sample
from pretrain.stages import build_objective, freeze, take_over, trained_names

FIRST, SECOND = load_stage("stage1", "tiny"), load_stage("stage2", "tiny")


def state_of(seed: int = 3):
    config = FIRST.model_copy(update={"seed": seed})
    return {name: value.clone() for name, value in build_objective(config).state_dict().items()}


def test_fresh_weights_follow_from_the_seed_alone_and_leave_other_random_numbers_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = state_of(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = state_of(seed=3), state_of(seed=4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["decoder.inputs.text.weight"], other["decoder.inputs.text.weight"])


def test_linear_maps_of_the_decoder_start_as_published():
    state = state_of()
    assert state["decoder.inputs.image.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert state["decoder.outputs.text.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert not state["decoder.inputs.image.bias"].any()
    assert not state["decoder.outputs.image.bias"].any()


def test_a_stage_has_the_branches_of_its_pair_and_a_decoder_only_for_terms():
    assert list(build_objective(SECOND).model.adapters) == ["text", "audio"]
    bare = load_stage("stage1", "tiny", assignments=["objective.terms={}"])
    assert build_objective(bare).decoder is None


def test_stage_one_trains_everything():
    objective = build_objective(FIRST)
    freeze(objective, FIRST.trained)
    assert all(parameter.requires_grad for parameter in objective.parameters())


def test_stage_two_trains_the_new_modality_the_scale_and_the_whole_decoder():
    objective = build_objective(SECOND)
    freeze(objective, SECOND.trained)
    trained = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    assert trained == trained_names(objective, "audio")
    frozen = {name for name, _ in objective.named_parameters()} - trained
    assert all(re.search(r"\.text\.|\.attn\.|_norm\.|residual\.gamma", name) for name in frozen)
    assert not any(".audio." in name or name.startswith("decoder.") for name in frozen)
    assert {"model.logit_scale", "decoder.mask_tokens.text", "decoder.outputs.text.bias"} <= trained


def test_an_unknown_modality_cannot_be_trained():
    with pytest.raises(ValueError, match="unknown modality 'image'"):
        trained_names(build_objective(SECOND), "image")


def test_frozen_tensors_stay_as_they_are_to_the_last_bit():
    objective = build_objective(SECOND)
    take_over(objective, state_of(), SECOND)
    freeze(objective, SECOND.trained)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    named = [(name, value) for name, value in objective.named_parameters() if value.requires_grad]
    optimizer = build_optimizer(parameter_groups(named, weight_decay=0.05), SECOND.optim)
    batcher = Batcher(load_config("tiny"), SECOND.objective, find_tokenizer(2048), 0)
    text = torch.tensor([40, 50, 60, 70, EOS_ID])
    samples = [Sample(str(row), {"text": text + row * (text > EOS_ID), "audio": torch.randn(6000)}) for row in range(2)]
    for step in range(3):
        objective(batcher.make(samples, step=step, first_row=0)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = trained_names(objective, "audio")
    moved = {name for name, value in objective.state_dict().items() if not torch.equal(value, before[name])}
    assert moved <= trained
    assert {name for name in trained if name.startswith("model.encoder") and name.endswith("weight")} <= moved


def test_what_is_there_is_taken_over_and_the_new_modality_keeps_its_fresh_weights():
    fresh, objective, state = build_objective(SECOND).state_dict(), build_objective(SECOND), state_of()
    take_over(objective, state, SECOND)
    for name, value in objective.state_dict().items():
        expected = fresh[name] if ".audio" in name else state[name]
        if name != "model.logit_scale":
            assert torch.equal(value, expected), name


@pytest.mark.parametrize(("is_reset", "expected"), [(True, math.log(1 / 0.07)), (False, 1.25)])
def test_the_scale_begins_anew_where_the_stage_says_so(is_reset, expected):
    config = SECOND.model_copy(update={"reset_logit_scale": is_reset})
    objective = build_objective(config)
    take_over(objective, {**state_of(), "model.logit_scale": torch.tensor(1.25)}, config)
    assert objective.model.logit_scale.item() == pytest.approx(expected)


def test_weights_that_lack_something_are_refused_and_nothing_is_changed():
    objective, state = build_objective(SECOND), state_of()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    for name in [name for name in state if name.startswith("decoder.")]:
        del state[name]
    with pytest.raises(ValueError, match=r"lack \d+ names, such as decoder.* of stage1, size tiny, with the decoder"):
        take_over(objective, state, SECOND)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_weights_of_another_width_are_refused():
    state = state_of()
    state["model.projections.text.weight"] = torch.zeros(64, 64)
    with pytest.raises(ValueError, match=r"projections.text.weight has shape \(64, 64\) .* expected \(32, 32\)"):
        take_over(build_objective(SECOND), state, SECOND)


def test_weights_of_a_deeper_model_are_refused():
    state = state_of()
    deeper = {name.replace("layers.3.", "layers.4."): value for name, value in state.items() if ".layers.3." in name}
    with pytest.raises(ValueError, match=r"hold \d+ names that this stage has no place for, such as .*layers.4"):
        take_over(build_objective(SECOND), {**state, **deeper}, SECOND)
