"""A clip's features are its own: padding hides in the default mode and leaks in the reference's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from models.config import load_config
from models.modalities.audio import MODALITY, AudioAdapter, AudioOptions, Waveforms, count_frames
from models.onepeace import OnePeace, build_model

EXTRACTOR = load_config("tiny").modalities["audio"]["extractor"]
SHORTEST = 400


def make_model(padding_mode: str = "masked", **changes) -> OnePeace:
    config = load_config("tiny").branch("audio")
    options = {**config.modalities["audio"], "padding_mode": padding_mode, **changes}
    model = build_model(config.model_copy(update={"modalities": {"audio": options}}), seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # tables start at zero and hide what depends on them
        model.adapters["audio"].bias.tables[0].normal_(generator=generator)
    return model


def make_clips(lengths: list[int]) -> Waveforms:
    """Clips padded with zeros to the longest, and the mask the loader makes."""
    generator = torch.Generator().manual_seed(sum(lengths))
    samples = pad_sequence([torch.randn(length, generator=generator) for length in lengths], batch_first=True)
    frames = [count_frames(length, EXTRACTOR) for length in lengths]
    mask = torch.arange(max(frames) + 1)[None] > torch.tensor(frames)[:, None]
    return Waveforms(samples, mask)


def alone(clips: Waveforms, index: int, length: int) -> Waveforms:
    frames = count_frames(length, EXTRACTOR)
    return Waveforms(clips.samples[index : index + 1, :length], torch.zeros(1, frames + 1, dtype=torch.bool))


def largest_change(model: OnePeace, lengths: list[int]) -> float:
    """How far a batch moves the features of its first clip."""
    clips = make_clips(lengths)
    with torch.no_grad():
        batched = model.encode({"audio": clips})["audio"].features[0]
        single = model.encode({"audio": alone(clips, 0, lengths[0])})["audio"].features[0]
    return float((batched[: len(single)] - single).abs().max())


@settings(max_examples=8, deadline=None)
@given(short=st.integers(SHORTEST, 2000), longer=st.integers(0, 3000))
def test_a_clip_alone_and_padded_in_a_batch_agree(short: int, longer: int) -> None:
    assert largest_change(make_model(), [short, short + longer]) < 1e-5


def test_an_odd_kernel_hides_padding_as_well() -> None:
    assert largest_change(make_model(position_width=14), [1000, 3000]) < 1e-5


def test_padding_leaks_in_the_reference_mode() -> None:
    assert largest_change(make_model("reference"), [1000, 3000]) > 1e-3


def test_the_modes_agree_where_nothing_is_padded() -> None:
    clips = make_clips([1500, 1500])
    with torch.no_grad():
        ours, reference = (make_model(mode).encode({"audio": clips})["audio"] for mode in ("masked", "reference"))
    assert torch.equal(ours.features, reference.features)


@pytest.mark.parametrize(("width", "kernel"), [(20, 10), (15, 7), (2, 3)])
def test_every_kernel_keeps_the_number_of_frames(width: int, kernel: int) -> None:
    model = make_model(position_width=width)
    adapter = model.adapters["audio"]
    assert [conv.kernel_size for conv in adapter.position_convs.values()] == [(kernel,)] * 2
    clips = make_clips([2000])
    assert adapter(clips).features.shape == (1, count_frames(2000, EXTRACTOR) + 1, 32)


def test_an_even_kernel_drops_the_last_frame() -> None:
    adapter = make_model(position_width=4, position_depth=1).adapters["audio"]
    frames, padding = torch.randn(1, 9, 32), torch.zeros(1, 9, dtype=torch.bool)
    changed = frames.clone()
    changed[:, 5] += 1
    with torch.no_grad():
        moved = (adapter._positions(frames, padding) != adapter._positions(changed, padding)).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == [4, 5, 6, 7]  # frame t reads frames t - 2 to t + 1


def test_padding_is_masked_and_zero() -> None:
    tokens = make_model().adapters["audio"](make_clips([900, 2500]))
    assert tokens.padding_mask is not None
    assert not tokens.features[tokens.padding_mask].any()
    assert tokens.features[~tokens.padding_mask].any()
    assert not tokens.padding_mask[:, 0].any()


def test_without_padding_there_is_no_mask() -> None:
    assert make_model().adapters["audio"](make_clips([800])).padding_mask is None


@pytest.mark.parametrize(("samples", "frames"), [(16000, 49), (80000, 249), (240000, 749), (400, 1)])
def test_frames_are_counted_as_published(samples: int, frames: int) -> None:
    assert count_frames(samples, load_config("4b").modalities["audio"]["extractor"]) == frames


@settings(max_examples=10, deadline=None)
@given(samples=st.integers(SHORTEST, 4000))
def test_the_count_is_what_the_convolutions_give(samples: int) -> None:
    adapter = make_model().adapters["audio"]
    with torch.no_grad():
        assert adapter.extractor(torch.zeros(1, samples, 1)).shape[1] == count_frames(samples, EXTRACTOR)


@pytest.mark.parametrize("columns", [-1, 1])
def test_a_mask_that_does_not_fit_is_refused(columns: int) -> None:
    clips = make_clips([1000, 1000])
    frames = clips.padding_mask.shape[1]
    mask = torch.zeros(2, frames + columns, dtype=torch.bool)
    with pytest.raises(ValueError, match=rf"shape \(2, {frames + columns}\), expected \(2, {frames}\)"):
        make_model().adapters["audio"](Waveforms(clips.samples, mask))


def test_options_are_checked_with_the_size_named() -> None:
    config = load_config("tiny")
    with pytest.raises(ValueError, match=r"size 'tiny', modality 'audio': unknown key 'bucket_sizes'"):
        MODALITY.build_adapter({**config.modalities["audio"], "bucket_sizes": 3}, config)


def test_a_size_has_the_released_position_convolutions() -> None:
    options = AudioOptions.parse(load_config("4b").modalities["audio"], where="test")
    with torch.device("meta"):
        adapter = AudioAdapter(1536, num_heads=24, num_tables=1, options=options)
    assert list(adapter.position_convs) == ["1", "2", "3", "4", "5"]
    assert adapter.position_convs["1"].kernel_size == (19,)


def test_nothing_of_audio_is_resized() -> None:
    assert MODALITY.resize("bias.tables.0", torch.zeros(5, 2), torch.Size([7, 2])) is None
