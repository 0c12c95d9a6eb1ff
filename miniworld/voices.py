"""How each thing sounds: like `forms`, drawn anew from a random generator, at any loudness, without room or noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from miniworld.signals import (
    Signal,
    Span,
    add_event,
    draw_noise,
    normalise,
    pick_starts,
    ring,
    sum_harmonics,
    swell,
    wander,
    weigh_formants,
)


@dataclass(frozen=True, eq=False)
class Performance:
    """What a voice gave: its signal, and how many separate events are in it (None where it is one long sound)."""

    signal: Signal
    num_events: int | None = None


Voice: TypeAlias = Callable[[np.random.Generator, Span], Performance]

# Partials of a church bell over its strike note: hum, prime, tierce, quint, nominal and above, as bell founders tune.
BELL_PARTIALS: Final = ((0.5, 0.7, 2.2), (1.0, 1.0, 1.2), (1.19, 0.8, 0.9), (1.5, 0.45, 0.7), (2.0, 0.8, 0.5))
BELL_OVERTONES: Final = ((2.51, 0.35, 0.3), (2.66, 0.3, 0.28), (3.01, 0.3, 0.25), (4.1, 0.25, 0.15))


def _repeat(
    rng: np.random.Generator,
    span: Span,
    *,
    count: int,
    length_s: float,
    period_s: float,
    jitter: float,
    event: Callable[[Span], Signal],
) -> Performance:
    starts = pick_starts(rng, span, count=count, length_s=length_s, period_s=period_s, jitter=jitter)
    total = np.zeros(span.num_samples)
    for start in starts:
        add_event(total, event(span.part(length_s)) * float(rng.uniform(0.75, 1.0)), start)
    return Performance(total, len(starts))


def bark(rng: np.random.Generator, span: Span) -> Performance:
    """A dog: short rough barks, the pitch jumping up and falling."""
    pitch, length = float(rng.uniform(260, 560)), float(rng.uniform(0.14, 0.24))

    def event(part: Span) -> Signal:
        along = np.linspace(0, 1, part.num_samples)
        glide = pitch * (0.8 + 0.5 * np.sin(np.pi * along**0.6)) * wander(rng, part, rate_hz=60, low=0.95, high=1.05)
        weights = weigh_formants(pitch, (pitch * 2, 1150, 2300), width=0.45)
        breath = draw_noise(rng, part, band_hz=(500, 3500)) * 0.5
        heard: Signal = (normalise(sum_harmonics(glide, part, weights=weights)) + breath) * swell(
            part, attack_s=0.012, release_s=0.6 * length
        )
        return heard

    period = length + float(rng.uniform(0.12, 0.4))
    count = int(rng.integers(1, 5))
    return _repeat(rng, span, count=count, length_s=length, period_s=period, jitter=0.2, event=event)


def moo(rng: np.random.Generator, span: Span) -> Performance:
    """A cow: one long low call that opens and closes."""
    pitch, length = float(rng.uniform(85, 150)), float(rng.uniform(0.75, 0.95)) * min(span.duration_s, 1.6)

    def event(part: Span) -> Signal:
        along = np.linspace(0, 1, part.num_samples)
        glide = pitch * (0.85 + 0.3 * np.sin(np.pi * along**0.7)) * wander(rng, part, rate_hz=9, low=0.985, high=1.015)
        dark = sum_harmonics(glide, part, weights=weigh_formants(pitch, (240, 420), width=0.5))
        open_mouth = sum_harmonics(glide, part, weights=weigh_formants(pitch, (620, 1050), width=0.35))
        openness = np.sin(np.pi * along) ** 2
        heard: Signal = (normalise(dark) + 0.8 * openness * normalise(open_mouth)) * swell(
            part, attack_s=0.12, release_s=0.3 * length
        )
        return heard

    return _repeat(rng, span, count=1, length_s=length, period_s=length, jitter=0.0, event=event)


def bleat(rng: np.random.Generator, span: Span) -> Performance:
    """A sheep: a nasal call that trembles quickly."""
    pitch, length = float(rng.uniform(290, 460)), float(rng.uniform(0.45, 0.75))
    tremble = float(rng.uniform(8, 13))

    def event(part: Span) -> Signal:
        beat = np.sin(2 * np.pi * tremble * part.times_s() + float(rng.uniform(0, 6)))
        glide = pitch * (1.0 + 0.04 * beat) * np.linspace(1.05, 0.92, part.num_samples)
        weights = weigh_formants(pitch, (900, 1500, 2700), width=0.25)
        rough = draw_noise(rng, part, band_hz=(900, 3500)) * 0.15
        heard: Signal = (
            (normalise(sum_harmonics(glide, part, weights=weights)) + rough)
            * (0.55 + 0.45 * beat)
            * swell(part, attack_s=0.04, release_s=0.15)
        )
        return heard

    count, period = int(rng.integers(1, 3)), length + float(rng.uniform(0.08, 0.25))
    return _repeat(rng, span, count=count, length_s=length, period_s=period, jitter=0.1, event=event)


def chirp(rng: np.random.Generator, span: Span) -> Performance:
    """Birds: many quick whistles that sweep, high up."""
    centre, length = float(rng.uniform(2800, 5000)), float(rng.uniform(0.05, 0.11))
    bend = float(rng.choice((-1, 1))) * float(rng.uniform(0.15, 0.4))

    def event(part: Span) -> Signal:
        along = np.linspace(-1, 1, part.num_samples)
        sweep = centre * float(rng.uniform(0.88, 1.12)) * (1 + 0.5 * bend * along + 0.1 * np.cos(np.pi * along * 2))
        heard: Signal = sum_harmonics(sweep, part, weights=(1.0, 0.12)) * swell(
            part, attack_s=0.3 * length, release_s=0.5 * length
        )
        return heard

    count, period = int(rng.integers(4, 13)), length + float(rng.uniform(0.03, 0.16))
    return Performance(
        _repeat(rng, span, count=count, length_s=length, period_s=period, jitter=0.3, event=event).signal
    )


def toll(rng: np.random.Generator, span: Span) -> Performance:
    """A church bell: struck metal that rings on."""
    note = float(rng.uniform(280, 620))
    partials = [
        (note * ratio * float(rng.uniform(0.995, 1.005)), weight, decay)
        for ratio, weight, decay in (*BELL_PARTIALS, *BELL_OVERTONES)
    ]
    stroke = ring(span, partials) * swell(span, attack_s=0.003, release_s=0.05)
    count, period = int(rng.integers(1, 4)), float(rng.uniform(0.45, 0.75))
    total = np.zeros(span.num_samples)
    starts = pick_starts(rng, span, count=count, length_s=0.35, period_s=period)
    for start in starts:
        add_event(total, stroke * float(rng.uniform(0.8, 1.0)), start)
    return Performance(total, len(starts))


def tick(rng: np.random.Generator, span: Span) -> Performance:
    """A clock: dry clicks on an even beat, every second one a little lower."""
    high, length = float(rng.uniform(2200, 4200)), 0.035
    notes = [high, high * float(rng.uniform(0.7, 0.85))]
    turn = 0

    def event(part: Span) -> Signal:
        nonlocal turn
        turn += 1
        note = notes[turn % 2]
        click = ring(part, ((note, 1.0, 0.006), (note * 1.63, 0.6, 0.004), (note * 0.41, 0.4, 0.007)))
        heard: Signal = click + 0.2 * draw_noise(rng, part, band_hz=(1500, 7000)) * np.exp(-part.times_s() / 0.003)
        return heard

    period = float(rng.uniform(0.22, 0.5))
    done = _repeat(rng, span, count=99, length_s=length, period_s=period, jitter=0.0, event=event)
    return Performance(done.signal)


def rev(rng: np.random.Generator, span: Span) -> Performance:
    """A car engine: a row of low bursts whose rate idles, rises or falls."""
    idle, top = float(rng.uniform(28, 50)), float(rng.uniform(1.0, 2.6))
    along = np.linspace(0, 1, span.num_samples)
    course = along if rng.random() < 0.6 else np.sin(np.pi * along)
    firing = idle * (1 + (top - 1) * course) * wander(rng, span, rate_hz=15, low=0.98, high=1.02)
    weights = [1.0 / order**0.7 for order in range(1, 26)]
    beat = 1 + 0.4 * sum_harmonics(firing / 2, span, weights=(1.0,))
    grumble = draw_noise(rng, span, band_hz=(120, 900)) * 0.5
    return Performance((normalise(sum_harmonics(firing, span, weights=weights)) + grumble) * beat)


def fly_over(rng: np.random.Generator, span: Span) -> Performance:
    """An airplane: a broad roar with a thin whine that falls as it passes."""
    roar = draw_noise(rng, span, band_hz=(90, float(rng.uniform(900, 1800))), slope_db=-3)
    along = np.linspace(-1, 1, span.num_samples)
    whine = float(rng.uniform(1300, 2600)) * (1 - float(rng.uniform(0.06, 0.16)) * np.tanh(2 * along))
    passing = float(rng.uniform(-0.4, 0.6))
    distance = 1 / (0.4 + (along - passing) ** 2)
    tone = sum_harmonics(whine, span, weights=(1.0, 0.4, 0.2))
    return Performance((roar + float(rng.uniform(0.2, 0.4)) * tone) * distance)


def break_waves(rng: np.random.Generator, span: Span) -> Performance:
    """The sea: hissing noise that swells slowly, brighter as the wave breaks."""
    times, cycle = span.times_s(), float(rng.uniform(0.9, 1.6))
    phase = (times / cycle + float(rng.uniform(0, 1))) % 1.0
    wave = np.where(phase < 0.55, (phase / 0.55) ** 2, np.exp(-(phase - 0.55) * 5))
    deep = draw_noise(rng, span, band_hz=(80, 700), slope_db=-2) * (0.3 + 0.5 * wave)
    hiss = draw_noise(rng, span, band_hz=(700, 5500), slope_db=-2) * wave**1.5
    return Performance(deep + float(rng.uniform(0.8, 1.3)) * hiss)


def blow_horn(rng: np.random.Generator, span: Span) -> Performance:
    """A boat's horn: a low steady blast, brassy, of two notes close to each other."""
    pitch, length = float(rng.uniform(105, 210)), float(rng.uniform(0.55, 0.9)) * min(span.duration_s, 1.5)
    interval = float(rng.choice((1.0, 1.19, 1.26)))

    def event(part: Span) -> Signal:
        weights = [1.0 / order for order in range(1, 14)]
        start = 1 - 0.05 * np.exp(-part.times_s() / 0.05)
        notes = [sum_harmonics(pitch * ratio * start, part, weights=weights) for ratio in (1.0, interval * 1.004)]
        heard: Signal = (notes[0] + 0.8 * notes[1]) * swell(part, attack_s=0.07, release_s=0.1)
        return heard

    count = 1 if length > 0.6 else int(rng.integers(1, 3))
    return _repeat(rng, span, count=count, length_s=length, period_s=length + 0.15, jitter=0.0, event=event)


