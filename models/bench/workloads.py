"""What is timed of the model."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor

from models.batch import move
from models.bench import plain
from models.bench.inputs import (
    bench_config,
    caption_lengths,
    count_tokens,
    draw_clips,
    draw_pictures,
    draw_texts,
    spread_bias,
)
from models.bench.measure import Workload
from models.contrast import align, read_scale
from models.onepeace import OnePeace, build_model
from models.optim import build_optimizer, parameter_groups
from models.retrieval import top_k
from models.training import OptimConfig
from models.world import Negatives

BATCHES: Final[Mapping[str, tuple[str, Callable[[Any], dict[str, Any]], float | None]]] = MappingProxyType(
    {
        "image forward": ("8 pictures of 256 px", lambda m: {"image": draw_pictures(m, 8)}, 0.85),
        "image forward, all tokens": ("8 pictures of 256 px", lambda m: {"image": draw_pictures(m, 8)}, None),
        "text forward": ("32 texts of 32 tokens", lambda m: {"text": draw_texts(m, [32] * 32)}, None),
        "text forward, real lengths": (
            f"32 captions, {sum(caption_lengths(32))} tokens, longest {max(caption_lengths(32))}",
            lambda m: {"text": draw_texts(m, caption_lengths(32))},
            0.5,
        ),
        "audio forward": ("4 clips of 5 s", lambda m: {"audio": draw_clips(m, [5.0] * 4)}, 0.7),
        "audio forward, mixed lengths": (
            "4 clips of 1, 3, 5 and 10 s",
            lambda m: {"audio": draw_clips(m, [1.0, 3.0, 5.0, 10.0])},
            None,
        ),
        "fused forward": (
            "8 pairs: 256 px, a caption",
            lambda m: {"text": draw_texts(m, caption_lengths(8)), "image": draw_pictures(m, 8)},
            None,
        ),
    }
)
"""Name to what goes in, in words and in numbers, and the bound that is wished."""

WITH_ALL_TOKENS: Final = ("image forward, all tokens", "fused forward")
"""What gives the features of every token; the others embed: unit vectors, made of the class tokens alone."""

FINE_TUNING: Final = "fine-tuning step"
RETRIEVAL: Final = "retrieval"
NUM_QUERIES, NUM_CANDIDATES = 5_000, 25_000  # COCO's test: pictures and captions
NAMES: Final = (*BATCHES, FINE_TUNING, RETRIEVAL)


def make_workloads(
    names: tuple[str, ...], size: str, *, device: torch.device, dtype: torch.dtype
) -> Iterator[Workload]:
    """Make the workloads asked for, one at a time, so that only one model stands in memory."""
    if any(name in BATCHES for name in names):
        config = bench_config(size)
        model = build_model(config, seed=0).to(device, dtype).eval()
        spread_bias(model)
        for name in names:
            if name in BATCHES and set(BATCHES[name][1](config)) <= set(config.modalities):
                yield _forward(name, model, device=device, dtype=dtype)
        del model
    if FINE_TUNING in names:
        yield _fine_tuning(size, device=device, dtype=dtype)
    if RETRIEVAL in names:
        yield _retrieval(bench_config(size).embed_dim, device)


def _forward(name: str, model: OnePeace, *, device: torch.device, dtype: torch.dtype) -> Workload:
    shape, draw, bound = BATCHES[name]
    inputs = draw(model.config)
    tokens, inputs = count_tokens(model, inputs), move(inputs, device, dtype=dtype)

    def encode() -> dict[str, Tensor]:
        with torch.inference_mode():
            found = model.encode(inputs)
            return {key: _without_padding(part.features, part.padding_mask) for key, part in found.items()}

    def encode_plainly() -> dict[str, Tensor]:
        with torch.inference_mode():
            found = plain.encode_parts(model, inputs)
            return {key: _without_padding(part.features, part.padding) for key, part in found.items()}

    def embed() -> dict[str, Tensor]:
        with torch.inference_mode():
            return model.embed(inputs)

    def embed_plainly() -> dict[str, Tensor]:
        with torch.inference_mode():
            return plain.embed(model, inputs)

    ours, spelled = (encode, encode_plainly) if name in WITH_ALL_TOKENS else (embed, embed_plainly)
    return Workload(name, shape, ours, spelled, tokens, bound)


def _without_padding(features: Tensor, padding: Tensor | None) -> Tensor:
    return features if padding is None else features.masked_fill(padding[..., None], 0)


def _fine_tuning(size: str, *, device: torch.device, dtype: torch.dtype) -> Workload:
    """Make a step of contrastive fine-tuning with layer-wise rates, as for COCO: a table a layer, drop path 0.5.

    The learning rate is zero, so that both formulations keep the same weights; a step costs the same.
    """
    config = bench_config(size).branch("text", "image", drop_path_rate=0.5, has_per_layer_bias=True)
    model = build_model(config, seed=0).to(device, dtype).train()
    spread_bias(model)
    inputs = {"text": draw_texts(config, caption_lengths(8)), "image": draw_pictures(config, 8)}
    tokens, inputs = count_tokens(model, inputs), move(inputs, device, dtype=dtype)
    settings = OptimConfig(lr=1e-5, warmup_steps=0)
    groups = parameter_groups(
        model.named_parameters(), weight_decay=0.05, layer_decay=0.9, num_layers=config.num_layers
    )
    bare = [{key: value for key, value in group.items() if key != "lr_scale"} for group in groups]
    optimizers = {
        "ours": build_optimizer(groups, settings),
        "plain": torch.optim.AdamW(bare, lr=0.0, betas=settings.betas, eps=settings.eps),
    }
    for group in optimizers["ours"].param_groups:
        group["lr"] = 0.0

    def step(embed: Callable[..., dict[str, Tensor]], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        vectors = embed(inputs)
        negatives = Negatives({name: value.detach() for name, value in vectors.items()}, first_row=0)
        loss = align(vectors, negatives, scale=read_scale(model.logit_scale)).loss
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    return Workload(
        FINE_TUNING,
        "8 pairs: 256 px, a caption; AdamW",
        lambda: step(model.embed, optimizers["ours"]),
        lambda: step(lambda batch: plain.embed(model, batch), optimizers["plain"]),
        tokens,
    )


def _retrieval(dim: int, device: torch.device) -> Workload:
    """Make the search of the best ten captions for every picture."""
    generator = torch.Generator().manual_seed(5)
    queries, gallery = (
        torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1).to(device)
        for count in (NUM_QUERIES, NUM_CANDIDATES)
    )
    return Workload(
        RETRIEVAL,
        f"{NUM_QUERIES} x {NUM_CANDIDATES}, best 10",
        lambda: {"scores": top_k(queries, gallery, 10)[0]},
        lambda: {"scores": (queries @ gallery.t()).topk(10, dim=1)[0]},
        None,
    )
