"""The extractor gives the same frames whole and in pieces."""

import pytest
import torch

from models.layers import extractor as module
from models.layers.extractor import build_extractor

SPEC = [(6, 10, 5), (8, 3, 2), (8, 3, 2), (4, 2, 2)]


@pytest.mark.parametrize("samples", [105, 106, 999, 4000])
@pytest.mark.parametrize("piece_bytes", [1, 5_000, 1 << 20])
def test_pieces_are_the_whole(samples: int, piece_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", piece_bytes)
    extractor = build_extractor(SPEC, has_bias=True).double()
    x = torch.randn(3, samples, 1, dtype=torch.float64)
    whole = extractor(x)
    assert whole.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(extractor(x), whole.detach(), rtol=1e-12, atol=1e-12)


def test_a_clip_without_a_frame_is_as_before() -> None:
    extractor = build_extractor(SPEC[:1], has_bias=False)
    with torch.no_grad():
        assert extractor(torch.zeros(2, 10, 1)).shape == (2, 1, 6)


def test_a_frozen_extractor_runs_in_pieces_while_others_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 1)
    extractor = build_extractor(SPEC, has_bias=False).requires_grad_(False)
    seen: list[int] = []
    extractor[0].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    extractor(torch.randn(2, 400, 1))
    assert seen
    assert set(seen) == {1}, "one clip at a time"