def flap(rng: np.random.Generator, span: Span) -> Performance:
    """A flag in the wind: dull cloth beats, irregular and fast, over a little wind."""
    length = float(rng.uniform(0.05, 0.08))

    def event(part: Span) -> Signal:
        cloth = draw_noise(rng, part, band_hz=(150, float(rng.uniform(700, 1500))), slope_db=-3)
        heard: Signal = cloth * np.exp(-part.times_s() / (0.3 * length)) * float(rng.uniform(0.3, 1.0))
        return heard

    period = float(rng.uniform(0.09, 0.16))
    beats = _repeat(rng, span, count=99, length_s=length, period_s=period, jitter=0.8, event=event)
    gust = draw_noise(rng, span, band_hz=(60, 350), slope_db=-3) * wander(rng, span, rate_hz=1.5, low=0.05, high=0.2)
    return Performance(beats.signal + gust)


def walk(rng: np.random.Generator, span: Span) -> Performance:
    """Footsteps: a soft thud and a crunch of gravel, at a walking pace."""
    thud_hz, crunchiness = float(rng.uniform(70, 130)), float(rng.uniform(0.3, 0.6))

    def event(part: Span) -> Signal:
        times = part.times_s()
        thud = ring(part, ((thud_hz, 1.6, 0.03), (thud_hz * 1.9, 0.7, 0.02)))
        grains = (rng.random(part.num_samples) < 0.08) * rng.standard_normal(part.num_samples)
        crunch = draw_noise(rng, part, band_hz=(1800, 5500)) * 0.4 + 1.2 * grains
        heard: Signal = thud + crunchiness * crunch * np.exp(-(((times - 0.05) / 0.035) ** 2))
        return heard

    period = float(rng.uniform(0.38, 0.6))
    return _repeat(rng, span, count=int(rng.integers(2, 6)), length_s=0.16, period_s=period, jitter=0.08, event=event)


