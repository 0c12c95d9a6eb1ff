"""A modality in one file: depth maps, one channel, patches of 16."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.batch import Embedded, Tokens, Units
from models.config import ModelConfig
from models.layers.position_bias import RelativeTables, grid_buckets, num_grid_rows
from models.modalities.base import Adapter, Modality, keep_tokens


class DepthAdapter(Adapter):
    """Depth maps to tokens."""

    def __init__(self, config: ModelConfig, *, grid_size: int) -> None:
        super().__init__()
        self.grid_size, dim = grid_size, config.embed_dim
        self.stem = nn.Conv2d(1, dim, kernel_size=16, stride=16)
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(grid_size**2 + 1, dim) * 0.02)
        self.bias = RelativeTables(config.num_bias_tables, num_grid_rows(grid_size), config.num_heads)

    def embed(self, inputs: Tensor) -> Embedded:
        """Cut (batch, 1, side, side) into patches."""
        patches = self.stem(inputs).flatten(2).transpose(1, 2)
        return Embedded(torch.cat([self.cls_embedding.expand(len(inputs), -1, -1), patches], dim=1))

    def place(self, embedded: Embedded, kept: Tensor | None = None) -> Tokens:
        bias = self.bias(grid_buckets(self.grid_size, embedded.units.device))
        return keep_tokens(Tokens(embedded.units + self.positions, bias=bias), kept)


class DepthModality:
    """Depth maps."""

    name = "depth"
    transforms: Mapping[str, Callable[..., Tensor]] = {"depth": lambda depth: depth}

    def read(self, source: bytes) -> Tensor:
        """Decode NumPy's format: (1, side, side) float32."""
        return torch.from_numpy(np.load(io.BytesIO(source), allow_pickle=False))

    def collate(self, examples: Sequence[Tensor], options: Mapping[str, Any]) -> Tensor:
        return torch.stack(list(examples))

    def find_units(self, inputs: Tensor, options: Mapping[str, Any]) -> Units:
        real = torch.ones(len(inputs), self.count_positions(options), dtype=torch.bool)
        return Units(real, real & (torch.arange(real.shape[1]) > 0))

    def count_positions(self, options: Mapping[str, Any]) -> int:
        return int(options["grid_size"]) ** 2 + 1

    def build_adapter(self, options: Mapping[str, Any], config: ModelConfig) -> DepthAdapter:
        return DepthAdapter(config, grid_size=int(options["grid_size"]))

    def resize(self, name: str, stored: Tensor, shape: torch.Size) -> None:
        return None


MODALITY: Modality = DepthModality()
