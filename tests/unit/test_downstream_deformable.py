"""Deformable attention samples where the formula says; mmcv's own code is asked in test_downstream_data."""

import math

import pytest
import torch
from torch import Tensor

from downstream.engines.deformable import DeformableAttention, cell_centres

BATCH, HEADS, POINTS, DIM = 2, 3, 2, 12
SIZES = [(3, 4), (2, 1)]


def make_attention(*, value_ratio: float = 0.5, num_levels: int = 2) -> DeformableAttention:
    """Weights that are far from their start, so that every part matters."""
    attention = DeformableAttention(
        DIM, num_heads=HEADS, num_levels=num_levels, num_points=POINTS, value_ratio=value_ratio
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        for parameter in attention.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return attention.double()


def read(level_map: Tensor, x: float, y: float) -> Tensor:
    """One bilinear sample of (height, width, channels) at a place from 0 to 1; zero outside."""
    height, width, channels = level_map.shape
    column, row = x * width - 0.5, y * height - 0.5
    total = level_map.new_zeros(channels)
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * level_map[i, j]
    return total


def spelled_out(attention: DeformableAttention, query: Tensor, features: Tensor, places: Tensor) -> Tensor:
    """One sample, query, head, map and point at a time."""
    values = attention.value_proj(features)
    width = values.shape[2] // HEADS
    maps = values.split([height * width for height, width in SIZES], dim=1)
    out = torch.zeros(len(query), query.shape[1], values.shape[2], dtype=query.dtype)
    for b in range(len(query)):
        for q in range(query.shape[1]):
            offsets = attention.sampling_offsets(query[b, q]).view(HEADS, len(SIZES), POINTS, 2)
            weights = attention.attention_weights(query[b, q]).view(HEADS, -1).softmax(1).view(HEADS, len(SIZES), -1)
            for h in range(HEADS):
                part = slice(h * width, (h + 1) * width)
                for level, (rows, columns) in enumerate(SIZES):
                    level_map = maps[level][b, :, part].view(rows, columns, width)
                    for p in range(POINTS):
                        x, y = places[q] + offsets[h, level, p] / torch.tensor([columns, rows])
                        out[b, q, part] += weights[h, level, p] * read(level_map, float(x), float(y))
    return attention.output_proj(out)


@pytest.mark.parametrize("value_ratio", [0.5, 1.0])
def test_attention_equals_the_formula(value_ratio: float) -> None:
    attention = make_attention(value_ratio=value_ratio)
    query, features = torch.randn(BATCH, 5, DIM).double(), torch.randn(BATCH, 14, DIM).double()
    places = torch.rand(5, 2).double()
    with torch.no_grad():
        ours = attention(query, features, places=places, sizes=SIZES)
        expected = spelled_out(attention, query, features, places)
    assert ours.shape == (BATCH, 5, DIM)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_cells_stand_at_their_centres_row_by_row() -> None:
    centres = cell_centres([(2, 3), (1, 2)], torch.zeros(1, dtype=torch.float64))
    sixth = 1 / 6
    expected = [[x, y] for y in (0.25, 0.75) for x in (sixth, 0.5, 5 * sixth)] + [[0.25, 0.5], [0.75, 0.5]]
    torch.testing.assert_close(centres, torch.tensor(expected, dtype=torch.float64))


def test_heads_start_on_rays_with_equal_weights() -> None:
    attention = DeformableAttention(8, num_heads=4, num_levels=2, num_points=3, value_ratio=0.5)
    offsets = attention.sampling_offsets(torch.randn(5, 8)).view(5, 4, 2, 3, 2)
    rays = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for level in range(2):
        for point in range(3):
            torch.testing.assert_close(
                offsets[:, :, level, point], ((point + 1) * rays).expand(5, -1, -1), rtol=0, atol=1e-6
            )
    assert not attention.attention_weights(torch.randn(5, 8)).any()


def test_gradient_flows_to_every_parameter() -> None:
    attention = make_attention()
    query, features = torch.randn(BATCH, 5, DIM).double(), torch.randn(BATCH, 14, DIM).double()
    attention(query, features, places=torch.rand(5, 2).double(), sizes=SIZES).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in attention.parameters())
