"""A modality in one file: depth maps, one channel, patches of 16."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.batch import Tokens
from models.config import ModelConfig, PositiveInt, Settings
from models.layers.position_bias import RelativeTables, grid_buckets, num_grid_rows
from models.modalities.base import Modality


class DepthOptions(Settings):
    grid_size: PositiveInt


class DepthAdapter(nn.Module):
    """Depth maps to tokens."""

    def __init__(self, dim: int, *, num_heads: int, num_tables: int, grid_size: int) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.stem = nn.Conv2d(1, dim, kernel_size=16, stride=16)
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(grid_size**2 + 1, dim) * 0.02)
        self.bias = RelativeTables(num_tables, num_grid_rows(grid_size), num_heads)

    def forward(self, depth: Tensor) -> Tokens:
        """Embed (batch, 1, side, side)."""
        patches = self.stem(depth).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_embedding.expand(len(depth), -1, -1), patches], dim=1) + self.positions
        return Tokens(features=x, bias=self.bias(grid_buckets(self.grid_size, x.device)))


class DepthModality:
    """Depth maps."""

    name = "depth"
    transforms: Mapping[str, Callable[..., Tensor]] = {"depth": torch.atleast_3d}

    def read(self, source: Tensor) -> Tensor:
        return source

    def build_adapter(self, options: Mapping[str, Any], config: ModelConfig) -> DepthAdapter:
        grid_size = DepthOptions.parse(options, where="depth").grid_size
        tables, heads = config.num_bias_tables, config.num_heads
        return DepthAdapter(config.embed_dim, num_heads=heads, num_tables=tables, grid_size=grid_size)

    def collate(self, examples: Sequence[Tensor], options: Mapping[str, Any]) -> Tensor:
        return torch.stack(list(examples))

    def resize(self, name: str, stored: Tensor, shape: torch.Size) -> None:
        return None


MODALITY: Modality = DepthModality()
