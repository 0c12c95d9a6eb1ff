"""The image modality: patches of 16 by the hMLP stem, 2-D positions."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.batch import Tokens
from models.config import ModelConfig, PositiveInt, Settings
from models.layers.position_bias import (
    RelativeTables,
    grid_buckets,
    num_grid_rows,
    resize_grid_table,
    resize_positions,
)
from models.modalities.base import Modality

PATCH_SIZE_PX = 16


class ImageOptions(Settings):
    """The image block of a size."""

    grid_size: PositiveInt
    """Patches along one side that have an absolute position; the paper's model: 16, that is 256 px."""
    bias_grid_size: PositiveInt
    """Patches along one side of the input; it fixes the resolution. Other absolute positions are resized to it."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (batch, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel for itself."""
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class ImageAdapter(nn.Module):
    """Pictures to tokens.

    Args:
        dim: width of a token.
        num_heads: attention heads, for the relative table.
        num_tables: 1 for a relative table that all layers share, else the number of layers.
        options: grid sizes.

    Source: paper, Architecture (hMLP stem); reference one_peace/models/adapter/image_adapter.py.
    """

    def __init__(self, dim: int, *, num_heads: int, num_tables: int, options: ImageOptions) -> None:
        super().__init__()
        self.grid_size = options.bias_grid_size
        narrow = dim // 4
        self.stem = nn.Sequential(
            nn.Conv2d(3, narrow, kernel_size=4, stride=4),
            ChannelNorm(narrow),
            nn.GELU(),
            nn.Conv2d(narrow, narrow, kernel_size=2, stride=2),
            ChannelNorm(narrow),
            nn.GELU(),
            nn.Conv2d(narrow, dim, kernel_size=2, stride=2),
        )
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(options.grid_size**2 + 1, dim) * 0.02)
        self.bias = RelativeTables(num_tables, num_grid_rows(self.grid_size), num_heads)

    @property
    def image_size_px(self) -> int:
        """Side of the square pictures this adapter takes."""
        return self.grid_size * PATCH_SIZE_PX

    def forward(self, images: Tensor) -> Tokens:
        """Embed a batch of pictures.

        Args:
            images: (batch, 3, image_size_px, image_size_px), normalised.

        Returns:
            grid_size**2 + 1 tokens, the class first, then patches row by row; none is padding.

        Raises:
            ValueError: pictures of another size.
        """
        if images.shape[1:] != (3, self.image_size_px, self.image_size_px):
            raise ValueError(
                f"pictures of shape {tuple(images.shape[1:])}, expected (3, {self.image_size_px}, "
                f"{self.image_size_px}); resize them, or build the model with another bias_grid_size"
            )
        patches = self.stem(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_embedding.expand(len(images), -1, -1), patches], dim=1)
        x = x + resize_positions(self.positions, self.grid_size)
        return Tokens(features=x, bias=self.bias(grid_buckets(self.grid_size, x.device)))


class ImageModality:
    """Pictures."""

    name = "image"

    def build_adapter(self, options: Mapping[str, Any], config: ModelConfig) -> ImageAdapter:
        """Build the adapter of one size."""
        return ImageAdapter(
            config.embed_dim,
            num_heads=config.num_heads,
            num_tables=config.num_bias_tables,
            options=ImageOptions.parse(options, where=f"size {config.name!r}, modality 'image'"),
        )

    def resize(self, name: str, stored: Tensor, shape: torch.Size) -> Tensor | None:
        """Bring positions and relative tables of another grid to this one's."""
        if name == "positions":
            return resize_positions(stored, math.isqrt(shape[0] - 1))
        if name.startswith("bias.tables."):
            return resize_grid_table(stored, (math.isqrt(shape[0]) + 1) // 2)
        return None


MODALITY: Modality = ImageModality()
