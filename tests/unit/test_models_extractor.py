"""The extractor's matrix products are the convolutions that its weights were trained as."""

import pytest
import torch
from torch.nn import functional

from models.layers.extractor import ExtractorBlock, cut_windows


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (3, 2), (2, 2), (3, 1), (6, 2), (1, 1), (2, 3)])
@pytest.mark.parametrize("length", [10, 11, 17, 64])
def test_windows_times_weights_are_a_convolution(kernel, stride, length):
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(2, length, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 3, kernel, generator=generator, dtype=torch.float64)
    ours = cut_windows(x, kernel, stride) @ weight.permute(0, 2, 1).flatten(1).t()
    theirs = functional.conv1d(x.transpose(1, 2), weight, stride=stride).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_windows_that_do_not_overlap_are_a_view():
    x = torch.arange(24.0).view(1, 12, 2)
    assert cut_windows(x, 3, 3).data_ptr() == x.data_ptr()
    assert cut_windows(x, 3, 3).tolist() == x.view(1, 4, 6).tolist()


def test_a_block_keeps_the_parameters_of_a_convolution():
    block = ExtractorBlock(3, 5, kernel=3, stride=2, has_bias=True)
    x = torch.randn(2, 9, 3)
    spelled_out = functional.conv1d(x.transpose(1, 2), block.conv.weight, block.conv.bias, stride=2).transpose(1, 2)
    expected = functional.gelu(functional.layer_norm(spelled_out, (5,), block.norm.weight, block.norm.bias))
    torch.testing.assert_close(block(x), expected)
