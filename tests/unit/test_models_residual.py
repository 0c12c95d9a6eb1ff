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
    seen = []

    def branch(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return torch.ones_like(part)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = residual.run(torch.zeros(BATCH, TOKENS, DIM), branch)
    rows = out.flatten(1)
    assert (rows == rows[:, :1]).all()
    torch.testing.assert_close(rows.unique(), torch.tensor([0.0, 1 / 0.6]))
    assert 0.3 < (rows[:, 0] == 0).float().mean() < 0.5
    assert seen == [int((rows[:, 0] != 0).sum())], "the branch of dropped samples is not computed"


def test_the_gradient_is_that_of_a_mask() -> None:
    residual = Residual(DIM, scale_init=0.5, drop_rate=0.4).train()
    x = torch.randn(9, TOKENS, DIM, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = residual.run(x, torch.sin)
        torch.manual_seed(0)
        mask = residual.draw(9)[:, None, None] / 0.6
    assert residual.gamma is not None
    expected = x + mask * residual.gamma * torch.sin(x)
    torch.testing.assert_close(out, expected)
    weights = torch.randn_like(x)
    for leaf in (x, residual.gamma):
        ours, theirs = (torch.autograd.grad((y * weights).sum(), leaf, retain_graph=True) for y in (out, expected))
        torch.testing.assert_close(ours, theirs)


def test_nothing_is_dropped_outside_training() -> None:
    residual = Residual(DIM, scale_init=None, drop_rate=0.9).eval()
    x, branch = torch.randn(7, TOKENS, DIM), torch.randn(7, TOKENS, DIM)
    assert torch.equal(residual.run(x, lambda part: branch[: len(part)]), x + branch)
