"""Group 10: how many words and frames the pretraining masks hide."""

import re

import numpy as np
import pytest
import torch

from models.batch import Units
from pretrain.config import MaskConfig
from pretrain.masking import draw_masks

pytestmark = pytest.mark.golden

SPANS = re.compile(r"block_mask_1d_masked_count \(length (?P<span>\d+), adjust (?P<adjust>[\d.]+)\)")
TOKENS_A_WORD = 3


def draw(config: MaskConfig, *, num_units: int, starts: torch.Tensor | None = None) -> torch.Tensor:
    """One sample's mask, its class and an end mark around so many units."""
    real = torch.ones(1, num_units + 2, dtype=torch.bool)
    maskable = real.clone()
    maskable[:, [0, -1]] = False
    masks = draw_masks(
        {"term": config},
        {"term": "any"},
        {"any": Units(real, maskable)},
        word_starts={} if starts is None else {"any": starts[None]},
        rngs=[np.random.default_rng(num_units)],
    )
    return masks["term"].masked[0]


def masked_words(num_words: int, ratio: float) -> int:
    """How many starts are masked where every word has three tokens."""
    num_units = num_words * TOKENS_A_WORD
    starts = torch.ones(num_units + 2, dtype=torch.bool)  # the class and the end mark count as starts too
    starts[1:-1] = torch.arange(num_units) % TOKENS_A_WORD == 0
    masked = draw(MaskConfig(kind="words", ratio=ratio), num_units=num_units, starts=starts)
    return int((masked & starts).sum())


def test_masked_words(find_cases):
    for case in find_cases("10"):
        stored = case.manifest["whole_word_masked_word_starts"]
        assert stored
        for ratio, counts in stored.items():
            assert {number: masked_words(int(number), float(ratio)) for number in counts} == counts


def masked_frames(case, *, more: float = 0.0) -> dict:
    """Our counts in the form of the stored ones."""
    found = {}
    for key, stored in case.manifest.items():
        if match := SPANS.fullmatch(key):
            span, adjust = int(match["span"]), float(match["adjust"])
            found[key] = {
                ratio: {
                    length: int(
                        draw(
                            MaskConfig(kind="spans", ratio=float(ratio) + more, span=span, adjust=adjust),
                            num_units=int(length),
                        ).sum()
                    )
                    for length in counts
                }
                for ratio, counts in stored.items()
            }
    assert found
    return found


def test_masked_frames(find_cases):
    for case in find_cases("10"):
        for key, counts in masked_frames(case).items():
            assert counts == case.manifest[key]


def test_a_planted_error_in_the_counts_is_seen(find_cases, monkeypatch):
    (case, *_) = find_cases("10")
    for key, counts in masked_frames(case, more=0.02).items():
        assert counts != case.manifest[key]
    monkeypatch.setattr("pretrain.masking.count_words", lambda number, ratio: int(number * ratio))
    for ratio, counts in case.manifest["whole_word_masked_word_starts"].items():
        assert {number: masked_words(int(number), float(ratio)) for number in counts} != counts
