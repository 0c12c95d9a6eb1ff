"""VGGSound is read by either test list, with classes in the order of `stat.csv`."""

from pathlib import Path

import pytest

from downstream.formats.base import Labelled
from downstream.formats.vggsound import NUM_CLASSES, read, read_classes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two clips of test, one of train; another of test is gone."""
    (tmp_path / "vggsound.csv").write_text(
        '-a,7,"playing violin, fiddle",test\nb,140,cow lowing,train\ngone,0,cow lowing,test\nc,999999,cow lowing,test\n'
    )
    (tmp_path / "stat.csv").write_text('cow lowing,10,animals\n"playing violin, fiddle",20,music\n')
    for name in ("-a_000007.flac", "train/b_000140.wav", "test/c_999999.wav"):
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_clips_are_named_by_id_and_padded_start(root: Path) -> None:
    listing = read(root, "test")
    assert listing.samples == (
        Labelled("-a_000007", root / "audio" / "-a_000007.flac", (1,)),
        Labelled("c_999999", root / "audio" / "test" / "c_999999.wav", (0,)),
    )
    assert listing.absent == ("gone_000000",)
    assert [sample.id for sample in read(root, "train").samples] == ["b_000140"]


def test_class_names_are_whole_labels(root: Path) -> None:
    listing = read(root, "test")
    assert listing.class_names == ("cow lowing", "playing violin, fiddle")
    assert [path.name for path in listing.sources] == ["vggsound.csv", "stat.csv"]


def test_the_makers_test_list_goes_before_the_whole_list(root: Path) -> None:
    (root / "test.csv").write_text('c_999999.mp4,"playing violin, fiddle"\n')
    listing = read(root, "test")
    assert [(sample.id, sample.labels) for sample in listing.samples] == [("c_999999", (1,))]
    assert listing.samples[0].origin == "test.csv, line 1"
    assert len(read(root, "train").samples) == 1


def test_more_labels_than_published_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "stat.csv"
    path.write_text("".join(f"label {number},1,x\n" for number in range(NUM_CLASSES + 1)))
    with pytest.raises(ValueError, match="line 310: more than 309 labels"):
        read_classes(path)
