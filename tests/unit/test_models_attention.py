"""Self-attention is the softmax attention of the paper, spelled out in double precision."""

import math

import pytest
import torch
from torch import Tensor

from models.layers.attention import SelfAttention

BATCH, HEADS, TOKENS, DIM = 2, 3, 5, 12


@pytest.fixture
def attention() -> SelfAttention:
    torch.manual_seed(1)
    return SelfAttention(DIM, HEADS, has_inner_norm=True).double()


def spelled_out(attention: SelfAttention, x: Tensor, bias: Tensor | None) -> Tensor:
    """One sample, one head, one query at a time."""
    width = DIM // HEADS
    bias = None if bias is None else bias.expand(len(x), HEADS, TOKENS, TOKENS)
    q, k, v = attention.q_proj(x) * width**-0.5, attention.k_proj(x), attention.v_proj(x)
    merged = torch.zeros_like(x)
    for sample in range(len(x)):
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            for query in range(TOKENS):
                scores = k[sample, :, part] @ q[sample, query, part]
                scores = scores if bias is None else scores + bias[sample, head, query]
                merged[sample, query, part] = scores.softmax(0) @ v[sample, :, part]
    return attention.out_proj(attention.inner_norm(merged))


@pytest.mark.parametrize("shape", [(BATCH, HEADS, TOKENS, TOKENS), (1, HEADS, TOKENS, TOKENS), (BATCH, 1, 1, TOKENS)])
def test_attention_equals_softmax_attention_with_a_bias(attention: SelfAttention, shape: tuple[int, ...]) -> None:
    x, bias = torch.randn(BATCH, TOKENS, DIM).double(), torch.randn(shape).double()
    torch.testing.assert_close(attention(x, bias), spelled_out(attention, x, bias), rtol=0, atol=1e-12)


def test_attention_equals_softmax_attention_without_a_bias(attention: SelfAttention) -> None:
    x = torch.randn(BATCH, TOKENS, DIM).double()
    torch.testing.assert_close(attention(x, None), spelled_out(attention, x, None), rtol=0, atol=1e-12)


def test_hidden_keys_do_not_change_the_others(attention: SelfAttention) -> None:
    x = torch.randn(1, TOKENS, DIM).double()
    bias = torch.zeros(1, 1, 1, TOKENS).double()
    bias[..., 3:] = -math.inf
    changed = x.clone()
    changed[:, 3:] += 7
    assert torch.equal(attention(x, bias)[:, :3], attention(changed, bias)[:, :3])


def test_a_bias_of_another_type_is_read_in_the_type_of_the_tokens() -> None:
    attention = SelfAttention(DIM, HEADS, has_inner_norm=False).to(torch.bfloat16)
    out = attention(torch.randn(BATCH, TOKENS, DIM, dtype=torch.bfloat16), torch.zeros(1, HEADS, TOKENS, TOKENS))
    assert out.dtype == torch.bfloat16


def test_only_the_key_projection_has_no_bias(attention: SelfAttention) -> None:
    names = {name for name, _ in attention.named_parameters()}
    assert names == {
        *(f"{part}_proj.weight" for part in "qkv"),
        "q_proj.bias",
        "v_proj.bias",
        "out_proj.weight",
        "out_proj.bias",
        "inner_norm.weight",
        "inner_norm.bias",
    }


def test_gradient_flows_to_the_bias(attention: SelfAttention) -> None:
    bias = torch.zeros(1, HEADS, TOKENS, TOKENS, dtype=torch.float64, requires_grad=True)
    attention(torch.randn(BATCH, TOKENS, DIM).double(), bias)[..., 0].sum().backward()
    assert bias.grad is not None
    assert bias.grad.abs().sum() > 0
    torch.testing.assert_close(bias.grad.sum(-1), torch.zeros_like(bias.grad.sum(-1)))


PADDING = torch.tensor([[False, False, False, True, True], [False, False, False, False, True]])


@pytest.mark.parametrize("has_bias", [True, False])
def test_padded_keys_are_hidden_as_by_minus_infinity(attention: SelfAttention, has_bias: bool) -> None:
    x = torch.randn(BATCH, TOKENS, DIM, dtype=torch.float64)
    bias = torch.randn(1, HEADS, TOKENS, TOKENS, dtype=torch.float64) if has_bias else None
    masked = torch.zeros(BATCH, 1, 1, TOKENS, dtype=torch.float64).masked_fill(PADDING[:, None, None], -math.inf)
    expected = spelled_out(attention, x, masked if bias is None else bias + masked)
    torch.testing.assert_close(attention(x, bias, PADDING), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_what_stands_on_padding_changes_no_bit_in_any_precision(attention: SelfAttention, dtype: torch.dtype) -> None:
    attention = attention.to(dtype)
    x = torch.randn(BATCH, TOKENS, DIM, dtype=dtype)
    garbage = torch.where(PADDING[..., None], torch.full_like(x, 7), x)
    bias = torch.randn(1, HEADS, TOKENS, TOKENS, dtype=dtype)
    ours, theirs = (attention(tokens, bias, PADDING)[~PADDING] for tokens in (x, garbage))
    assert torch.equal(ours, theirs)


def test_hidden_keys_leave_finite_gradients(attention: SelfAttention) -> None:
    x = torch.randn(BATCH, TOKENS, DIM, dtype=torch.float64, requires_grad=True)
    attention(x, torch.randn(1, HEADS, TOKENS, TOKENS, dtype=torch.float64), PADDING)[~PADDING].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in attention.parameters() if parameter.grad is not None)
