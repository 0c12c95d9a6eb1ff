"""The audio modality: waveforms at 16 kHz, a convolutional extractor, convolutional positions, 1-D relative bias."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from models.batch import Embedded, Tokens, Units
from models.config import ModelConfig, PositiveInt, Settings
from models.layers.extractor import build_extractor
from models.layers.linear import Linear
from models.layers.position_bias import RelativeTables, num_token_rows, token_buckets
from models.modalities.base import Adapter, Modality

PaddingMode = Literal["masked", "reference"]


class AudioOptions(Settings):
    """The audio block of a size."""

    bucket_size: Annotated[int, Field(ge=2)]
    """Relative distances on either side, zero included."""
    extractor: Annotated[list[tuple[PositiveInt, PositiveInt, PositiveInt]], Field(min_length=1)]
    """Convolutions over the waveform: channels, kernel, stride."""
    position_depth: PositiveInt
    """Position convolutions, one after the other."""
    position_width: PositiveInt
    """Width of all position convolutions together; each has the kernel max(3, width // depth)."""
    position_groups: PositiveInt
    has_conv_bias: bool = False
    """Biases in the extractor; in no released config."""
    has_position_norm: bool = False
    """A norm on what the position convolutions read; in no released config."""
    has_embedding_norm: bool = False
    """A norm on class and frames before the positions; off in every released config."""
    has_type_embedding: bool = False
    """One vector added to every position; off in every released config."""
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


class AudioAdapter(Adapter):
    """Waveforms to tokens.

    Args:
        dim: width of a token.
        num_heads: attention heads, for the relative table.
        num_tables: 1 for a relative table that all layers share, else the number of layers.
        options: extractor, positions, padding.

    Source: paper, Architecture; reference one_peace/models/adapter/audio.py. Differs: padded frames do not
    enter the position convolutions unless `padding_mode` is `reference`.
    """

    def __init__(self, dim: int, *, num_heads: int, num_tables: int, options: AudioOptions) -> None:
        super().__init__()
        self.options = options
        self.extractor = build_extractor(options.extractor, has_bias=options.has_conv_bias)
        last = options.extractor[-1][0]
        self.extractor_norm = nn.LayerNorm(last)
        self.extractor_proj = Linear(last, dim)
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
        self.position_norm = nn.LayerNorm(dim) if options.has_position_norm else nn.Identity()
        self.embedding_norm = nn.LayerNorm(dim) if options.has_embedding_norm else nn.Identity()
        self.type_embedding = nn.Parameter(torch.zeros(1, 1, dim)) if options.has_type_embedding else None
        self.bias = RelativeTables(num_tables, num_token_rows(options.bucket_size), num_heads)

    def embed(self, inputs: Waveforms) -> Embedded:
        """Turn a batch of clips into frames, without the class.

        Raises:
            ValueError: the padding mask does not fit the frames of the waveforms.
        """
        frames = self.extractor_proj(self.extractor_norm(self.extractor(inputs.samples.unsqueeze(2))))
        padding = inputs.padding_mask
        if padding.shape != (len(frames), frames.shape[1] + 1):
            raise ValueError(
                f"a padding mask of shape {tuple(padding.shape)}, expected {(len(frames), frames.shape[1] + 1)}: "
                "one column for the class and one for each frame"
            )
        return Embedded(frames, padding)

    def place(self, embedded: Embedded, kept: Tensor | None = None) -> Tokens:
        """Add the class, positions and bias; see `Adapter`.

        A masked pass derives the position signal from the frames it keeps, as if they stood side by side; the bias
        knows their real distance.
        """
        frames, padding = embedded.units, embedded.padding_mask
        bias = self.bias(token_buckets(frames.shape[1] + 1, self.options.bucket_size, frames.device))
        if kept is not None:
            slots, padding = self._fill_slots(kept), kept < 0
            frames = frames.gather(1, (slots[:, 1:, None] - 1).expand(-1, -1, frames.shape[-1]))
            bias = bias.keep(slots)
        if padding is None:
            padding = torch.zeros(len(frames), frames.shape[1] + 1, dtype=torch.bool, device=frames.device)
        positions = self._positions(frames, padding[:, 1:])
        x = torch.cat([self.cls_embedding.expand(len(frames), -1, -1), frames], dim=1)
        x = self.embedding_norm(x) + torch.cat([self.cls_position.expand(len(frames), -1, -1), positions], dim=1)
        if self.type_embedding is not None:
            x = x + self.type_embedding
        x = x.masked_fill(padding[..., None], 0)
        return Tokens(features=x, padding_mask=padding if padding.any() else None, bias=bias)

    def _fill_slots(self, kept: Tensor) -> Tensor:
        """Give empty slots some frame; in `reference` mode the published one, which the position convolutions see."""
        last = kept.shape[1] - 1 if self.options.padding_mode == "reference" else 1
        return kept.masked_fill(kept < 0, max(last, 1))

    def _positions(self, frames: Tensor, padding: Tensor) -> Tensor:
        """Derive the position signal, (batch, frames, dim), from the frames around each one."""
        length = frames.shape[1]
        x = self.position_norm(frames).transpose(1, 2)
        hidden = padding[:, None] if self.options.padding_mode == "masked" else padding.new_zeros(1, 1, length)
        for conv in self.position_convs.values():
            x = conv(x.masked_fill(hidden, 0))[..., :length]  # an even kernel gives one frame too many
            x = functional.gelu(functional.layer_norm(x.transpose(1, 2), (x.shape[1],)).transpose(1, 2))
        positions: Tensor = x.transpose(1, 2)
        return positions


AudioSource: TypeAlias = str | Path | bytes | bytearray | memoryview
AudioTransform = Callable[..., Tensor]

SAMPLE_RATE_HZ: Final = 16_000  # paper, Architecture
MAX_DURATION_S: Final = 15.0  # paper, appendix; 20 for audio-text retrieval after fine-tuning
STREAMED_BYTES: Final = 0x7FFF0000  # sizes from here on stand for "unknown"; 0x7FFFFFFF and 0xFFFFFFFF occur
SAMPLES_PER_BYTE: Final = 65536  # more than any format makes of a byte; FLAC from a pipe announces 2**63 - 1 samples
NUM_POSITIONS: Final = 1026  # reference one_peace/models/adapter/audio.py, abs_pos_type fixed
NORM_EPS: Final = 1e-5  # reference one_peace/data/base_dataset.py: layer_norm over the clip


def read_audio(source: AudioSource) -> tuple[NDArray[np.float32], int]:
    """Decode a sound: any rate, length and number of channels, in whatever format libsndfile reads.

    Args:
        source: a path, or the bytes of a file.

    Returns:
        (samples,) float32 in [-1, 1), the mean of the channels; its sample rate in Hz.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no sound, an empty or truncated one, or samples that are no finite numbers.
    """
    where = str(source) if isinstance(source, str | Path) else "the sound"
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise FileNotFoundError(f"no sound at {source}")
    num_bytes = Path(source).stat().st_size if isinstance(source, str | Path) else len(source)
    if not num_bytes:
        raise ValueError(f"{where} is empty, expected a sound file")
    try:
        samples, sample_rate_hz = _decode(source, num_bytes)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{where} cannot be decoded as sound; libsndfile says: {error.error_string}") from None
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None
    return mix_channels(samples, where=where), sample_rate_hz


def _decode(source: AudioSource, num_bytes: int) -> tuple[NDArray[np.float32], int]:
    """Decode a file to (samples, channels) and the sample rate; its content decides the format, not its name."""
    if not isinstance(source, str | Path):
        return _decode_stream(_Memory(source), num_bytes)
    with Path(source).open("rb") as stream:
        return _decode_stream(stream.fileno(), num_bytes)


class _Memory(io.BytesIO):
    """A file in memory that stays where it is when a damaged header leads outside; libsndfile cannot take errors."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _decode_stream(stream: int | io.BytesIO, num_bytes: int) -> tuple[NDArray[np.float32], int]:
    """Decode what is open, by its number or in memory."""
    with soundfile.SoundFile(stream, closefd=False) as file:
        if file.frames > num_bytes * SAMPLES_PER_BYTE:
            raise ValueError(f"announces {file.frames} samples in {num_bytes} bytes; write it anew with its length")
        samples = file.read(dtype="float32", always_2d=True)
        if len(samples) < file.frames or _lacks_bytes(file.extra_info):
            raise ValueError(f"is truncated: it announces more than the {len(samples)} samples it holds")
        return samples, file.samplerate


def _lacks_bytes(log: str) -> bool:
    """Read in libsndfile's log whether a WAV or AIFF file announces more data than it holds.

    Recorders that write to a pipe announce the largest size there is; that is no fault.
    """
    found = re.search(r"^ ?(?:data|SSND) : (\d+) \(should be (\d+)\)", log, flags=re.MULTILINE)
    return found is not None and int(found[2]) < int(found[1]) < STREAMED_BYTES


def mix_channels(samples: NDArray[np.floating[Any]], *, where: str) -> NDArray[np.float32]:
    """Take the mean of the channels.

    Args:
        samples: (samples,) or (samples, channels), floating point.
        where: what they come from, for the message.

    Raises:
        ValueError: no samples, another shape or type, or samples that are no finite numbers.
    """
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"{where} has {samples.dtype} samples of shape {samples.shape}; expected floating point, (samples,) or "
            "(samples, channels); divide 16-bit samples by 32768"
        )
    if not samples.size:
        raise ValueError(f"{where} holds no samples")
    faulty = np.flatnonzero(~np.isfinite(samples).reshape(len(samples), -1).all(axis=1))
    if len(faulty):
        raise ValueError(f"{where} holds no finite number at {len(faulty)} places, the first at sample {faulty[0]}")
    return (samples if samples.ndim == 1 else samples.mean(axis=1)).astype(np.float32)


def resample(samples: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
    """Bring (samples,) to 16 kHz by soxr HQ; at that rate already they stay as they are.

    Returns:
        As many samples as the clip's duration holds, rounded up; soxr's own count is filled with zeros, or cut, to it.

    Raises:
        ValueError: no sample rate.

    Source: the authors' API loads by librosa, which does the same.
    """
    if sample_rate_hz < 1:
        raise ValueError(f"a sample rate of {sample_rate_hz} Hz, expected a whole number from 1")
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return samples
    length = -(-len(samples) * SAMPLE_RATE_HZ // sample_rate_hz)
    resampled = soxr.resample(samples, sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")[:length]
    padded: NDArray[np.float32] = np.pad(resampled, (0, length - len(resampled)))
    return padded


def normalise_audio(samples: NDArray[np.float32], *, max_duration_s: float = MAX_DURATION_S) -> Tensor:
    """Protocol `audio`: layer norm over the whole clip, then cut, or repeated to one second.

    Args:
        samples: (samples,) float32 at 16 kHz, one channel.
        max_duration_s: what the clip is cut to.

    Returns:
        (samples,) float32, one second or more, of mean 0 and variance 1 before the cut; silence is zeros.

    Raises:
        ValueError: no samples, several channels, or a variance beyond float32.

    Source: reference one_peace/data/base_dataset.py, audio_postprocess.
    """
    clip = torch.from_numpy(np.array(samples, dtype=np.float32))
    if clip.ndim != 1 or not len(clip) or not clip.var(correction=0).isfinite():
        raise ValueError(
            f"a clip of shape {tuple(clip.shape)}, expected (samples,) with one sample or more, all of ordinary size"
        )
    clip = functional.layer_norm(clip, clip.shape, eps=NORM_EPS)[: int(max_duration_s * SAMPLE_RATE_HZ)]
    repeats = -(-SAMPLE_RATE_HZ // len(clip))
    return clip.repeat(repeats)[:SAMPLE_RATE_HZ] if repeats > 1 else clip


TRANSFORMS: Final[Mapping[str, AudioTransform]] = MappingProxyType({"audio": normalise_audio})
"""By protocol name, what turns a clip at 16 kHz into a waveform, (samples,) float32."""


def collate(clips: Sequence[Tensor], extractor: Sequence[tuple[int, int, int]]) -> Waveforms:
    """Batch clips, each (samples,), padded with zeros at the end.

    Args:
        clips: at least one, as `normalise_audio` gives them.
        extractor: convolutions over the waveform: channels, kernel, stride.

    Raises:
        ValueError: no clip, or one too short for a single frame.
    """
    if not clips:
        raise ValueError("no clips to batch, expected at least one")
    frames = [count_frames(len(clip), extractor) for clip in clips]
    if min(frames) < 1:
        raise ValueError(f"a clip of {min(map(len, clips))} samples is too short for a frame; repeat it to a second")
    columns = torch.arange(max(frames) + 1)
    mask = columns > torch.tensor(frames)[:, None]
    return Waveforms(samples=pad_sequence(list(clips), batch_first=True), padding_mask=mask)


class AudioModality:
    """Sounds."""

    name = "audio"
    transforms = TRANSFORMS

    def read(self, source: AudioSource) -> NDArray[np.float32]:
        """Decode a sound to one channel at 16 kHz; see `read_audio` and `resample`."""
        return resample(*read_audio(source))

    def collate(self, examples: Sequence[Tensor], options: Mapping[str, Any]) -> Waveforms:
        """Batch clips; see `collate`."""
        return collate(examples, AudioOptions.parse(options, where="modality 'audio'").extractor)

    def find_units(self, inputs: Waveforms, options: Mapping[str, Any]) -> Units:  # noqa: ARG002
        """Every frame but padding may be hidden."""
        real = ~inputs.padding_mask
        maskable = real.clone()
        maskable[:, 0] = False
        return Units(real, maskable)

    def count_positions(self, options: Mapping[str, Any]) -> int:  # noqa: ARG002
        """As many as the published decoder has; the encoder derives positions from the frames."""
        return NUM_POSITIONS

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
