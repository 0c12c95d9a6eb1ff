"""Micro-batches under the whole batch's negatives are the arithmetic of one large batch, drop path included."""

import zlib
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from models.batch import move
from models.config import load_config
from models.contrast import align
from models.embedding import find_tokenizer
from models.sharding import spread
from models.tokenizer import EOS_ID
from models.world import World
from pretrain.batches import Batcher
from pretrain.config import StageConfig, load_stage
from pretrain.data.lane import Sample
from pretrain.objective import Objective, PairBatch, own_rows
from pretrain.stages import build_objective, freeze
from pretrain.step import Stepper

WORLD = World(0, 1, torch.device("cpu"))
BATCH, STEP = 8, 5
ALIGNING = ("objective.terms={}",)


def configure(micro_batch: int, *assignments: str) -> StageConfig:
    sizes = (f"batch.batch_size={BATCH}", f"batch.micro_batch_size={micro_batch}")
    return load_stage("stage1", "tiny", assignments=(*sizes, *assignments))


def build(config: StageConfig, dtype: torch.dtype = torch.float64) -> Objective:
    objective = build_objective(config)
    with torch.no_grad():  # rows are told apart from the first step on
        for parameter in objective.model.projections.parameters():
            parameter.mul_(10)
    freeze(objective, config.trained)
    spread(objective, objective.encoders, config=config.parallel, world=WORLD)
    return objective.to(dtype).train()


def batches_of(config: StageConfig, dtype: torch.dtype = torch.float64) -> list[PairBatch]:
    draw = torch.Generator().manual_seed(2)
    samples = [
        Sample(
            str(row),
            {
                "text": torch.cat([torch.randint(4, 2048, (4 + row % 3,), generator=draw), torch.tensor([EOS_ID])]),
                "image": torch.randn(3, 64, 64, generator=draw),
            },
        )
        for row in range(BATCH)
    ]
    batcher = Batcher(load_config("tiny"), config.objective, find_tokenizer(2048), config.seed)
    width = config.batch.micro_batch_size
    starts = range(0, BATCH, width)
    batches = (batcher.make(samples[first : first + width], step=STEP, first_row=first) for first in starts)
    return [move(batch, WORLD.device, dtype=dtype) for batch in batches]


def gradients_of(objective: Objective) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], rtol=1e-9, atol=1e-12, msg=lambda text, name=name: name + text
        )


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_micro_batches_give_the_contrast_and_gradients_of_one_batch(micro_batch):
    found = []
    for width in (BATCH, micro_batch):
        config = configure(width, *ALIGNING)
        objective = build(config)
        result = Stepper(objective, config, WORLD).run(batches_of(config), step=STEP)
        found.append((result, gradients_of(objective)))
    (whole, whole_gradients), (parts, gradients) = found
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.accuracy == whole.accuracy
    assert parts.tokens == whole.tokens
    assert parts.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)
    check(gradients, whole_gradients)


def spelled_out(objective: Objective, config: StageConfig, batches: Sequence[PairBatch]) -> tuple[float, dict]:
    """All features with gradient at once, each micro-batch under its own random numbers, in one large contrast."""
    parts = []
    for number, batch in enumerate(batches):
        torch.manual_seed(zlib.crc32(f"{config.seed} {STEP} {number}".encode()))
        parts.append(objective(batch, None))
    vectors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    loss = align(vectors, own_rows(vectors), scale=objective.model.logit_scale.exp()).loss
    loss.backward()
    return loss.item(), gradients_of(objective)


def test_with_drop_path_both_runs_over_a_micro_batch_drop_the_same():
    config = configure(2, *ALIGNING, "drop_path_rate=0.5")
    objective = build(config)
    result = Stepper(objective, config, WORLD).run(batches_of(config), step=STEP)
    found = gradients_of(objective)
    objective.zero_grad()
    loss, expected = spelled_out(objective, config, batches_of(config))
    assert result.loss == pytest.approx(loss, rel=1e-5)
    check(found, expected)
    still = configure(2, *ALIGNING)
    assert result.loss != pytest.approx(Stepper(build(still), still, WORLD).run(batches_of(still), step=STEP).loss)


def test_a_step_is_repeatable_with_drop_path_and_recomputed_layers():
    losses, norms = [], []
    for choice in ("none", "layer", "layer"):
        config = configure(4, *ALIGNING, "drop_path_rate=0.5", f"parallel.recompute={choice}")
        torch.manual_seed(len(losses))  # what was drawn before has no say
        result = Stepper(build(config), config, WORLD).run(batches_of(config), step=STEP)
        losses.append(result.loss)
        norms.append(result.grad_norm)
    assert losses == [losses[0]] * 3
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-6)


def test_a_result_averages_micro_batches_and_counts_the_whole_batch():
    config = configure(4)
    objective, batches = build(config), batches_of(config)
    result = Stepper(objective, config, WORLD).run(batches, step=STEP, is_stopped=True)
    weights = {name: term.weight for name, term in config.objective.terms.items()}
    assert list(result.terms) == ["contrast", *weights]
    expected = result.terms["contrast"] + sum(weight * result.terms[name] for name, weight in weights.items())
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert result.tokens == {name: sum(int(b.units[name].real.sum()) for b in batches) for name in ("text", "image")}
    assert result.tokens["image"] == BATCH * 17
    assert result.is_stopped
    assert not Stepper(objective, config, WORLD).run(batches, step=STEP).is_stopped
    assert result.scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_half_precision_is_near_and_leaves_gradients_in_float32():
    losses = []
    for dtype in ("float32", "bfloat16"):
        config = configure(4, *ALIGNING, f"parallel.dtype={dtype}")
        objective = build(config, torch.float32)
        batches = batches_of(config, torch.float32)
        losses.append(Stepper(objective, config, WORLD).run(batches, step=STEP).loss)
        assert {value.dtype for value in gradients_of(objective).values()} == {torch.float32}
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)
    assert losses[1] != losses[0]
