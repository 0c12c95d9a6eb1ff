"""Multi-scale deformable attention in plain PyTorch, as the ViT-Adapter uses it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GridSize = tuple[int, int]  # height, width


def cell_centres(sizes: Sequence[GridSize], like: Tensor) -> Tensor:
    """Place every cell of several maps at its centre, in (x, y) from 0 to 1.

    Args:
        sizes: height and width of each map.
        like: a tensor of the wanted type and device.

    Returns:
        (cells of all maps, 2), row by row.
    """
    centres = []
    for height, width in sizes:
        y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
        x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
        centres.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1))
    return torch.cat(centres)


class DeformableAttention(nn.Module):
    """Each query samples a few learned points around its own place on every map.

    Args:
        dim: width of queries and features.
        num_heads: heads; must divide `dim * value_ratio`.
        num_levels: maps that are sampled.
        num_points: samples on each map.
        value_ratio: width of the values relative to `dim`.

    Source: ViT-Adapter as the released segmentation model uses it; Deformable DETR.
    """

    def __init__(self, dim: int, *, num_heads: int, num_levels: int, num_points: int, value_ratio: float) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        value_dim = int(dim * value_ratio)
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, value_dim)
        self.output_proj = nn.Linear(value_dim, dim)
        self._start_on_rays()

    def forward(self, query: Tensor, features: Tensor, *, places: Tensor, sizes: Sequence[GridSize]) -> Tensor:
        """Sample the maps around each query's place.

        Args:
            query: (batch, queries, dim).
            features: (batch, cells of all maps, dim).
            places: (queries, 2), the queries' own places in (x, y) from 0 to 1, the same on every map.
            sizes: height and width of each map.

        Returns:
            (batch, queries, dim).
        """
        batch, num_queries, _ = query.shape
        shape = (batch, num_queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*shape, 2)
        weights = self.attention_weights(query).view(*shape[:3], -1).softmax(-1)
        extent = query.new_tensor([(width, height) for height, width in sizes])[:, None]
        points = places[:, None, None, None] + offsets / extent
        sampled = self._sample(self.value_proj(features), points, sizes)
        weights = weights.permute(0, 2, 1, 3).flatten(0, 1).unsqueeze(1)
        mixed = (sampled * weights).sum(-1).unflatten(0, (batch, self.num_heads)).flatten(1, 2)
        out: Tensor = self.output_proj(mixed.transpose(1, 2))
        return out

    def _sample(self, values: Tensor, points: Tensor, sizes: Sequence[GridSize]) -> Tensor:
        """Read the values bilinearly, zero outside a map: (batch * heads, width, queries, levels * points)."""
        maps = values.split([height * width for height, width in sizes], dim=1)
        sampled = []
        for level, (height, width) in enumerate(sizes):
            level_map = maps[level].transpose(1, 2).reshape(len(values) * self.num_heads, -1, height, width)
            grid = points[:, :, :, level].transpose(1, 2).flatten(0, 1) * 2 - 1
            sampled.append(functional.grid_sample(level_map, grid, padding_mode="zeros", align_corners=False))
        return torch.cat(sampled, dim=-1)

    def _start_on_rays(self) -> None:
        """Start with each head's points on a ray of its own, and all weights equal."""
        angle = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        ray = torch.stack([angle.cos(), angle.sin()], dim=1)
        ray = ray / ray.abs().amax(dim=1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        bias = ray[:, None, None] * steps[:, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.num_levels, -1, -1).flatten())
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)
