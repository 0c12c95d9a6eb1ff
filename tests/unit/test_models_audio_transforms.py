"""Sounds of every rate, length and number of channels are read; what is none is refused in one line."""

import io

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import load_config
from models.modalities.audio import (
    MODALITY,
    SAMPLE_RATE_HZ,
    collate,
    count_frames,
    mix_channels,
    normalise_audio,
    read_audio,
    resample,
)

OPTIONS = load_config("mini").modalities["audio"]
EXTRACTOR = [tuple(conv) for conv in OPTIONS["extractor"]]
NOISE = (np.random.default_rng(0).standard_normal((3001, 2)) * 0.2).clip(-0.9, 0.9).astype(np.float32)


def encode(samples, rate=SAMPLE_RATE_HZ, kind="WAV", subtype="FLOAT") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def write(folder, content: bytes):
    path = folder / "clip.wav"
    path.write_bytes(content)
    return path


# Reading.


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 192000])
def test_every_rate_and_number_of_channels_is_read(tmp_path, rate, channels):
    samples = np.tile(NOISE[:, :1], channels) * np.arange(1, channels + 1, dtype=np.float32) / 10
    read, read_rate = read_audio(write(tmp_path, encode(samples, rate)))
    assert (read.dtype, read.shape, read_rate) == (np.float32, (3001,), rate)
    np.testing.assert_allclose(read, samples.mean(axis=1), atol=1e-6)
    assert len(MODALITY.read(tmp_path / "clip.wav")) == -(-3001 * SAMPLE_RATE_HZ // rate)


def test_16_bits_are_divided_by_32768(tmp_path):
    samples = np.array([-32768, -1, 0, 1, 32767], dtype=np.int16)
    read, _ = read_audio(write(tmp_path, encode(samples, subtype="PCM_16")))
    np.testing.assert_array_equal(read, samples / np.float32(32768))


@pytest.mark.parametrize(("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_24")])
def test_the_content_decides_the_format(tmp_path, kind, subtype):
    path = tmp_path / "clip.raw"
    path.write_bytes(encode(NOISE, kind=kind, subtype=subtype))
    assert read_audio(path)[0].shape == (3001,)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_the_bytes_of_a_file_give_the_samples_of_the_file(tmp_path, kind, wrap):
    content = encode(NOISE, kind=kind, subtype={"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(kind, "PCM_16"))
    in_memory, rate = read_audio(wrap(content))
    from_file, file_rate = read_audio(write(tmp_path, content))
    assert rate == file_rate
    np.testing.assert_array_equal(in_memory, from_file)
    np.testing.assert_array_equal(MODALITY.read(wrap(content)), from_file)


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no sound at all", "cannot be decoded as sound; libsndfile says"),
        (encode(NOISE[:0]), "holds no samples"),
        (cut(encode(NOISE), 0.5), "is truncated: it announces more than the"),
        (cut(encode(NOISE, subtype="PCM_16"), 0.9), "is truncated"),
        (cut(encode(NOISE, kind="AIFF", subtype="PCM_16"), 0.5), "is truncated"),
        (cut(encode(NOISE, kind="FLAC", subtype="PCM_16"), 0.5), "cannot be decoded"),
        (encode(np.array([0, 1, np.nan, 0, np.nan])), "holds no finite number at 2 places, the first at sample 2"),
        (encode(np.array([[0, 0], [0, -np.inf]])), "holds no finite number at 1 places, the first at sample 1"),
    ],
)
def test_faulty_files_are_refused_in_one_line_with_their_name(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"clip\.wav {message}") as error:
        MODALITY.read(write(tmp_path, content))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f"^the sound {message}"):
        MODALITY.read(content)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_the_sizes_that_pipes_announce_are_no_fault(tmp_path, size):
    content = bytearray(encode(NOISE, subtype="PCM_16"))
    content[40:44] = size.to_bytes(4, "little")
    assert len(read_audio(write(tmp_path, bytes(content)))[0]) == 3001


def test_a_length_that_no_file_can_hold_is_refused(tmp_path):
    content = bytearray(encode(NOISE, kind="FLAC", subtype="PCM_16"))
    content[21] &= 0xF0  # the number of samples, 36 bits: 0 is what a pipe leaves there
    content[22:26] = bytes(4)
    with pytest.raises(ValueError, match=r"clip\.wav announces 9223372036854775807 samples in \d+ bytes"):
        read_audio(write(tmp_path, bytes(content)))


@pytest.mark.parametrize("name", ["missing.wav", "."])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="no sound at"):
        read_audio(tmp_path / name)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=80), kind=st.sampled_from(["", "WAV", "FLAC", "OGG"]), at=st.integers(0, 5000))
