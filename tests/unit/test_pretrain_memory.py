"""The estimate of activations is what autograd keeps of the real layers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.batch import Tokens
from models.config import load_config
from models.onepeace import OnePeace, build_model
from pretrain.config import load_stage
from pretrain.cost import stage_passes
from pretrain.memory import Layout, Workload, activation_values, estimate_memory, layer_values, stem_values, term_sizes

BATCH = 4


def kept_values(model: torch.nn.Module, run: Callable[[], Any]) -> float:
    """Count the numbers that a forward pass leaves for the backward pass, one sample's share, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(size for size, _ in found.values()) / 4 / BATCH


@pytest.fixture(scope="module")
def model() -> OnePeace:
    return build_model(load_config("mini"), seed=0)


def test_a_layer_keeps_what_is_counted(model):
    config = model.config
    features = torch.randn(BATCH, 17, config.embed_dim, requires_grad=True)
    kept = kept_values(model, lambda: model.encoder({"image": Tokens(features)}))
    assert config.num_layers * 17 * layer_values(config) == pytest.approx(kept, rel=0.05)


def test_the_stems_keep_what_is_counted(model):
    images, sounds = torch.randn(BATCH, 3, 64, 64), torch.randn(BATCH, 8720, 1)
    kept = kept_values(model, lambda: model.adapters["image"].stem(images))
    assert stem_values("image", model.config, 16) == pytest.approx(kept - images[0].numel(), rel=0.05)
    kept = kept_values(model, lambda: model.adapters["audio"].extractor(sounds))
    assert stem_values("audio", model.config, 27) == pytest.approx(kept - sounds[0].numel(), rel=0.05)


def work(stage: str = "stage1", size: str = "4b", *, pair: tuple[int, int] = (72, 257)) -> Workload:
    config = load_stage(stage, size)
    tokens = dict(zip(config.objective.pair, pair, strict=True))
    return Workload(
        config=load_config(size).branch(*config.objective.pair),
        decoder=config.decoder,
        objective=config.objective,
        trained=config.trained,
        passes=stage_passes(config.objective, tokens, trained=config.trained),
        tokens=tokens,
        batch_size=config.batch.batch_size,
    )


def layout(shard_size: int = 8, *, has_checkpointing: bool = True) -> Layout:
    return Layout(shard_size, has_checkpointing, "bfloat16", "float32")


def test_parameters_gradients_and_moments_are_exact():
    memory = estimate_memory(work(), layout(), micro_batch_size=1)
    assert memory["parameters"] == memory["gradients"] == 2_759_268_497 * 4 // 8
    assert memory["AdamW state"] == 2_759_268_497 * 8 // 8
    audio = estimate_memory(work("stage2", pair=(72, 750)), layout(), micro_batch_size=1)
    assert (audio["parameters"], audio["gradients"]) == (2_775_509_857 * 4 // 8, 1_183_958_833 * 4 // 8)


def test_checkpointing_keeps_a_fraction():
    with_, without = (activation_values(work(), has_checkpointing=flag) for flag in (True, False))
    assert without / 40 < with_ < without / 10


def test_each_part_depends_on_what_it_should():
    base = estimate_memory(work(), layout(), micro_batch_size=4)
    larger = estimate_memory(work(), layout(), micro_batch_size=8)
    wider = estimate_memory(work(), layout(16), micro_batch_size=4)
    assert larger["activations"] == 2 * base["activations"]
    assert 2 < larger["scores of the contrasts"] / base["scores of the contrasts"] <= 4
    assert wider["parameters"] == base["parameters"] // 2
    assert wider["gathered layers"] == base["gathered layers"]
    whole = estimate_memory(work(), layout(1), micro_batch_size=4)
    assert whole["gathered layers"] == 2_759_268_497 * 2


def test_the_published_masks_give_the_published_counts():
    assert term_sizes(work(), "image", 2) == (2 * 192, 2 * 256)
    assert term_sizes(work(), "vl_image", 2) == (2 * 176, 2 * 256)
