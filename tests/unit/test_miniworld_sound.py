"""A sound follows from its class and seed, and the classes can be told apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miniworld.concepts import CONCEPTS
from miniworld.sound import SOUNDS, Samples, compose_sound, draw_sound, find_sound

NAMES = [sound.name for sound in SOUNDS]
RATE_HZ = 16_000


def test_the_table_names_known_concepts_once_each() -> None:
    concepts = [sound.concept for sound in SOUNDS if sound.concept]
    assert set(concepts) <= {concept.name for concept in CONCEPTS}
    assert len(set(concepts)) == len(concepts)
    assert len(set(NAMES)) == len(NAMES) >= 14


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_is_heard_and_never_clipped(name: str) -> None:
    samples = draw_sound(name, 3, duration_s=1.237)
    assert samples.shape == (19_792,)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert 0.19 < np.abs(samples).max() < 1.0


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_samples_and_another_seed_others(name: str) -> None:
    first = draw_sound(name, 7, duration_s=1.0)
    np.testing.assert_array_equal(draw_sound(name, 7, duration_s=1.0), first)
    assert np.abs(draw_sound(name, 8, duration_s=1.0) - first).max() > 0.01


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(NAMES),
    seed=st.integers(0, 2**64 - 1),
    duration_s=st.floats(0.5, 2.5),
    rate_hz=st.sampled_from((8000, 16_000, 44_100)),
)
def test_any_length_and_rate_gives_as_many_samples(name: str, seed: int, duration_s: float, rate_hz: int) -> None:
    samples = draw_sound(name, seed, duration_s=duration_s, sample_rate_hz=rate_hz)
    assert len(samples) == round(duration_s * rate_hz)
    assert np.abs(samples).max() < 1.0


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002 - the global state is what is asked about
    draw_sound("dog", 3, duration_s=1.0)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


def test_the_number_of_knocks_is_the_number_that_is_heard() -> None:
    for seed in range(6):
        sound = compose_sound("house_door_knock", seed, duration_s=2.0)
        assert sound.num_events is not None
        assert 2 <= sound.num_events <= 5
    counts = {compose_sound("dog", seed, duration_s=2.0).num_events for seed in range(12)}
    assert counts >= {1, 2, 3}


def test_classes_are_told_apart_by_the_nearest_of_a_few_examples() -> None:
    known = {name: [_features(draw_sound(name, seed, duration_s=1.5)) for seed in range(4)] for name in NAMES}
    hits = 0
    for name in NAMES:
        heard = _features(draw_sound(name, 100, duration_s=1.5))
        distances = {other: min(np.abs(heard - one).sum() for one in known[other]) for other in NAMES}
        hits += min(distances, key=distances.__getitem__) == name
    assert hits / len(NAMES) > 0.75


def _features(samples: Samples) -> np.ndarray:
    """Say how a sound spreads over 20 bands on the average, and how each band comes and goes."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::256] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames))[:, 1:] ** 2
    edges = np.unique(np.geomspace(1, 256, 21).round().astype(int) - 1)
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-5)
    bands -= bands.mean()
    return np.concatenate([bands.mean(0), bands.std(0), 2 * np.abs(np.diff(bands, axis=0)).mean(0)])


def test_an_unknown_sound_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown sound 'dgo'.*dog"):
        find_sound("dgo")


@pytest.mark.parametrize(
    ("seed", "duration_s", "rate_hz", "message"),
    [
        (-1, 1.0, RATE_HZ, "seed is -1"),
        (0, 0.1, RATE_HZ, "duration_s is 0.1"),
        (0, float("nan"), RATE_HZ, "duration_s is nan"),
        (0, 1.0, 4000, "sample_rate_hz is 4000"),
    ],
)
def test_impossible_sounds_are_refused(seed: int, duration_s: float, rate_hz: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_sound("dog", seed, duration_s=duration_s, sample_rate_hz=rate_hz)
