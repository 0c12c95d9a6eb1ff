"""The feed-forward is the GeGLU of the paper."""

import math

import pytest
import torch
from torch import nn

from models.layers.feed_forward import FeedForward

BATCH, TOKENS, DIM, FFN_DIM = 2, 3, 5, 7


@pytest.mark.parametrize("has_inner_norm", [True, False])
def test_feed_forward_equals_the_formula(has_inner_norm: bool) -> None:
    torch.manual_seed(2)
    ffn = FeedForward(DIM, FFN_DIM, has_inner_norm=has_inner_norm).double()
    for parameter in ffn.inner_norm.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(BATCH, TOKENS, DIM).double()
    gate, up = x @ ffn.gate_proj.weight.t(), x @ ffn.up_proj.weight.t()
    hidden = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2))) * up
    if has_inner_norm:
        centred = hidden - hidden.mean(-1, keepdim=True)
        hidden = centred / (hidden.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        hidden = hidden * ffn.inner_norm.weight + ffn.inner_norm.bias
    expected = hidden @ ffn.down_proj.weight.t() + ffn.down_proj.bias
    torch.testing.assert_close(ffn(x), expected, rtol=0, atol=1e-12)


def test_each_token_is_transformed_for_itself() -> None:
    ffn = FeedForward(DIM, FFN_DIM, has_inner_norm=True)
    x = torch.randn(BATCH, TOKENS, DIM)
    torch.testing.assert_close(ffn(x)[:, 1:2], ffn(x[:, 1:2]))


def test_only_the_projection_back_has_a_bias() -> None:
    names = {name for name, _ in FeedForward(DIM, FFN_DIM, has_inner_norm=False).named_parameters()}
    assert names == {"gate_proj.weight", "up_proj.weight", "down_proj.weight", "down_proj.bias"}
