"""What there is to see of a sample, small enough for a page: pictures, masks in colours, spectrograms."""

import base64
import io
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX: Final = 224  # the longer one of a picture
SHEET_PX: Final = 640  # width of a whole sheet of pictures
QUALITY: Final = 60
MAX_SOUND_S: Final = 30.0
WINDOW: Final = 1024  # samples of sound that a column of a spectrogram is made of
COLUMNS: Final = 224
BANDS: Final = 72
RANGE_DB: Final = 80.0
LOWEST_HZ: Final = 40.0
RAMP: Final = ((0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))
"""From quiet to loud; lightness rises throughout, so it reads without colour too. After matplotlib's magma."""
CLASS_COLOURS: Final = (
    "#88ccee",
    "#ddcc77",
    "#117733",
    "#cc6677",
    "#332288",
    "#44aa99",
    "#aa4499",
    "#999933",
    "#882255",
    "#e8e8e8",
)
"""For the classes that fill most; told apart with any colour vision. Paul Tol's muted scheme."""
REST: Final = "#7a7a7a"
"""For all other classes, and for what belongs to none."""

Labels = NDArray[np.uint8]
Judged = NDArray[np.bool_]
UNREADABLE: Final = (OSError, ValueError, RuntimeError, SyntaxError, Image.DecompressionBombError, Warning)
"""What a file that cannot be shown may raise."""


class Encoded(NamedTuple):
    """A picture as a data address; width and height are those of the source, in pixels."""

    source: str
    width_px: int
    height_px: int


def encode_picture(path: Path, *, side_px: int = SIDE_PX) -> Encoded:
    """Shrink a picture so that its longer side has at most some pixels.

    Raises:
        OSError, ValueError, Warning: one of `UNREADABLE`.
    """
    with warnings.catch_warnings(action="error"), Image.open(path) as file:
        width, height = file.size
        file.draft("RGB", (2 * side_px, 2 * side_px))
        picture = _shrink(file.convert("RGB"), side_px, Image.Resampling.BICUBIC)
    return Encoded(_to_address(picture), width, height)


def encode_sheet(path: Path) -> Encoded:
    """Shrink a sheet of pictures to the width of a page; errors as of `encode_picture`."""
    with warnings.catch_warnings(action="error"), Image.open(path) as file:
        width, height = file.size
        share = min(1.0, SHEET_PX / width)
        sheet = file.convert("RGB").resize((max(1, round(width * share)), max(1, round(height * share))))
    return Encoded(_to_address(sheet), width, height)


def read_classes(path: Path, counts: Mapping[int, int], *, judged: Judged | None = None) -> Labels:
    """Read a label file as classes, (height, width): class numbers from 1, 0 is none.

    Data sets number classes in files in their own ways, but always in the order of the classes. So what each number
    stands for follows from how many pixels each class was counted to fill.

    Args:
        path: of the file, one number a pixel.
        counts: pixels by class number from 0, of the classes that occur.
        judged: (height, width), which pixels were counted; None is all.

    Raises:
        ValueError: the file holds other pixels than were counted; it is not the one that was judged.
        OSError, Warning: as of `encode_picture`.
    """
    with warnings.catch_warnings(action="error"), Image.open(path) as file:
        if file.mode not in ("L", "P"):
            raise ValueError(f"{path.name} has mode {file.mode}, expected one number a pixel")
        labels = np.array(file, dtype=np.uint8)
    table = np.zeros(256, dtype=np.uint8)
    if judged is not None and judged.shape != labels.shape:
        raise ValueError(f"{path.name} has {labels.shape} pixels, expected {judged.shape}")
    counted = labels if judged is None else labels[judged]
    found = iter(zip(*np.unique(counted, return_counts=True), strict=True))
    for number, pixels in sorted(counts.items()):
        value = next((value for value, filled in found if filled == pixels), None)
        if value is None or number >= 255:
            raise ValueError(f"{path.name} holds other pixels than were counted")
        table[value] = number + 1
    return table[labels]


