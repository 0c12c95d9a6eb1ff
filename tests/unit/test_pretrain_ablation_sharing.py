from functools import cache

import pytest
import torch

from models.batch import Tokens
from pretrain.ablation.config import (
    RECALLS,
    AblationsConfig,
    Job,
    VariantConfig,
    load_ablations,
    make_order,
    plan_jobs,
)
from pretrain.ablation.sharing import build_variant, count_parameters
from pretrain.config import load_stage
from pretrain.cost import count_feed_forward
from pretrain.cost import count_parameters as count_by_part
from pretrain.objective import Objective

ABLATIONS = load_ablations()
BASE = load_stage("stage1", "tiny")


@cache
def plan(*tables: str, num_seeds: int = 2) -> tuple[Job, ...]:
    return plan_jobs(ABLATIONS, make_order(ABLATIONS, tables, size="tiny", steps=2, num_seeds=num_seeds))


def build_fresh(variant: str, *, seed: int = 0) -> Objective:
    (job,) = [job for job in plan() if (job.variant, job.seed) == (variant, seed)]
    return build_variant(job.stages[0], base=BASE, sharing=job.config.sharing)


build = cache(build_fresh)


def encode(objective: Objective, name: str) -> torch.Tensor:
    features = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return objective.model.encoder({name: Tokens(features, None, None)})[name].features


def tensors(objective: Objective, part: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in objective.state_dict().items() if name.startswith(part)}


# What the variants share.


def test_the_model_of_the_paper_is_the_one_that_shares_attention_only():
    layer = build("contrast_alone").model.encoder.layers[0]
    assert layer.ffn["text"] is not layer.ffn["image"]
    assert type(build("contrast_alone").model.encoder).__name__ == "FusionEncoder"


def test_attention_and_feed_forward_can_be_shared():
    for layer in build("share_attention_and_ffn").model.encoder.layers:
        assert layer.ffn["text"] is layer.ffn["image"]


def test_with_the_feed_forward_alone_shared_nothing_else_is():
    text, image = build("share_ffn").model.encoder.encoders
    shared = {id(value) for value in text.parameters()} & {id(value) for value in image.parameters()}
    feed_forwards = {id(value) for layer in text.layers for value in layer.ffn.parameters()}
    assert shared == feed_forwards
    assert feed_forwards


def test_with_nothing_shared_no_parameter_is():
    text, image = build("share_nothing").model.encoder.encoders
    assert not {id(value) for value in text.parameters()} & {id(value) for value in image.parameters()}


def test_parameters_are_counted_once_and_as_the_plan_counts_them():
    counts = {name: count_parameters(build(name).model) for name in ABLATIONS.tables["sharing"].variants}
    size = build("contrast_alone").model.config
    parts, feed_forward = count_by_part(size), size.num_layers * count_feed_forward(size)
    whole = sum(parts.values())
    assert counts == {
        "contrast_alone": whole,
        "share_attention_and_ffn": whole - feed_forward,
        "share_ffn": whole + parts["encoder.shared"] - feed_forward,
        "share_nothing": whole + parts["encoder.shared"],
    }


def test_an_encoder_without_shared_attention_takes_one_modality_at_a_time():
    encoder = build_fresh("share_nothing").model.encoder
    tokens = Tokens(torch.zeros(1, 2, 32), None, None)
    with pytest.raises(ValueError, match="text, image in one pass, expected one"):
        encoder({"text": tokens, "image": tokens})
    with pytest.raises(ValueError, match="no modality 'audio', only text, image"):
        encoder({"audio": tokens})
    encoder.recompute = "cheap"
    assert [part.recompute for part in encoder.encoders] == ["cheap"] * len(encoder.encoders)
    assert len(encoder.layers) == 2 * 4


# What the variants have in common.


def test_all_variants_of_a_seed_begin_with_the_same_weights():
    reference = build("contrast_alone")
    for variant in ABLATIONS.variants:
        objective = build(variant)
        for part in ("model.adapters", "model.projections", "model.logit_scale"):
            own = tensors(objective, part)
            assert own
            assert all(torch.equal(value, own[name]) for name, value in tensors(reference, part).items())
        assert torch.equal(encode(objective, "text"), encode(reference, "text"))
        if VariantConfig().sharing == ABLATIONS.variants[variant].sharing or variant == "share_nothing":
            assert torch.equal(encode(objective, "image"), encode(reference, "image"))


def test_variants_with_terms_begin_with_the_same_decoder_and_those_without_have_none():
    decoders = [build(name).decoder for name in ("text", "all_terms", "l2")]
    states = [decoder.state_dict() for decoder in decoders]
    assert all(torch.equal(state[name], value) for state in states for name, value in states[0].items())
    assert build("contrast_alone").decoder is None


def test_another_seed_begins_with_other_weights():
    assert not torch.equal(encode(build("share_ffn"), "text"), encode(build("share_ffn", seed=1), "text"))


def test_variants_differ_in_what_their_table_names_and_in_nothing_else():
    stages = {job.variant: job.stages[0].model_dump() for job in plan(num_seeds=1) if job.config}
    for stage in stages.values():
        stage["objective"].pop("terms")
        stage["objective"].pop("loss")
    assert len(stages) == 11
    assert all(stage == stages["contrast_alone"] for stage in stages.values())


def test_a_seed_is_that_of_weights_masks_and_data():
    for job in plan():
        assert {(stage.seed, stage.data.seed) for stage in job.stages} == {(job.seed, job.seed)}


def test_a_variant_of_several_tables_is_trained_once():
    names = [job.variant for job in plan("sharing", "terms", "loss", num_seeds=1)]
    assert sorted(names) == sorted(ABLATIONS.variants)


def test_every_row_of_a_table_has_its_published_recalls():
    published = ABLATIONS.find_published()
    assert {variant for variant, _ in published} == set(ABLATIONS.variants)
    assert published["contrast_alone", RECALLS[0]] == 35.94
    values = ABLATIONS.model_dump()
    kept = tuple(target for target in ABLATIONS.targets if target["id"] != "AB-l2-t2i-r1")
    with pytest.raises(ValueError, match="table 'loss': no target of variant 'l2' for recall_at_1_text_to_image"):
        AblationsConfig.parse({**values, "targets": kept}, where="test")
