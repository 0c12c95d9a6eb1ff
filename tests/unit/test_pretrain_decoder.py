"""What a masked pass saw lands where it belongs, mask tokens fill the rest, and padding stays out of it."""

from unittest import mock

import pytest
import torch
from torch import Tensor

from models.config import load_config
from pretrain.config import DecoderConfig
from pretrain.decoder import Decoder, KeptTokens

MODEL = load_config("tiny").branch("text", "audio")
KEPT = torch.tensor([[0, 2, 5], [0, 3, -1]])
REAL = torch.tensor([[True] * 6 + [False], [True] * 4 + [False] * 3])


def build(padding_mode: str = "masked") -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig.parse(
        {"embed_dim": 24, "ffn_dim": 32, "num_layers": 2, "num_heads": 2, "padding_mode": padding_mode}, where="test"
    )
    return Decoder(config, MODEL).eval()


def seen_of(real: Tensor = REAL, *, seed: int = 0) -> KeptTokens:
    features = torch.randn(*KEPT.shape, MODEL.embed_dim, generator=torch.Generator().manual_seed(seed))
    return KeptTokens(features, KEPT, real)


def decode(decoder: Decoder, **seen: KeptTokens) -> dict[str, Tensor]:
    """What one masked pass becomes."""
    (decoded,) = decoder([seen])
    return decoded


def filled_in(decoder: Decoder, seen: KeptTokens) -> Tensor:
    """What the decoder's own encoder gets."""
    with mock.patch.object(decoder.encoder, "join", wraps=decoder.encoder.join) as join:
        decode(decoder, audio=seen)
    (tokens,) = join.call_args.args
    return tokens["audio"].features


def test_kept_tokens_land_where_they_belong_and_mask_tokens_everywhere_else():
    decoder, seen = build(), seen_of()
    found = filled_in(decoder, seen)
    kept = decoder.inputs["audio"](seen.features)
    for row in range(2):
        where = {int(place): kept[row, slot] for slot, place in enumerate(KEPT[row]) if place >= 0}
        for place in range(REAL.shape[1]):
            token = where.get(place, decoder.mask_tokens["audio"][0]) + decoder.positions["audio"][place]
            torch.testing.assert_close(found[row, place], token if REAL[row, place] else torch.zeros_like(token))


def test_empty_slots_reach_nothing():
    decoder, seen = build(), seen_of()
    other = seen.features.clone()
    other[1, 2] = 1e3
    torch.testing.assert_close(
        filled_in(decoder, KeptTokens(other, seen.kept, seen.real)), filled_in(decoder, seen), rtol=0, atol=0
    )


def test_each_modality_has_its_own_mask_token_positions_and_ways_in_and_out():
    decoder = build()
    alone = decode(decoder, audio=seen_of())["audio"]
    text = KeptTokens(seen_of(seed=1).features, KEPT, REAL)
    fused = decode(decoder, text=text, audio=seen_of())
    assert fused["text"].shape == fused["audio"].shape == (*REAL.shape, MODEL.embed_dim)
    assert not torch.allclose(fused["audio"][REAL], alone[REAL], atol=1e-4)  # it hears the text


def test_passes_decoded_together_are_what_each_is_alone():
    decoder = build()
    passes = [
        {"audio": seen_of()},
        {"text": seen_of(seed=1)},
        {"text": seen_of(seed=2), "audio": seen_of(seed=3)},
    ]
    together = decoder(passes)
    assert [list(part) for part in together] == [list(seen) for seen in passes]
    for part, seen in zip(together, passes, strict=True):
        torch.testing.assert_close(part, decode(decoder, **seen))


@pytest.mark.parametrize(("padding_mode", "is_equal"), [("masked", True), ("reference", False)])
def test_padding_reaches_real_positions_in_reference_mode_only(padding_mode, is_equal):
    decoder = build(padding_mode)
    longer = torch.cat([REAL, torch.zeros(2, 5, dtype=torch.bool)], dim=1)
    short, long = (decode(decoder, audio=seen_of(real))["audio"] for real in (REAL, longer))
    assert torch.allclose(long[:, : REAL.shape[1]][REAL], short[REAL], atol=1e-6) is is_equal


def test_what_is_decoded_trains_mask_tokens_positions_and_both_linears():
    decoder = build()
    decode(decoder, audio=seen_of())["audio"][REAL].square().sum().backward()
    for name, parameter in decoder.named_parameters():
        is_used = ".audio" in name or (name.startswith("encoder") and ".text" not in name)
        is_idle = name.startswith(("cls_embeddings", "mask_embeddings"))  # published, and used by nothing
        assert (parameter.grad is not None) == (is_used and not is_idle), name