def encode_labels(labels: Labels, colours: Mapping[int, str]) -> Encoded:
    """Give labels the colours of their classes, shrunk without mixing them; the other classes are grey."""
    picture = _shrink(Image.fromarray(labels), SIDE_PX, Image.Resampling.NEAREST)
    picture.putpalette([value for number in range(256) for value in _split(colours.get(number, REST))])
    height, width = labels.shape
    return Encoded(_to_address(picture, is_exact=True), width, height)


def choose_colours(labels: Iterable[Labels]) -> dict[int, str]:
    """Choose colours for the classes that fill most of some label files, by class number."""
    counts = np.zeros(256, dtype=np.int64)
    for each in labels:
        counts += np.bincount(each.ravel(), minlength=256)
    order = sorted(np.flatnonzero(counts[1:]) + 1, key=lambda number: (-counts[number], number))
    return {int(number): colour for number, colour in zip(order, CLASS_COLOURS, strict=False)}


def _split(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def encode_sound(path: Path) -> tuple[Encoded, float, float]:
    """Draw the spectrogram of a sound's first 30 seconds.

    Returns:
        The picture, how many seconds it shows, and its highest frequency in Hz.

    Raises:
        OSError, ValueError, RuntimeError: one of `UNREADABLE`.
    """
    import soundfile

    with soundfile.SoundFile(path) as file:
        rate = int(file.samplerate)
        sound = file.read(int(MAX_SOUND_S * rate), dtype="float32", always_2d=True).mean(axis=1)
    if not sound.size or not np.isfinite(sound).all():
        raise ValueError(f"{path.name} holds no sound")
    levels = measure_levels(sound, rate)
    ramp = np.array(RAMP, dtype=np.float64)
    places = np.linspace(0, len(ramp) - 1, 256)
    palette = np.stack([np.interp(places, range(len(ramp)), ramp[:, i]) for i in range(3)], axis=1)
    picture = Image.fromarray(palette.round().astype(np.uint8)[np.round(255 * levels).astype(np.uint8)])
    return Encoded(_to_address(picture), picture.width, picture.height), len(sound) / rate, rate / 2


def measure_levels(sound: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """Measure a sound's loudness by band and time, (bands, columns), 0 quiet to 1 the loudest of all.

    Args:
        sound: (samples,).
        rate_hz: samples a second.
    """
    padded = np.pad(sound.astype(np.float64), (0, max(0, WINDOW - len(sound))))
    starts = np.linspace(0, len(padded) - WINDOW, COLUMNS).round().astype(np.int64)
    frames = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    bands = power @ _band_shares(rate_hz)
    decibels = 10 * np.log10(np.maximum(bands, 1e-12))
    levels = np.clip(1 + (decibels - decibels.max()) / RANGE_DB, 0, 1)
    image: NDArray[np.float64] = levels.T[::-1]  # low tones at the bottom
    return image


def _band_shares(rate_hz: int) -> NDArray[np.float64]:
    """Share the frequencies of a window out to bands, (frequencies, bands): triangles, even on the mel scale."""

    def to_mel(hertz: Any) -> Any:
        return 2595 * np.log10(1 + np.asarray(hertz) / 700)

    frequencies = to_mel(np.fft.rfftfreq(WINDOW, 1 / rate_hz))
    edges = np.linspace(to_mel(LOWEST_HZ), to_mel(rate_hz / 2), BANDS + 2)
    step = edges[1] - edges[0]
    shares = np.maximum(0, 1 - np.abs(frequencies[:, None] - edges[None, 1:-1]) / step)
    nearest = np.abs(frequencies[:, None] - edges[None, 1:-1]).argmin(axis=0)
    shares[nearest, np.arange(BANDS)] = np.maximum(shares[nearest, np.arange(BANDS)], 1e-3)  # no band hears nothing
    total: NDArray[np.float64] = shares / shares.sum(axis=0)
    return total


def _shrink(picture: Image.Image, side_px: int, method: Image.Resampling) -> Image.Image:
    share = min(1.0, side_px / max(picture.size))
    width, height = (max(1, round(side * share)) for side in picture.size)
    return picture.resize((width, height), method)


def _to_address(picture: Image.Image, *, is_exact: bool = False) -> str:
    buffer = io.BytesIO()
    if is_exact:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "WEBP", quality=QUALITY, method=6)
    kind = "png" if is_exact else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
