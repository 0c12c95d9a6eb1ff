"""What every sound is made of: tones, shaped noise, envelopes, and events in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Signal: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """A stretch of time to fill: `num_samples` at `rate_hz`."""

    num_samples: int
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.num_samples / self.rate_hz

    def times_s(self) -> Signal:
        """Give the time of every sample."""
        return np.arange(self.num_samples) / self.rate_hz

    def part(self, duration_s: float) -> "Span":
        """Make a stretch of another length, no longer than this one, at the same rate."""
        return Span(max(8, min(self.num_samples, round(duration_s * self.rate_hz))), self.rate_hz)


def fft_size(num_samples: int) -> int:
    """Choose the power of two that a transform of so many samples is padded to; other lengths are far slower."""
    return 1 << max(4, (num_samples - 1).bit_length())


def draw_noise(rng: np.random.Generator, span: Span, *, band_hz: tuple[float, float], slope_db: float = 0.0) -> Signal:
    """Make noise with a root mean square of 1 in a band, falling or rising by `slope_db` an octave.

    The edges of the band fall by about 24 dB an octave.
    """
    size, (low, high) = fft_size(span.num_samples), band_hz
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / span.rate_hz), 1.0)
    gain = (frequency / 1000) ** (slope_db / 6.02)  # 6.02 dB is a factor of two
    gain /= np.sqrt((1 + (low / frequency) ** 8) * (1 + (frequency / high) ** 8))
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * gain, size)
    return normalise(noise[: span.num_samples])


def normalise(signal: Signal) -> Signal:
    """Bring a signal to a root mean square of 1; silence stays silence."""
    level = float(np.sqrt(np.mean(signal**2)))
    return signal / level if level > 0 else signal


def sum_harmonics(pitch_hz: Signal | float, span: Span, *, weights: Sequence[float]) -> Signal:
    """Add up the multiples 1, 2, ... of a pitch that may move; what would pass half the sample rate is left out."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(pitch_hz, span.num_samples)) / span.rate_hz
    num_audible = min(len(weights), int(0.48 * span.rate_hz / float(np.max(pitch_hz))))
    # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x) spares a sine for every harmonic but the first.
    twice: Signal = 2 * np.cos(phase)
    below: Signal = np.zeros(span.num_samples)
    wave: Signal = np.sin(phase)
    total: Signal = np.zeros(span.num_samples)
    for weight in weights[:num_audible]:
        total += weight * wave
        below, wave = wave, twice * wave - below
    return total


def weigh_formants(
    pitch_hz: float, formants_hz: Sequence[float], *, width: float = 0.3, num_harmonics: int = 24
) -> list[float]:
    """Give each harmonic of a voice its weight: strong near the formants, `width` octaves to either side."""
    orders = np.arange(1, num_harmonics + 1)
    octaves = np.log2(orders[:, None] * pitch_hz / np.asarray(formants_hz)[None, :])
    weights: list[float] = (np.exp(-0.5 * (octaves / width) ** 2).sum(axis=1) + 0.02 / orders).tolist()
    return weights


def ring(span: Span, partials: Sequence[tuple[float, float, float]]) -> Signal:
    """Strike something: each partial is (frequency in Hz, weight, seconds until it has fallen to a third)."""
    times = span.times_s()
    total = np.zeros(span.num_samples)
    for frequency, weight, decay in partials:
        if frequency < 0.48 * span.rate_hz:
            total += weight * np.sin(2 * np.pi * frequency * times) * np.exp(-times / decay)
    return total


def swell(span: Span, *, attack_s: float, release_s: float) -> Signal:
    """Make an envelope that rises from 0, stays at 1 and falls to 0, all of it softly."""
    times = span.times_s()
    rise = np.clip(times / max(attack_s, 1e-4), 0, 1)
    fall = np.clip((span.duration_s - times) / max(release_s, 1e-4), 0, 1)
    envelope: Signal = np.sin(0.5 * np.pi * rise) * np.sin(0.5 * np.pi * fall)
    return envelope


def wander(rng: np.random.Generator, span: Span, *, rate_hz: float, low: float, high: float) -> Signal:
    """Make a smooth random curve between two values that turns about `rate_hz` times a second."""
    num_knots = max(3, round(span.duration_s * rate_hz * 2) + 2)
    knots = rng.uniform(low, high, size=num_knots)
    curve: Signal = np.interp(np.linspace(0, num_knots - 1, span.num_samples), np.arange(num_knots), knots)
    return curve


def pick_starts(
    rng: np.random.Generator, span: Span, *, count: int, length_s: float, period_s: float, jitter: float = 0.0
) -> list[int]:
    """Choose when events begin: a row of at most `count` that fits, at a random place, off the beat by `jitter`."""
    room_s = span.duration_s - length_s
    fitting = max(1, min(count, 1 + int(room_s / period_s)))
    begin = float(rng.uniform(0.0, max(0.0, room_s - (fitting - 1) * period_s)))
    beats = begin + period_s * (np.arange(fitting) + jitter * rng.uniform(-0.5, 0.5, size=fitting))
    return [round(float(beat) * span.rate_hz) for beat in np.clip(beats, 0.0, max(0.0, room_s))]


def add_event(total: Signal, event: Signal, start: int) -> None:
    """Add an event to a longer signal in place; what would lie beyond the end is cut off."""
    kept = event[: max(0, len(total) - start)]
    total[start : start + len(kept)] += kept
