"""What is timed of pretraining: the losses of a step with all their gradients."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.batch import move
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
from models.modalities import load_modality
from models.onepeace import OnePeace, initialise
from pretrain.bench import plain
from pretrain.config import DecoderConfig, StageConfig, load_stage
from pretrain.decoder import Decoder
from pretrain.masking import draw_masks
from pretrain.objective import Objective, PairBatch, StepLosses
from pretrain.stages import freeze

BATCH_SIZE: Final = 8
CLIP_S: Final = 5.0
BOUNDS: Final = {"stage1": 0.55, "stage2": 0.5}
NAMES: Final = ("stage1 step", "stage1 step, no drop path", "stage2 step", "stage2 step, no drop path")
SMALL_DECODER: Final = {"embed_dim": 192, "ffn_dim": 512, "num_heads": 3}
"""A quarter of the paper's, as the small model is."""


def make_workloads(
    names: tuple[str, ...], size: str, *, device: torch.device, dtype: torch.dtype
) -> Iterator[Workload]:
    """Make the workloads asked for, one at a time."""
    for name in names:
        stage = find_stage(name.split()[0], size)
        yield make_step(name, stage, size, has_drop_path="no drop path" not in name).on(device, dtype)


def find_stage(stage: str, size: str) -> StageConfig:
    """Load a stage's config for a size of the benchmark; the small one is trained as the paper's."""
    return load_stage(stage, "4b" if size == "small" else size)


class Step:
    """One stage's losses and gradients over a drawn batch, in both formulations."""

    def __init__(self, name: str, objective: Objective, batch: PairBatch, *, words: str, bound: float | None) -> None:
        self.name, self.objective, self.batch, self.words, self.bound = name, objective, batch, words, bound

    def on(self, device: torch.device, dtype: torch.dtype) -> Workload:
        """Bring it to a device and a type."""
        inputs = dict(self.batch.inputs)
        tokens = count_tokens(self.objective.model, inputs)
        self.objective.to(device, dtype)
        self.batch = move(self.batch, device, dtype=dtype)
        return Workload(self.name, self.words, self.run, self.run_plain, tokens, self.bound)

    def run(self) -> dict[str, Tensor]:
        """Compute ours; the loss, its terms and the norm of all gradients."""
        self._begin()
        losses = self.objective(self.batch)
        assert isinstance(losses, StepLosses), "an objective that gathers gives losses"
        losses.total.backward()
        return self._summarise(losses.total, losses.terms)

    def run_plain(self) -> dict[str, Tensor]:
        """Compute the plain formulation's."""
        self._begin()
        total, terms = plain.total_loss(self.objective, self.batch)
        total.backward()
        return self._summarise(total, terms)

    def _begin(self) -> None:
        torch.manual_seed(0)
        self.objective.zero_grad()

    def _summarise(self, total: Tensor, terms: Any) -> dict[str, Tensor]:
        gradients = [value.grad for value in self.objective.parameters() if value.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        return {"total": total.detach(), **{name: value.detach() for name, value in terms.items()}, "gradient": norm}


def make_step(name: str, stage: StageConfig, size: str, *, has_drop_path: bool) -> Step:
    """Build a stage's objective with fresh weights, and draw a batch with its masks."""
    pair = stage.objective.pair
    config = bench_config(size).branch(*pair, drop_path_rate=stage.drop_path_rate if has_drop_path else 0.0)
    decoder = DecoderConfig.model_validate(SMALL_DECODER) if size == "small" else stage.decoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = Objective(OnePeace(config), Decoder(decoder, config), stage.objective).apply(initialise)
    spread_bias(objective)
    freeze(objective, stage.trained)
    lengths = caption_lengths(BATCH_SIZE)
    inputs: dict[str, Any] = {"text": draw_texts(config, lengths)}
    words = f"{BATCH_SIZE} pairs: captions of {min(lengths)} to {max(lengths)} tokens, "
    if "image" in pair:
        inputs["image"], words = draw_pictures(config, BATCH_SIZE), f"{words}256 px"
    else:
        inputs["audio"], words = draw_clips(config, [CLIP_S] * BATCH_SIZE), f"{words}clips of {CLIP_S:g} s"
    words += f", drop path {config.drop_path_rate:g}"
    bound = BOUNDS[stage.stage] if has_drop_path else None
    return Step(name, objective.train(), _mask(inputs, config.modalities, stage), words=words, bound=bound)


def _mask(inputs: dict[str, Any], modalities: dict[str, dict[str, Any]], stage: StageConfig) -> PairBatch:
    units = {name: load_modality(name).find_units(value, modalities[name]) for name, value in inputs.items()}
    generator = torch.Generator().manual_seed(8)
    starts = units["text"].maskable & (torch.rand(units["text"].real.shape, generator=generator) < 0.7)
    terms = stage.objective.terms
    masks = draw_masks(
        {name: term.mask for name, term in terms.items()},
        {name: term.modality for name, term in terms.items()},
        units,
        word_starts={"text": starts},
        rngs=[np.random.default_rng(row) for row in range(BATCH_SIZE)],
    )
    return PairBatch(inputs, units, masks)
