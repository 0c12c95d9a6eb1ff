"""The convolutions over a waveform, each with its norm and activation, computed with the channels last."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers.linear import linear

PIECE_BYTES = 16 << 20  # of the first convolution's output; half of what a shared cache holds today


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
        return functional.gelu(self.norm(linear(cut_windows(x, kernel, stride), weight, self.conv.bias)))


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


class Extractor(nn.Sequential):
    """The convolutions one after the other; without gradient, on a CPU, over a piece of one clip at a time.

    A clip of 5 s makes 33 MB of the first convolution alone, a piece stays in the caches. Pieces overlap by what the
    convolutions look ahead, 5 ms of the paper's, and give the same frames.
    """

    def __init__(self, *blocks: ExtractorBlock) -> None:
        super().__init__(*blocks)
        self.stride, self.field = 1, 1
        for block in blocks:
            self.field += (block.conv.kernel_size[0] - 1) * self.stride
            self.stride *= block.conv.stride[0]
        self.channels, self.first_stride = blocks[0].conv.out_channels, blocks[0].conv.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, samples, 1) to (batch, frames, channels)."""
        num_frames = (x.shape[1] - self.field) // self.stride + 1
        learns = torch.is_grad_enabled() and (x.requires_grad or any(each.requires_grad for each in self.parameters()))
        if learns or x.device.type != "cpu" or num_frames < 1:
            whole: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return whole
        step = max(1, PIECE_BYTES * self.first_stride // (x.element_size() * self.channels * self.stride))
        clips = [
            torch.cat(
                [self._run_piece(clip, first, min(first + step, num_frames)) for first in range(0, num_frames, step)]
            )
            for clip in x
        ]
        return torch.stack(clips)

    def _run_piece(self, clip: Tensor, first: int, last: int) -> Tensor:
        """Give some frames of one clip, (frames, channels)."""
        piece: Tensor = super().forward(clip[None, first * self.stride : (last - 1) * self.stride + self.field])  # type: ignore[no-untyped-call]
        return piece[0]


def build_extractor(spec: Sequence[tuple[int, int, int]], *, has_bias: bool) -> Extractor:
    """Chain the convolutions over the waveform, each given by channels, kernel and stride."""
    inputs = [1, *(channels for channels, _, _ in spec)]
    return Extractor(
        *(
            ExtractorBlock(in_channels, channels, kernel=kernel, stride=stride, has_bias=has_bias)
            for in_channels, (channels, kernel, stride) in zip(inputs, spec, strict=False)
        )
    )
