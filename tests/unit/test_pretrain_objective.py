"""The objective adds up what it says, teaches without gradient, and shares stems without changing a gradient."""

import math

import pytest
import torch
from torch import Tensor

from models.batch import Embedded, Tokens
from models.config import load_config
from models.embedding import find_tokenizer
from models.onepeace import MAX_LOGIT_SCALE
from models.tokenizer import EOS_ID
from pretrain.batches import Batcher
from pretrain.config import StageConfig, load_stage
from pretrain.data.lane import Sample
from pretrain.objective import Objective, PairBatch, StepLosses, own_rows
from pretrain.stages import build_objective, freeze

ROWS = 3


def draw(name: str, generator: torch.Generator) -> Tensor:
    length = int(torch.randint(4, 9, (1,), generator=generator))
    if name == "text":
        return torch.cat([torch.randint(4, 2048, (length,), generator=generator), torch.tensor([EOS_ID])])
    if name == "image":
        return torch.randn(3, 64, 64, generator=generator)
    return torch.randn(1000 * length, generator=generator)


def batch_of(config: StageConfig) -> PairBatch:
    generator = torch.Generator().manual_seed(5)
    pair = config.objective.pair
    samples = [Sample(str(row), {name: draw(name, generator) for name in pair}) for row in range(ROWS)]
    batcher = Batcher(load_config("tiny"), config.objective, find_tokenizer(2048), 0)
    return batcher.make(samples, step=0, first_row=0)


def prepare(stage: str, *assignments: str) -> tuple[Objective, PairBatch]:
    config = load_stage(stage, "tiny", assignments=assignments)
    objective = build_objective(config)
    freeze(objective, config.trained)
    return objective.eval(), batch_of(config)


def losses_of(objective: Objective, batch: PairBatch) -> StepLosses:
    found = objective(batch)
    assert isinstance(found, StepLosses)
    return found


def gradients_of(objective: Objective, batch: PairBatch) -> dict[str, Tensor]:
    objective.zero_grad()
    losses_of(objective, batch).total.backward()
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_total_is_the_contrast_and_the_weighted_terms(stage):
    objective, batch = prepare(stage)
    losses = losses_of(objective, batch)
    weights = {name: term.weight for name, term in objective.config.terms.items()}
    assert list(losses.terms) == ["contrast", *weights]
    expected = losses.terms["contrast"] + sum(weight * losses.terms[name] for name, weight in weights.items())
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert not any(value.requires_grad for value in losses.terms.values())


def test_without_gather_it_gives_the_unit_vectors_of_the_contrast():
    objective, batch = prepare("stage1")
    vectors = objective(batch, None)
    assert list(vectors) == ["text", "image"]
    for value in vectors.values():
        torch.testing.assert_close(value.norm(dim=1), torch.ones(ROWS))
    losses = losses_of(objective, batch)
    logits = losses.scale * vectors["text"] @ vectors["image"].t()
    assert losses.hits["text"] == (logits.argmax(dim=1) == torch.arange(ROWS)).sum()


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_sharing_the_stems_gives_the_gradients_of_separate_passes(stage, monkeypatch):
    objective, batch = prepare(stage)
    shared = gradients_of(objective, batch)
    passes = []

    def place_anew(name: str, _: Embedded, kept: Tensor | None = None) -> Tokens:
        passes.append(name)
        adapter = objective._adapter(name)
        return adapter.place(adapter.embed(batch.inputs[name]), kept)

    monkeypatch.setattr(objective, "_place", place_anew)
    separate = gradients_of(objective, batch)
    assert len(passes) > len(batch.inputs)
    assert shared.keys() == separate.keys()
    for name, value in shared.items():
        torch.testing.assert_close(value, separate[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_teachers_carry_no_gradient(stage):
    objective, batch = prepare(stage)
    teachers = objective.encode(batch).teachers
    assert {kind for kind, _ in teachers} == {"alone", "fused"}
    assert not any(value.requires_grad for value in teachers.values())


def test_no_term_asks_for_a_fused_teacher_no_fused_pass():
    objective, batch = prepare("stage1", "objective.terms={}")
    assert objective.decoder is None
    assert {kind for kind, _ in objective.encode(batch).teachers} == {"alone"}
    losses = losses_of(objective, batch)
    assert losses.total.item() == losses.terms["contrast"].item()


def test_the_encoders_are_the_models_and_the_decoders():
    objective, _ = prepare("stage1")
    assert objective.encoders == [objective.model.encoder, objective.decoder.encoder]
    alone, _ = prepare("stage1", "objective.terms={}")
    assert alone.encoders == [alone.model.encoder]


def test_in_a_single_process_the_own_rows_without_gradient_are_the_negatives():
    rows = {"text": torch.ones(3, 2, requires_grad=True)}
    negatives = own_rows(rows)
    assert (negatives.first_row, negatives.features["text"].requires_grad) == (0, False)
    assert torch.equal(negatives.features["text"], rows["text"])


@pytest.mark.parametrize(("stored", "scale"), [(math.log(1000), MAX_LOGIT_SCALE), (-1.0, 1.0), (2.0, math.exp(2))])
def test_clamping_the_scale_does_not_cut_its_gradient(stored, scale):
    objective, batch = prepare("stage1", "objective.terms={}")
    with torch.no_grad():
        objective.model.logit_scale.fill_(stored)
    losses = losses_of(objective, batch)
    losses.total.backward()
    assert losses.scale.item() == pytest.approx(scale, rel=1e-5)
    assert objective.model.logit_scale.grad.abs() > 0
    assert objective.model.logit_scale.item() == pytest.approx(math.log(scale), abs=1e-5)  # the stored one is clamped


def test_stage_two_reaches_what_it_trains_and_nothing_else():
    objective, batch = prepare("stage2")
    found = gradients_of(objective, batch)
    trained = {name for name, p in objective.named_parameters() if p.requires_grad}
    idle = {name for name in trained if name.startswith(("decoder.cls_embeddings", "decoder.mask_embeddings"))}
    assert trained - set(found) - idle <= {"model.adapters.audio.mask_embedding"}
    assert set(found) <= trained
    assert "model.logit_scale" in found
    assert not any(".text." in name for name in found if name.startswith("model."))


def test_every_loss_of_the_papers_table_can_be_trained():
    for kind in ("contrast", "smooth_l1", "l2", "cosine"):
        objective, batch = prepare("stage1", f"objective.loss={kind}")
        assert all(value.isfinite().all() for value in gradients_of(objective, batch).values())


def test_a_batch_without_a_hidden_unit_is_finite_and_teaches_by_the_contrast_alone():
    objective, batch = prepare("stage1")
    empty = {
        name: type(mask)(torch.zeros_like(mask.masked), torch.arange(mask.masked.shape[1]).expand(ROWS, -1))
        for name, mask in batch.masks.items()
    }
    real = batch.units["text"].real
    kept = torch.where(real, torch.arange(real.shape[1]), -1)
    empty |= {name: type(mask)(mask.masked, kept) for name, mask in empty.items() if name.endswith("text")}
    losses = losses_of(objective, PairBatch(batch.inputs, batch.units, empty))
    assert {name: value.item() for name, value in losses.terms.items() if name != "contrast"} == dict.fromkeys(empty, 0)
    losses.total.backward()
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)
