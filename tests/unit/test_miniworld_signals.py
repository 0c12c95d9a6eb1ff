"""Tones, noise and events are what they are said to be."""

import numpy as np
import pytest

from miniworld.signals import (
    Span,
    add_event,
    draw_noise,
    fft_size,
    normalise,
    pick_starts,
    sum_harmonics,
    swell,
    wander,
)

SPAN = Span(8000, 16_000)


def test_harmonics_are_the_sines_they_stand_for() -> None:
    phase = 2 * np.pi * 200 * np.arange(1, 8001) / 16_000
    expected = 0.5 * np.sin(phase) + 0.25 * np.sin(2 * phase) - 0.1 * np.sin(3 * phase)
    np.testing.assert_allclose(sum_harmonics(200.0, SPAN, weights=(0.5, 0.25, -0.1)), expected, atol=1e-9)


def test_harmonics_beyond_half_the_rate_are_left_out() -> None:
    np.testing.assert_array_equal(
        sum_harmonics(3000.0, SPAN, weights=(1.0, 1.0, 9.0)), sum_harmonics(3000.0, SPAN, weights=(1.0, 1.0))
    )


def test_noise_stays_in_its_band_and_has_one_unit_of_power() -> None:
    noise = draw_noise(np.random.default_rng(0), SPAN, band_hz=(1000, 2000))
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(8000, 1 / 16_000)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1.0)
    assert power[(frequency > 700) & (frequency < 2900)].sum() / power.sum() > 0.97


def test_silence_stays_silence() -> None:
    np.testing.assert_array_equal(normalise(np.zeros(4)), np.zeros(4))


def test_a_swell_begins_and_ends_in_silence() -> None:
    envelope = swell(SPAN, attack_s=0.1, release_s=0.2)
    assert envelope[0] == 0.0
    assert envelope[-1] < 0.01
    assert envelope[4000] == pytest.approx(1.0)


def test_a_wandering_curve_stays_between_its_values() -> None:
    curve = wander(np.random.default_rng(1), SPAN, rate_hz=5, low=0.2, high=0.7)
    assert curve.shape == (8000,)
    assert 0.2 <= curve.min() < curve.max() <= 0.7


def test_events_fit_into_the_time_there_is() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        starts = pick_starts(rng, SPAN, count=5, length_s=0.1, period_s=0.15, jitter=0.5)
        assert len(starts) == 3  # 0.1 + 3 * 0.15 would be too long for half a second
        assert min(starts) >= 0
        assert max(starts) + 1600 <= 8000


def test_an_event_is_cut_off_at_the_end() -> None:
    total = np.zeros(5)
    add_event(total, np.ones(4), 3)
    np.testing.assert_array_equal(total, [0, 0, 0, 1, 1])


@pytest.mark.parametrize(("num_samples", "size"), [(1, 16), (4096, 4096), (4097, 8192)])
def test_transforms_are_padded_to_the_next_power_of_two(num_samples: int, size: int) -> None:
    assert fft_size(num_samples) == size
