"""One sound of the miniworld from its class and a seed: what it is, in what room, behind how much noise."""

import zlib
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from miniworld import voices
from miniworld.scene import check_seed
from miniworld.signals import Signal, Span, draw_noise, fft_size, normalise
from miniworld.voices import Voice

Samples: TypeAlias = NDArray[np.float32]

SHORTEST_S: Final = 0.5
LOWEST_RATE_HZ: Final = 8000
SNR_DB: Final = (8.0, 36.0)  # power of the thing over that of the noise behind it
PEAK: Final = (0.2, 0.95)
ECHO_SHARE: Final = 0.5  # how often a sound has a room around it


@dataclass(frozen=True)
class SoundClass:
    """One kind of sound.

    Attributes:
        name: its label, in the style of ESC-50. It names the thing that can be seen: sentences of pictures, which make
            the text branch, never speak of footsteps.
        concept: the thing in a picture that makes it; None where nothing that can be seen does.
        voice: makes it.
    """

    name: str
    concept: str | None
    voice: Voice


SOUNDS: Final = (
    SoundClass("airplane", "airplane", voices.fly_over),
    SoundClass("boat_horn", "boat", voices.blow_horn),
    SoundClass("car_engine", "car", voices.rev),
    SoundClass("chirping_birds", "bird", voices.chirp),
    SoundClass("tower_bell", "tower", voices.toll),
    SoundClass("clock_tick", "clock", voices.tick),
    SoundClass("cow", "cow", voices.moo),
    SoundClass("dog", "dog", voices.bark),
    SoundClass("house_door_knock", "house", voices.knock),
    SoundClass("flag_flapping", "flag", voices.flap),
    SoundClass("person_walking", "person", voices.walk),
    SoundClass("flower_bees", "flower", voices.buzz),
    SoundClass("rain", None, voices.pour_rain),
    SoundClass("tree_leaves", "tree", voices.rustle),
    SoundClass("sea_waves", "sea", voices.break_waves),
    SoundClass("sheep", "sheep", voices.bleat),
    SoundClass("siren", None, voices.wail),
)


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound with what is known about it.

    Attributes:
        name: of its class.
        samples: (samples,), within [-1, 1).
        num_events: how many barks, strokes or steps are in it; None for one long sound or too many to count.
    """

    name: str
    samples: Samples
    num_events: int | None


def find_sound(name: str) -> SoundClass:
    """Look a class of sounds up by its name."""
    for sound in SOUNDS:
        if sound.name == name:
            return sound
    raise ValueError(f"unknown sound {name!r}; the miniworld has: {', '.join(sound.name for sound in SOUNDS)}")


def draw_sound(name: str, seed: int, *, duration_s: float, sample_rate_hz: int = 16_000) -> Samples:
    """Make the samples of a sound; see `compose_sound`."""
    return compose_sound(name, seed, duration_s=duration_s, sample_rate_hz=sample_rate_hz).samples


def compose_sound(name: str, seed: int, *, duration_s: float, sample_rate_hz: int = 16_000) -> Sound:
    """Make the sound that belongs to a class and a seed.

    Raises:
        ValueError: there is no such class, the seed is negative, or the sound would be too short or too dull to know.
    """
    found = find_sound(name)
    check_seed(seed)
    if not duration_s >= SHORTEST_S:
        raise ValueError(f"duration_s is {duration_s}; expected at least {SHORTEST_S}")
    if sample_rate_hz < LOWEST_RATE_HZ:
        raise ValueError(f"sample_rate_hz is {sample_rate_hz}; expected at least {LOWEST_RATE_HZ}")
    # By name and not by place in the table, so that a new class leaves the sounds of the others alone.
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    span = Span(round(duration_s * sample_rate_hz), sample_rate_hz)
    played = found.voice(rng, span)
    heard = _add_room(rng, normalise(played.signal), span=span)
    snr_db = float(rng.uniform(*SNR_DB))
    noise = draw_noise(rng, span, band_hz=(40, 0.45 * sample_rate_hz), slope_db=float(rng.uniform(-6, 0)))
    mixed = heard + noise * 10 ** (-snr_db / 20)
    gain = float(rng.uniform(*PEAK)) / float(np.abs(mixed).max())
    return Sound(name, (mixed * gain).astype(np.float32), played.num_events)


def _add_room(rng: np.random.Generator, signal: Signal, *, span: Span) -> Signal:
    """Add the echo of some room, or none."""
    if rng.random() >= ECHO_SHARE:
        return signal
    tail = span.part(float(rng.uniform(0.08, 0.3)))
    decay = np.exp(-5 * np.linspace(0, 1, tail.num_samples))
    response = rng.standard_normal(tail.num_samples) * decay
    size = fft_size(span.num_samples + tail.num_samples)
    echo = np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(response, size), size)[: span.num_samples]
    return signal + float(rng.uniform(0.1, 0.4)) * normalise(echo)
