"""The audio modality: waveforms at 16 kHz, a convolutional extractor, convolutional positions, 1-D relative bias."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from models.batch import Tokens
from models.config import ModelConfig, PositiveInt, Settings
from models.layers.position_bias import RelativeTables, num_token_rows, token_buckets
from models.modalities.base import Modality

PaddingMode = Literal["masked", "reference"]


class AudioOptions(Settings):
    """The audio block of a size."""

    bucket_size: PositiveInt
    """Relative distances on either side, zero included."""
    extractor: Annotated[list[tuple[PositiveInt, PositiveInt, PositiveInt]], Field(min_length=1)]
    """Convolutions over the waveform: channels, kernel, stride."""
    position_depth: PositiveInt
    """Position convolutions, one after the other."""
    position_width: PositiveInt
    """Width of all position convolutions together; each has the kernel max(3, width // depth)."""
    position_groups: PositiveInt
    padding_mode: PaddingMode = "masked"
    """`masked`: a clip's features do not depend on its batch. `reference`: padding leaks, as in the published code."""


@dataclass(frozen=True)
class Waveforms:
    """A batch of clips."""

    samples: Tensor
    """(batch, samples), normalised, padded with zeros."""
    padding_mask: Tensor
    """(batch, frames + 1), bool, True is padding; the class column stands first. See `count_frames`."""


def count_frames(num_samples: int, extractor: Sequence[tuple[int, int, int]]) -> int:
    """Count the frames that the extractor makes of a waveform."""
    for _, kernel, stride in extractor:
        num_samples = (num_samples - kernel) // stride + 1
    return num_samples


class AudioAdapter(nn.Module):
    """Waveforms to tokens.

    Args:
        dim: width of a token.
        num_heads: attention heads, for the relative table.
        num_tables: 1 for a relative table that all layers share, else the number of layers.
        options: extractor, positions, padding.

    Source: paper, Architecture; reference one_peace/models/adapter/audio_adapter.py. Differs: padded frames do not
    enter the position convolutions unless `padding_mode` is `reference`.
    """

    def __init__(self, dim: int, *, num_heads: int, num_tables: int, options: AudioOptions) -> None:
        super().__init__()
        self.options = options
        self.extractor = _build_extractor(options.extractor)
        last = options.extractor[-1][0]
        self.extractor_norm = nn.LayerNorm(last)
        self.extractor_proj = nn.Linear(last, dim)
        kernel = max(3, options.position_width // options.position_depth)
        self.position_convs = nn.ModuleDict(  # numbered from 1, as released
            {
                str(number): nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=options.position_groups)
                for number in range(1, options.position_depth + 1)
            }
        )
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.cls_position = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.mask_embedding = nn.Parameter(torch.randn(1, dim) * 0.02)  # in the released weights, used by nothing
        self.bias = RelativeTables(num_tables, num_token_rows(options.bucket_size), num_heads)

    def forward(self, clips: Waveforms) -> Tokens:
        """Embed a batch of clips.

        Args:
            clips: waveforms and their padding.

        Returns:
            frames + 1 tokens, the class first; padding is masked and zero.

        Raises:
            ValueError: the padding mask does not fit the frames of the waveforms.
        """
        frames = self.extractor(clips.samples.unsqueeze(1)).transpose(1, 2)
        frames = self.extractor_proj(self.extractor_norm(frames))
        padding = clips.padding_mask
        if padding.shape != (len(frames), frames.shape[1] + 1):
            raise ValueError(
                f"a padding mask of shape {tuple(padding.shape)}, expected {(len(frames), frames.shape[1] + 1)}: "
                "one column for the class and one for each frame"
            )
        frames = frames + self._positions(frames, padding[:, 1:])
        cls = (self.cls_embedding + self.cls_position).expand(len(frames), -1, -1)
        x = torch.cat([cls, frames], dim=1).masked_fill(padding[..., None], 0)
        bias = self.bias(token_buckets(x.shape[1], self.options.bucket_size, x.device))
        return Tokens(features=x, padding_mask=padding if padding.any() else None, bias=bias)

    def _positions(self, frames: Tensor, padding: Tensor) -> Tensor:
        """Derive the position signal, (batch, frames, dim), from the frames around each one."""
        length = frames.shape[1]
        x = frames.transpose(1, 2)
        hidden = padding[:, None] if self.options.padding_mode == "masked" else padding.new_zeros(1, 1, length)
        for conv in self.position_convs.values():
            x = conv(x.masked_fill(hidden, 0))[..., :length]  # an even kernel gives one frame too many
            x = functional.gelu(functional.layer_norm(x.transpose(1, 2), (x.shape[1],)).transpose(1, 2))
        return x.transpose(1, 2)


class ExtractorBlock(nn.Module):
    """One convolution over the waveform with its norm and activation."""

    def __init__(self, in_channels: int, channels: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, kernel, stride=stride, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, length) to (batch, channels, shorter length)."""
        return functional.gelu(self.norm(self.conv(x).transpose(1, 2))).transpose(1, 2)


def _build_extractor(spec: Sequence[tuple[int, int, int]]) -> nn.Sequential:
    """Chain the convolutions over the waveform."""
    inputs = [1, *(channels for channels, _, _ in spec)]
    return nn.Sequential(
        *(
            ExtractorBlock(in_channels, channels, kernel=kernel, stride=stride)
            for in_channels, (channels, kernel, stride) in zip(inputs, spec, strict=False)
        )
    )


class AudioModality:
    """Sounds."""

    name = "audio"

    def build_adapter(self, options: Mapping[str, Any], config: ModelConfig) -> AudioAdapter:
        """Build the adapter of one size."""
        return AudioAdapter(
            config.embed_dim,
            num_heads=config.num_heads,
            num_tables=config.num_bias_tables,
            options=AudioOptions.parse(options, where=f"size {config.name!r}, modality 'audio'"),
        )

    def resize(self, name: str, stored: Tensor, shape: torch.Size) -> None:
        """Nothing of this modality depends on the length of its input."""


MODALITY: Modality = AudioModality()