def test_damaged_files_give_samples_or_one_line(tmp_path_factory, content, kind, at):
    subtype = "VORBIS" if kind == "OGG" else "PCM_16"
    whole = encode(NOISE, kind=kind, subtype=subtype) if kind else b""
    path = write(tmp_path_factory.mktemp("clip"), whole[:at] + content + whole[at + len(content) :])
    outcome = outcome_of(path)
    assert isinstance(outcome, int) or "\n" not in outcome
    in_memory = outcome_of(path.read_bytes())
    assert isinstance(in_memory, int) or "\n" not in in_memory


def outcome_of(source) -> int | str:
    try:
        return len(read_audio(source)[0])
    except ValueError as error:
        return str(error)


# Mixing and resampling.


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(5, dtype=np.int16), "has int16 samples .* divide 16-bit samples by 32768"),
        (np.zeros((2, 3, 4), dtype=np.float32), r"has float32 samples of shape \(2, 3, 4\)"),
        (np.zeros((0, 2)), "holds no samples"),
        (np.array([np.inf]), "holds no finite number at 1 places"),
    ],
)
def test_arrays_that_are_no_sound_are_refused(samples, message):
    with pytest.raises(ValueError, match=f"the array {message}"):
        mix_channels(samples, where="the array")


def test_at_16_khz_nothing_is_resampled():
    samples = NOISE[:, 0]
    assert resample(samples, SAMPLE_RATE_HZ) is samples


@settings(max_examples=60, deadline=None)
@given(num_samples=st.integers(1, 400), rate=st.sampled_from([8, 4000, 11025, 22050, 32000, 44100, 48000, 384000]))
def test_resampled_clips_last_as_long_rounded_up(num_samples, rate):
    resampled = resample(np.ones(num_samples, dtype=np.float32), rate)
    assert resampled.dtype == np.float32
    assert len(resampled) == -(-num_samples * SAMPLE_RATE_HZ // rate)
    assert np.isfinite(resampled).all()


def test_a_tone_keeps_its_pitch_and_loudness():
    seconds = np.arange(44100) / 44100
    resampled = resample(np.sin(2 * np.pi * 440 * seconds).astype(np.float32), 44100)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(resampled[500:-500], expected[500:-500], atol=1e-3)


def test_a_tone_beyond_what_16_khz_holds_falls_silent():
    seconds = np.arange(44100) / 44100
    resampled = resample(np.sin(2 * np.pi * 12_000 * seconds).astype(np.float32), 44100)
    assert np.abs(resampled[500:-500]).max() < 1e-3


def test_no_sample_rate_is_refused():
    with pytest.raises(ValueError, match="a sample rate of 0 Hz"):
        resample(NOISE[:, 0], 0)


# The protocol.


@settings(max_examples=30, deadline=None)
@given(num_samples=st.integers(1, 40_000), max_duration_s=st.sampled_from([1.0, 1.5, 2.0]))
def test_clips_are_cut_or_repeated(num_samples, max_duration_s):
    samples = np.random.default_rng(num_samples).standard_normal(num_samples).astype(np.float32)
    clip = normalise_audio(samples, max_duration_s=max_duration_s)
    assert clip.dtype == torch.float32
    assert len(clip) == min(max(num_samples, SAMPLE_RATE_HZ), int(max_duration_s * SAMPLE_RATE_HZ))
    wide = samples.astype(np.float64)
    normed = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5)
    np.testing.assert_allclose(clip, np.resize(normed, len(clip)), atol=1e-5)


@pytest.mark.parametrize("num_samples", [1, 500, 20_000])
def test_silence_gives_zeros(num_samples):
    assert not normalise_audio(np.zeros(num_samples, dtype=np.float32)).any()


def test_the_input_is_left_as_it_was():
    samples = NOISE[:, 0].copy()
    normalise_audio(samples).zero_()
    np.testing.assert_array_equal(samples, NOISE[:, 0])


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.zeros((5, 2)), np.array([1e30, -1e30]), np.array([np.nan, 0.0])], ids=str
)
def test_what_cannot_be_normalised_is_refused(samples):
    with pytest.raises(ValueError, match="expected \\(samples,\\)"):
        normalise_audio(samples.astype(np.float32))


# Batches.


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(400, 3000), min_size=1, max_size=4))
def test_batches_are_padded_with_zeros_and_masked_by_frames(lengths):
    clips = [torch.ones(length) for length in lengths]
    batch = MODALITY.collate(clips, OPTIONS)
    assert batch.samples.shape == (len(lengths), max(lengths))
    assert batch.samples.sum(1).tolist() == lengths
    frames = [count_frames(length, EXTRACTOR) for length in lengths]
    assert batch.padding_mask.dtype == torch.bool
    assert batch.padding_mask.shape == (len(lengths), max(frames) + 1)
    for row, count in zip(batch.padding_mask, frames, strict=True):
        assert not row[: count + 1].any()
        assert row[count + 1 :].all()


def test_no_clips_and_clips_without_a_frame_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        collate([], EXTRACTOR)
    with pytest.raises(ValueError, match="a clip of 399 samples is too short for a frame"):
        collate([torch.ones(500), torch.ones(399)], EXTRACTOR)