def rustle(rng: np.random.Generator, span: Span) -> Performance:
    """Leaves: thin dry crackle that comes and goes with the wind."""
    crackle = draw_noise(rng, span, band_hz=(2500, 7000), slope_db=1)
    grains = (rng.random(span.num_samples) < 0.015) * rng.standard_normal(span.num_samples) * 6
    breeze = wander(rng, span, rate_hz=float(rng.uniform(1.5, 4)), low=0.05, high=1.0) ** 1.5
    flutter = wander(rng, span, rate_hz=25, low=0.2, high=1.0)
    return Performance((crackle + grains) * breeze * flutter)


def knock(rng: np.random.Generator, span: Span) -> Performance:
    """A knock on a wooden door: a few quick hollow strokes."""
    wood = float(rng.uniform(170, 380))

    def event(part: Span) -> Signal:
        body = ring(
            part, ((wood, 1.0, 0.03), (wood * 1.7, 0.7, 0.02), (wood * 2.9, 0.5, 0.012), (wood * 4.3, 0.3, 0.008))
        )
        heard: Signal = body + 0.3 * draw_noise(rng, part, band_hz=(600, 3000)) * np.exp(-part.times_s() / 0.004)
        return heard

    period = float(rng.uniform(0.15, 0.28))
    return _repeat(rng, span, count=int(rng.integers(2, 6)), length_s=0.14, period_s=period, jitter=0.1, event=event)


