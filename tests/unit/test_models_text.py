"""A text's features are its own, whatever it is batched with."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import load_config
from models.modalities.text import MODALITY, PAD_ID
from models.onepeace import OnePeace, build_model


@pytest.fixture(scope="module")
def model() -> OnePeace:
    built = build_model(load_config("tiny").branch("text"), seed=0).eval()
    with torch.no_grad():  # tables start at zero and hide what depends on them
        built.adapters["text"].bias.tables[0].normal_(generator=torch.Generator().manual_seed(1))
    return built


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 12), padding=st.integers(0, 20), seed=st.integers(0, 99))
def test_padding_does_not_change_features(model: OnePeace, length: int, padding: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 96, (2, length + padding), generator=generator)
    ids[0, length:] = PAD_ID
    with torch.no_grad():
        batched = model.encode({"text": ids})["text"].features[0, : length + 1]
        single = model.encode({"text": ids[:1, :length]})["text"].features[0]
    torch.testing.assert_close(batched, single, rtol=0, atol=1e-5)


def test_tokens_are_embedding_plus_position_with_the_class_in_front(model: OnePeace) -> None:
    adapter = model.adapters["text"]
    tokens = adapter(torch.tensor([[7, 2, PAD_ID], [8, 9, 2]]))
    assert torch.equal(tokens.features[1, 0], adapter.cls_embedding[0, 0] + adapter.positions[0])
    assert torch.equal(tokens.features[1, 2], adapter.embed_tokens.weight[9] + adapter.positions[2])
    assert not tokens.features[0, 3].any()
    assert tokens.padding_mask is not None
    assert tokens.padding_mask.tolist() == [[False, False, False, True], [False] * 4]


def test_a_text_as_long_as_the_positions_fits_and_a_longer_one_is_refused(model: OnePeace) -> None:
    adapter = model.adapters["text"]
    assert adapter(torch.full((1, 129), 5)).features.shape == (1, 130, 32)
    with pytest.raises(ValueError, match="a text of 130 tokens, expected at most 129"):
        adapter(torch.full((1, 130), 5))


def test_the_padding_row_starts_at_zero_and_gets_no_gradient(model: OnePeace) -> None:
    weight = model.adapters["text"].embed_tokens.weight
    assert not weight[PAD_ID].any()
    tokens = model.adapters["text"](torch.tensor([[6, PAD_ID]]))
    (gradient,) = torch.autograd.grad(tokens.features.sum(), weight)
    assert not gradient[PAD_ID].any()
    assert gradient[6].any()


def test_nothing_of_text_is_resized() -> None:
    assert MODALITY.resize("positions", torch.zeros(5, 2), torch.Size([7, 2])) is None
