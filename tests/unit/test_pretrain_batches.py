"""A sample's masks follow from seed, step and row; batches travel whole."""

import pytest
import torch
from torch import Tensor

from models.batch import move
from models.config import load_config
from models.embedding import find_tokenizer
from models.modalities.audio import Waveforms
from models.tokenizer import EOS_ID
from pretrain.batches import Batcher
from pretrain.config import load_stage
from pretrain.data.lane import Sample

PAIRS = {"stage1": ("text", "image"), "stage2": ("text", "audio")}


def draw(name: str, generator: torch.Generator) -> Tensor:
    if name == "text":
        length = int(torch.randint(3, 9, (1,), generator=generator))
        return torch.cat([torch.randint(4, 2048, (length,), generator=generator), torch.tensor([EOS_ID])])
    if name == "image":
        return torch.randn(3, 64, 64, generator=generator)
    return torch.randn(int(torch.randint(4000, 9000, (1,), generator=generator)), generator=generator)


def samples_of(stage: str, count: int) -> list[Sample]:
    generator = torch.Generator().manual_seed(7)
    return [Sample(str(row), {name: draw(name, generator) for name in PAIRS[stage]}) for row in range(count)]


def batcher_of(stage: str, *, seed: int = 0) -> Batcher:
    config = load_stage(stage, "tiny")
    return Batcher(load_config("tiny"), config.objective, find_tokenizer(2048), seed)


def masked_places(stage: str, parts: list[slice], *, step: int = 3, seed: int = 0) -> dict[str, list[list[int]]]:
    """By term and sample, what is masked, batched in these parts."""
    samples, batcher = samples_of(stage, 8), batcher_of(stage, seed=seed)
    found: dict[str, list[list[int]]] = {}
    for part in parts:
        batch = batcher.make(samples[part], step=step, first_row=part.start)
        for term, mask in batch.masks.items():
            found.setdefault(term, []).extend(row.nonzero()[:, 0].tolist() for row in mask.masked)
    return found


@pytest.mark.parametrize("stage", PAIRS)
def test_masks_are_the_same_whatever_the_layout_of_micro_batches_and_ranks(stage):
    whole = masked_places(stage, [slice(0, 8)])
    assert masked_places(stage, [slice(0, 4), slice(4, 8)]) == whole
    assert masked_places(stage, [slice(first, first + 1) for first in range(8)]) == whole
    assert any(any(rows) for rows in whole.values())


@pytest.mark.parametrize("change", [{"step": 4}, {"seed": 1}])
def test_another_step_or_seed_draws_other_masks(change):
    assert masked_places("stage1", [slice(0, 8)], **change) != masked_places("stage1", [slice(0, 8)])


def test_two_rows_of_a_step_have_masks_of_their_own():
    first, *others = masked_places("stage1", [slice(0, 8)])["image"]
    assert any(other != first for other in others)


def test_the_fused_picture_hides_what_the_picture_alone_shows():
    found = masked_places("stage1", [slice(0, 8)])
    for alone, fused in zip(found["image"], found["vl_image"], strict=True):
        shown = set(range(1, 17)) - set(alone)
        assert shown <= set(fused)
        assert len(fused) == int(16 * 0.6875)


@pytest.mark.parametrize("tokenizer", [None, find_tokenizer(2048)])
def test_words_are_masked_in_text_with_a_vocabulary_only(tokenizer):
    config = load_stage("stage2", "tiny")
    name = "audio" if tokenizer else "text"
    terms = dict(config.objective.terms)
    term = terms[f"al_{name}"]
    mask = term.mask.model_copy(update={"kind": "words"})
    objective = config.objective.model_copy(
        update={"terms": {**terms, f"al_{name}": term.model_copy(update={"mask": mask})}}
    )
    batcher = Batcher(load_config("tiny"), objective, tokenizer, 0)
    with pytest.raises(ValueError, match=f"kind 'words' for '{name}', expected 'text' and a vocabulary"):
        batcher.make(samples_of("stage2", 2), step=0, first_row=0)


def test_a_batch_moves_with_all_its_parts():
    batch = batcher_of("stage2").make(samples_of("stage2", 2), step=0, first_row=0)
    moved = move(batch, torch.device("meta"))
    assert isinstance(moved.inputs["audio"], Waveforms)
    tensors = [moved.inputs["text"], moved.inputs["audio"].samples, moved.inputs["audio"].padding_mask]
    tensors += [value for mask in moved.masks.values() for value in (mask.masked, mask.kept)]
    tensors += [value for units in moved.units.values() for value in (units.real, units.maskable)]
    assert {value.device.type for value in tensors} == {"meta"}
