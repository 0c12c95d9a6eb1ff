"""AudioCaps lists a caption a row; a clip has those of its rows."""

from pathlib import Path

import pytest

from downstream.formats.audiocaps import read
from downstream.formats.base import Captioned


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two clips, a third is gone."""
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "val.csv").write_bytes(
        b"audiocap_id,youtube_id,start_time,caption\r\n"
        b'9,-b_,30,"A dog, then a cat"\r\n3,a,0, A bell \r\n5,gone,7,Rain\r\n4,-b_,30,A dog barks\r\n'
    )
    for name in ("-b__30.flac", "a_0.wav"):
        path = tmp_path / "audio" / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_a_clip_has_the_captions_of_all_its_rows_in_order(root: Path) -> None:
    listing = read(root, "val")
    assert listing.samples == (
        Captioned("-b__30", root / "audio" / "val" / "-b__30.flac", ("A dog, then a cat", "A dog barks")),
        Captioned("a_0", root / "audio" / "val" / "a_0.wav", (" A bell ",)),
    )
    assert [sample.origin for sample in listing.samples] == ["dataset/val.csv, line 2", "dataset/val.csv, line 3"]


def test_clips_that_are_gone_are_told(root: Path) -> None:
    listing = read(root, "val")
    assert (listing.absent, listing.num_listed) == (("gone_7",), 3)


def test_the_sounds_of_another_split_do_not_count(root: Path) -> None:
    (root / "audio" / "test").mkdir()
    (root / "audio" / "test" / "gone_7.wav").touch()
    assert read(root, "val").absent == ("gone_7",)