def buzz(rng: np.random.Generator, span: Span) -> Performance:
    """An insect: a buzzing tone that wavers as it comes near and goes."""
    pitch = float(rng.uniform(170, 280)) * wander(rng, span, rate_hz=5, low=0.9, high=1.1)
    weights = [1.0 / order**0.5 for order in range(1, 21)]
    near = wander(rng, span, rate_hz=1.5, low=0.15, high=1.0)
    flutter = 1 + 0.3 * wander(rng, span, rate_hz=30, low=-1, high=1)
    return Performance(sum_harmonics(pitch, span, weights=weights) * near * flutter)


def wail(rng: np.random.Generator, span: Span) -> Performance:
    """A siren: a loud tone that goes up and down, or between two notes."""
    times, rate = span.times_s(), float(rng.uniform(0.8, 2.6))
    low, high = float(rng.uniform(480, 650)), float(rng.uniform(950, 1400))
    turning = np.sin(2 * np.pi * rate * times + float(rng.uniform(0, 6.28)))
    course = np.tanh(8 * turning) if rng.random() < 0.4 else turning
    pitch = low + (high - low) * 0.5 * (1 + course)
    return Performance(sum_harmonics(pitch, span, weights=(1.0, 0.5, 0.45, 0.2, 0.15)))


def pour_rain(rng: np.random.Generator, span: Span) -> Performance:
    """Rain: an even hiss with single drops in it."""
    hiss = draw_noise(rng, span, band_hz=(400, 7500), slope_db=-1)
    total = hiss * float(rng.uniform(0.3, 0.6))
    for start in rng.integers(0, span.num_samples, size=int(rng.uniform(25, 70) * span.duration_s)).tolist():
        note = float(rng.uniform(900, 3800))
        add_event(total, ring(span.part(0.02), ((note, float(rng.uniform(0.5, 2.5)), 0.004),)), start)
    return Performance(total)
