"""The convolutions over a waveform, each with its norm and activation, computed with the channels last."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ExtractorBlock(nn.Module):
    """One convolution over the waveform with its norm and activation, channels last.

    The convolution is one matrix product over windows: norm and activation want the channels last, and bringing them
    there and back around every convolution costs more than the convolution.
    """

    def __init__(self, in_channels: int, channels: int, *, kernel: int, stride: int, has_bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, kernel, stride=stride, bias=has_bias)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, length, in_channels) to (batch, shorter length, channels)."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        weight = self.conv.weight.permute(0, 2, 1).flatten(1)
        return functional.gelu(self.norm(functional.linear(cut_windows(x, kernel, stride), weight, self.conv.bias)))


def cut_windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Put what a convolution sees at each place side by side.

    Args:
        x: (batch, length, channels).
        kernel: places of a window.
        stride: places between two windows.

    Returns:
        (batch, windows, kernel * channels), a view where windows do not overlap.
    """
    num_windows = (x.shape[1] - kernel) // stride + 1
    if kernel % stride:
        last = (num_windows - 1) * stride + 1
        return torch.cat([x[:, first : first + last : stride] for first in range(kernel)], dim=-1)
    num_blocks = num_windows + kernel // stride - 1
    blocks = x[:, : num_blocks * stride].reshape(len(x), num_blocks, stride * x.shape[2])
    if kernel == stride:
        return blocks
    return torch.cat([blocks[:, first : first + num_windows] for first in range(kernel // stride)], dim=-1)


def build_extractor(spec: Sequence[tuple[int, int, int]], *, has_bias: bool) -> nn.Sequential:
    """Chain the convolutions over the waveform, each given by channels, kernel and stride."""
    inputs = [1, *(channels for channels, _, _ in spec)]
    return nn.Sequential(
        *(
            ExtractorBlock(in_channels, channels, kernel=kernel, stride=stride, has_bias=has_bias)
            for in_channels, (channels, kernel, stride) in zip(inputs, spec, strict=False)
        )
    )
