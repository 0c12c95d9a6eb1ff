"""Clips of one or several sounds are what they are said to be."""

import numpy as np
import pytest

from miniworld.clips import compose_clip, name_video, pick_names
from miniworld.sound import SOUNDS

HALF_S = 8000
LOW_NAME, HIGH_NAME = "boat_horn", "tree_leaves"


def _treble_share(samples: np.ndarray) -> float:
    """Measure how much of the power lies above 2 kHz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float(power[np.fft.rfftfreq(len(samples), 1 / 16_000) > 2000].sum() / power.sum())


@pytest.mark.parametrize("is_sequence", [False, True])
def test_the_same_seed_gives_the_same_clip(is_sequence: bool) -> None:
    first, again, other = (compose_clip(("dog", "rain"), seed, is_sequence=is_sequence) for seed in (3, 3, 4))
    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples[:100], other.samples[:100])


@pytest.mark.parametrize("names", [("dog",), ("dog", "rain"), ("dog", "rain", "siren")])
def test_a_clip_knows_what_is_heard_in_it(names: tuple[str, ...]) -> None:
    for seed in range(5):
        clip = compose_clip(names, seed)
        assert tuple(heard.name for heard in clip.heard) == names
        assert clip.heard[0].num_events in range(1, 5)
        assert all(heard.num_events is None for heard in clip.heard[1:])
        assert 1.0 <= clip.duration_s <= 2.0
        assert clip.samples.dtype == np.float32
        assert 0.19 < np.abs(clip.samples).max() < 1.0


def test_one_sound_follows_the_other() -> None:
    for seed in range(6):
        low_first = compose_clip((LOW_NAME, HIGH_NAME), seed, is_sequence=True)
        high_first = compose_clip((HIGH_NAME, LOW_NAME), seed, is_sequence=True)
        assert _treble_share(low_first.samples[:HALF_S]) < _treble_share(low_first.samples[-HALF_S:])
        assert _treble_share(high_first.samples[:HALF_S]) > _treble_share(high_first.samples[-HALF_S:])
        assert 1.4 <= low_first.duration_s <= 2.0


def test_sounds_at_the_same_time_are_all_there() -> None:
    for seed in range(6):
        shares = [
            _treble_share(compose_clip(names, seed).samples)
            for names in ((LOW_NAME,), (LOW_NAME, HIGH_NAME), (HIGH_NAME,))
        ]
        assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("names", "is_sequence", "message"),
    [
        ((), False, "a clip of 0 sounds"),
        (("dog", "cow", "rain"), True, "a clip of 3 sounds"),
        (("cat",), False, "unknown sound 'cat'"),
    ],
)
def test_impossible_clips_are_refused(names: tuple[str, ...], is_sequence: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose_clip(names, 0, is_sequence=is_sequence)


def test_picked_names_differ_and_begin_with_the_first() -> None:
    rng = np.random.default_rng(0)
    known = {sound.name for sound in SOUNDS}
    for _ in range(50):
        names = pick_names(rng, 3, first="cow")
        assert names[0] == "cow"
        assert len(set(names)) == 3
        assert set(names) <= known
    assert len({pick_names(rng, 1) for _ in range(200)}) == len(SOUNDS)


def test_videos_are_named_as_youtube_names_them() -> None:
    rng = np.random.default_rng(0)
    videos = [name_video(rng) for _ in range(300)]
    assert len({video.id for video in videos}) == 300
    assert all(len(video.id) == 11 for video in videos)
    assert 10 < sum(video.id.startswith("-") for video in videos) < 100
    assert videos[0].stem == f"{videos[0].id}_{videos[0].start_s:06d}"
