"""The estimate of activations is what the real layers keep for the backward pass, and what is there at most."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.adamw import LeanAdamW
from models.batch import Tokens
from models.config import load_config
from models.onepeace import OnePeace, build_model
from models.training import MomentType, Recompute
from pretrain.config import load_stage
from pretrain.cost import Pass, stage_passes
from pretrain.memory import (
    Layout,
    Workload,
    activation_bytes,
    estimate_memory,
    layer_bytes,
    moment_bytes,
    stem_values,
    term_sizes,
)

BATCH, TOKENS = 4, 17
CHOICES: tuple[Recompute, ...] = get_args(Recompute)


class Memory(TorchDispatchMode):
    """Follows every piece of memory that an operation gives, until nothing holds it any more.

    Args:
        others: tensors whose memory does not count.
    """

    def __init__(self, others: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.others = list(others)
        self.ignored = {tensor.untyped_storage()._cdata for tensor in self.others}
        self.found: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            storage = value.untyped_storage() if isinstance(value, Tensor) else None
            if storage is not None and storage._cdata not in self.ignored:
                known = self.found.get(storage._cdata)
                if known is None or known[0].expired():
                    self.found[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, self.held())
        return out

    def held(self) -> int:
        """Count the bytes that something holds."""
        return sum(size for reference, size in self.found.values() if not reference.expired())


def measure(model: OnePeace, batch: int, *, device: str = "cpu", learns: bool = True) -> tuple[int, int]:
    """Count the bytes that the layers keep of a batch, the result left out, and the most there are at any time."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    features = torch.randn(batch, TOKENS, model.config.embed_dim, device=device, requires_grad=True)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    with Memory([*model.parameters(), *gradients, features]) as memory:
        out = model.encoder({"image": Tokens(features)})["image"].features
        gc.collect()
        kept = memory.held() - out.untyped_storage().nbytes()
        if learns:
            out.sum().backward()
    return kept, memory.peak


def kept_values(model: torch.nn.Module, run: Callable[[], Tensor]) -> float:
    """Count the numbers that a forward pass leaves for the backward pass, one sample's share, parameters and the result
    left out."""
    with Memory(model.parameters()) as memory:
        out = run()
        gc.collect()
        kept: int = memory.held() - out.untyped_storage().nbytes()
    return kept / 4 / BATCH


