"""The residual connection scales a branch, and drops it for whole samples."""

import pytest
import torch

from models.layers.residual import Residual

BATCH, TOKENS, DIM = 400, 3, 5


def test_the_branch_is_scaled_per_channel() -> None:
    residual = Residual(DIM, scale_init=0.25, drop_rate=0.0)
    assert residual.gamma is not None
    with torch.no_grad():
        residual.gamma.copy_(torch.arange(5.0))
    x, branch = torch.randn(2, TOKENS, DIM), torch.randn(2, TOKENS, DIM)
    torch.testing.assert_close(residual(x, branch), x + torch.arange(5.0) * branch)


def test_layer_scale_starts_where_told() -> None:
    residual = Residual(DIM, scale_init=1e-6, drop_rate=0.0)
    assert residual.gamma is not None
    assert residual.gamma.tolist() == pytest.approx([1e-6] * DIM)


def test_without_layer_scale_there_is_no_parameter() -> None:
    residual = Residual(DIM, scale_init=None, drop_rate=0.0)
    assert list(residual.parameters()) == []
    assert torch.equal(residual(torch.ones(1, 2, DIM), torch.ones(1, 2, DIM)), torch.full((1, 2, DIM), 2.0))


def test_drop_path_drops_whole_samples_and_scales_the_rest() -> None:
    residual = Residual(DIM, scale_init=None, drop_rate=0.4).train()
    x, branch = torch.zeros(BATCH, TOKENS, DIM), torch.ones(BATCH, TOKENS, DIM)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = residual(x, branch)
    rows = out.flatten(1)
    assert (rows == rows[:, :1]).all()
    torch.testing.assert_close(rows.unique(), torch.tensor([0.0, 1 / 0.6]))
    assert 0.3 < (rows[:, 0] == 0).float().mean() < 0.5


def test_nothing_is_dropped_outside_training() -> None:
    residual = Residual(DIM, scale_init=None, drop_rate=0.9).eval()
    x, branch = torch.randn(7, TOKENS, DIM), torch.randn(7, TOKENS, DIM)
    assert torch.equal(residual(x, branch), x + branch)
