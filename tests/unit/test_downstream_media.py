"""Every picture and sound is decoded before anything is computed, and the first faulty one is named in one line."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from downstream.formats.base import Labelled, MissingDataError
from downstream.media import MediaFacts, check_media, describe_media

ORIGIN = "meta/esc50.csv, line 17"


def sample(path: Path, origin: str = ORIGIN) -> Labelled:
    return Labelled(path.stem, path, (0,), origin)


def write_sound(path: Path, *, rate: int = 8000, channels: int = 1, length: int = 400) -> Path:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (length, channels))
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def write_picture(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 13, 3), dtype=np.uint8)).save(path)
    return path


def test_a_sound_is_told_by_rate_channels_duration_and_content(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.flac", rate=44_100, channels=2, length=22_050)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert check_media([sample(path)], "audio") == {
        path: MediaFacts(sha256=digest, sample_rate_hz=44_100, num_channels=2, duration_s=0.5)
    }


def test_a_picture_is_told_by_its_sides_and_content(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert check_media([sample(path)], "image") == {path: MediaFacts(sha256=digest, width_px=13, height_px=7)}


def test_a_file_of_several_samples_is_looked_at_once(tmp_path: Path) -> None:
    paths = [write_sound(tmp_path / f"{name}.wav") for name in "ba"]
    told: list[tuple[int, int]] = []
    facts = check_media(
        [sample(paths[0]), sample(paths[1]), sample(paths[0])], "audio", progress=lambda *done: told.append(done)
    )
    assert (list(facts), told) == (paths, [(1, 2), (2, 2)])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("<html>404</html>")


def no_number(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.nan, 0.5], dtype=np.float32), 8000, subtype="FLOAT")


def no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros((0, 1), dtype=np.float32), 8000)


SPOILT = [("audio", spoil) for spoil in (empty, cut, text, no_number, no_samples)]
SPOILT += [("image", spoil) for spoil in (empty, cut, text)]


@pytest.mark.parametrize(("modality", "spoil"), SPOILT)
def test_a_faulty_file_is_named_with_the_place_that_lists_it(
    tmp_path: Path, modality: str, spoil: Callable[[Path], None]
) -> None:
    path = write_sound(tmp_path / "a.wav") if modality == "audio" else write_picture(tmp_path / "a.png")
    spoil(path)
    with pytest.raises(ValueError, match="listed in") as caught:
        check_media([sample(path)], modality)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert message.endswith(f"; listed in {ORIGIN}")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("num_threads", [1, 4])
def test_of_several_faulty_files_the_first_in_order_is_named(tmp_path: Path, num_threads: int) -> None:
    paths = [write_sound(tmp_path / f"{number}.wav", length=20_000) for number in range(12)]
    for path in (paths[3], paths[4], paths[11]):
        empty(path)
    samples = [sample(path, f"list.csv, line {number}") for number, path in enumerate(paths, start=2)]
    with pytest.raises(ValueError, match=r"/3\.wav is empty, expected a sound file; listed in list\.csv, line 5$"):
        check_media(samples, "audio", num_threads=num_threads)


def test_a_file_that_went_away_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"a\.wav is missing; listed in meta/esc50\.csv, line 17"):
        check_media([sample(tmp_path / "a.wav")], "audio")


def test_an_unknown_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown modality 'video'\. Known: audio, image\."):
        check_media([], "video")


def test_pictures_that_pillow_warns_of_are_read_in_many_threads(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(60)]
    picture = Image.new("P", (5, 3))
    picture.putpalette(range(12))
    for path in paths:
        picture.save(path, transparency=bytes([0, 128, 64]))
    with pytest.warns(UserWarning, match="Transparency"):
        Image.open(paths[0]).convert("RGB")
    filters = list(warnings.filters)
    assert len(check_media([sample(path) for path in paths], "image", num_threads=8)) == 60
    assert warnings.filters == filters


def fact(rate: int, channels: int) -> MediaFacts:
    return MediaFacts("", sample_rate_hz=rate, num_channels=channels, duration_s=1.0)


def test_sounds_at_another_rate_or_of_several_channels_are_counted() -> None:
    facts = {Path("a"): fact(44_100, 1), Path("b"): fact(192_000, 2), Path("c"): fact(22_050, 2), Path("d"): fact(1, 1)}
    assert describe_media(facts, sample_rate_hz=44_100, num_channels=1) == (
        "3 clips are not at 44100 Hz, the first b at 192000 Hz",
        "2 clips have another number of channels than 1, the first b has 2",
    )


def test_only_what_is_published_is_compared() -> None:
    assert describe_media({Path("a"): fact(8000, 2)}, sample_rate_hz=None) == ()
    assert describe_media({Path("a"): fact(8000, 2)}, sample_rate_hz=None, num_channels=1) == (
        "1 clip has another number of channels than 1, the first a has 2",
    )
    assert describe_media({Path("a"): fact(8000, 1)}, sample_rate_hz=8000) == ()


def test_pictures_have_no_sample_rate() -> None:
    assert describe_media({Path("a"): MediaFacts("", width_px=1, height_px=1)}, sample_rate_hz=44_100) == ()