@contextmanager
def autocast_on_gpu() -> Iterator[None]:
    """Do what `torch.autocast("cuda", torch.bfloat16)` does, which without a GPU does nothing."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
        torch.clear_autocast_cache()


@pytest.fixture(scope="module")
def model() -> OnePeace:
    return build_model(load_config("mini"), seed=0)


def encoder_work(model: OnePeace) -> Workload:
    """One pass over pictures that are embedded already."""
    passes = [Pass({"image": TOKENS}, has_gradient=True)]
    stage = load_stage("stage1", "mini")
    return Workload(model.config, None, stage.objective, "all", passes, {"image": TOKENS}, BATCH)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_layer_keeps_what_is_counted_and_its_backward_pass_needs_no_more(model: OnePeace, choice: Recompute) -> None:
    model.encoder.recompute = choice
    kept, peak = measure(model, BATCH)
    counted = BATCH * model.config.num_layers * TOKENS * layer_bytes(model.config, "float32", recompute=choice)
    assert counted == pytest.approx(kept, rel=0.02)  # the first layer's input is given, the final norm's is kept
    whole = BATCH * activation_bytes(encoder_work(model), layout(1, recompute=choice, dtype="float32"))
    assert whole == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_layer_keeps_what_is_counted_under_autocast_on_a_gpu(monkeypatch: Any, choice: Recompute) -> None:
    """Without one: tensors without memory, of a device that need not be there."""

    def attend(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
        return out

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attend)  # which would look for a GPU
    config = load_config("mini")
    with FakeTensorMode(), torch.device("cuda"):
        fake = OnePeace(config)
        fake.encoder.recompute = choice
        with autocast_on_gpu():
            few, many = (measure(fake, batch, device="cuda", learns=False)[0] for batch in (BATCH, 2 * BATCH))
    tokens = BATCH * TOKENS  # the copies of the weights, which both have, fall out
    counted = tokens * config.num_layers * layer_bytes(config, "bfloat16", recompute=choice)
    assert counted == pytest.approx(many - few, rel=0.05)


def test_the_stems_keep_what_is_counted(model: OnePeace) -> None:
    adapters: Any = model.adapters
    images, sounds = torch.randn(BATCH, 3, 64, 64), torch.randn(BATCH, 8720, 1)
    kept = kept_values(model, lambda: adapters["image"].stem(images))
    assert stem_values("image", model.config, 16) == pytest.approx(kept, rel=0.05)
    kept = kept_values(model, lambda: adapters["audio"].extractor(sounds))
    assert stem_values("audio", model.config, 27) == pytest.approx(kept, rel=0.05)


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


def layout(
    shard_size: int = 8, *, recompute: Recompute = "layer", dtype: str = "bfloat16", state: MomentType = "float32"
) -> Layout:
    return Layout(shard_size, recompute, dtype, "float32", state)


def test_parameters_gradients_and_moments_are_exact() -> None:
    memory = estimate_memory(work(), layout(), micro_batch_size=1)
    assert memory["parameters"] == memory["gradients"] == 2_759_268_497 * 4 // 8
    assert memory["AdamW state"] == 2_759_268_497 * 8 // 8
    audio = estimate_memory(work("stage2", pair=(72, 750)), layout(), micro_batch_size=1)
    assert (audio["parameters"], audio["gradients"]) == (2_775_509_857 * 4 // 8, 1_183_958_833 * 4 // 8)


@pytest.mark.parametrize(("state", "per_weight"), [("bfloat16", 4.0), ("int8", 2.03125)])
def test_moments_in_fewer_bits_take_what_is_counted(state: Any, per_weight: float) -> None:
    """Of the 4B model, built without memory: what is kept in float32 there is a thousandth."""
    with torch.device("meta"):
        parameters = list(OnePeace(load_config("4b")).parameters())
    groups: list[dict[str, Any]] = [{"params": parameters}]
    optimizer = LeanAdamW(groups, lr=1.0, betas=(0.9, 0.98), eps=1e-8, state=state)
    found = sum(value.nbytes for parameter in parameters for value in optimizer.empty_state(parameter).values())
    count = sum(parameter.numel() for parameter in parameters)
    assert moment_bytes(count, layout(1, state=state)) == pytest.approx(found, rel=0.005)
    assert moment_bytes(count, layout(1, state=state)) == pytest.approx(per_weight * count, rel=1e-6)
    half = estimate_memory(work(), layout(state=state), micro_batch_size=1)["AdamW state"]
    assert half == pytest.approx(per_weight / 8 * 2_759_268_497, rel=1e-6)


def test_what_is_recomputed_is_kept_in_a_fraction() -> None:
    none, cheap, layer = (activation_bytes(work(), layout(recompute=choice)) for choice in ("none", "cheap", "layer"))
    assert none / 40 < layer < none / 10
    assert none / 3 < cheap < none / 2


def test_each_part_depends_on_what_it_should() -> None:
    base = estimate_memory(work(), layout(), micro_batch_size=4)
    larger = estimate_memory(work(), layout(), micro_batch_size=8)
    wider = estimate_memory(work(), layout(16), micro_batch_size=4)
    assert larger["activations"] == 2 * base["activations"]
    assert 2 < larger["scores of the contrasts"] / base["scores of the contrasts"] <= 4
    assert wider["parameters"] == base["parameters"] // 2
    assert wider["gathered layers"] == base["gathered layers"]
    whole = estimate_memory(work(), layout(1), micro_batch_size=4)
    assert whole["gathered layers"] == 2_759_268_497 * 2


def test_the_published_masks_give_the_published_counts() -> None:
    assert term_sizes(work(), "image", 2) == (2 * 192, 2 * 256)
    assert term_sizes(work(), "vl_image", 2) == (2 * 176, 2 * 256)
