"""Models and inputs for benchmarks: made of a seed, of real shapes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.config import ModelConfig, load_config
from models.modalities import load_modality
from models.modalities.audio import SAMPLE_RATE_HZ, Waveforms
from models.onepeace import OnePeace
from models.tokenizer import EOS_ID

SMALL = {"embed_dim": 384, "ffn_dim": 1536, "num_layers": 12, "num_heads": 6}
"""The paper's model with other widths: what a CPU times in seconds."""


def bench_config(size: str, **changes: Any) -> ModelConfig:
    """Give a size by its name, or `small`: the paper's model with the widths of `SMALL`."""
    base = load_config("4b" if size == "small" else size)
    values = {**base.model_dump(), **(SMALL if size == "small" else {}), "name": size, "layer_scale_init": 0.1}
    return ModelConfig.parse({**values, **changes}, where=f"size {size!r}")


def spread_bias(model: torch.nn.Module) -> None:
    """Give the relative tables numbers, in place: they start at zero, where a wrong bias would not show."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".bias.tables." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)


def draw_pictures(model: ModelConfig, count: int) -> Tensor:
    """Draw (count, 3, side, side) as the image adapter takes them."""
    side = 16 * int(model.modalities["image"]["bias_grid_size"])
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def draw_texts(model: ModelConfig, lengths: Sequence[int]) -> Tensor:
    """Draw texts of so many tokens, EOS included, and batch them."""
    generator = torch.Generator().manual_seed(2)
    options = model.modalities["text"]
    rows = [
        torch.cat(
            [torch.randint(4, options["vocabulary_size"], (length - 1,), generator=generator), torch.tensor([EOS_ID])]
        )
        for length in lengths
    ]
    batch: Tensor = load_modality("text").collate(rows, options)
    return batch


def draw_clips(model: ModelConfig, seconds: Sequence[float]) -> Waveforms:
    """Draw clips of so many seconds and batch them."""
    generator = torch.Generator().manual_seed(3)
    clips = [torch.randn(int(length * SAMPLE_RATE_HZ), generator=generator) for length in seconds]
    batch: Waveforms = load_modality("audio").collate(clips, model.modalities["audio"])
    return batch


def caption_lengths(count: int) -> list[int]:
    """Give lengths in tokens that spread as those of captions do: most near 13, some three times that."""
    drawn = torch.empty(count).log_normal_(2.55, 0.5, generator=torch.Generator().manual_seed(4))
    return [int(length) for length in drawn.clamp(5, 70)]


def count_tokens(model: OnePeace, inputs: dict[str, Any]) -> int:
    """Count the tokens of a batch, classes included and padding left out."""
    options = model.config.modalities
    return sum(int(load_modality(name).find_units(value, options[name]).real.sum()) for name, value in inputs.items())
