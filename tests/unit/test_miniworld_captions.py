"""The layouts of AudioCaps and Clotho: captions are true of their clips, and lists and tables agree."""

import csv
import itertools
from pathlib import Path

import pytest

from miniworld.audiocaps import write_audiocaps
from miniworld.captions import draw_captioned_clip
from miniworld.clotho import write_clotho
from miniworld.samples import encode_sound
from miniworld.sayings import SAYINGS

AUDIOCAPS = {"train": 6, "val": 3, "test": 5}
CLOTHO = {"development": 6, "validation": 3, "evaluation": 5}


@pytest.fixture(scope="module")
def audiocaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {f"num_{split}": count for split, count in AUDIOCAPS.items()}
    return write_audiocaps(tmp_path_factory.mktemp("world"), **counts)


@pytest.fixture(scope="module")
def clotho(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {f"num_{split}": count for split, count in CLOTHO.items()}
    return write_clotho(tmp_path_factory.mktemp("world"), **counts)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read_table(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")[1:]]


@pytest.mark.parametrize("stream", ["audiocaps-test", "clotho-evaluation"])
def test_captions_name_everything_that_is_heard(stream: str) -> None:
    for index in range(12):
        drawn = draw_captioned_clip(0, stream, index=index, num_captions=5, alone_share=0.3)
        assert len(set(drawn.captions)) == 5
        for caption in drawn.captions:
            assert caption[0].isupper()
            for heard in drawn.clip.heard:
                assert any(noun in caption.lower() for noun in SAYINGS[heard.name].nouns)


def test_clips_are_alone_together_or_in_turn() -> None:
    drawn = [draw_captioned_clip(0, "audiocaps-test", index=n, num_captions=1, alone_share=0.3).clip for n in range(30)]
    assert {(len(clip.heard), clip.is_sequence) for clip in drawn} == {(1, False), (2, False), (2, True)}


@pytest.mark.parametrize("split", AUDIOCAPS)
def test_audiocaps_has_a_row_a_caption(audiocaps: Path, split: str) -> None:
    rows = _read(audiocaps / "dataset" / f"{split}.csv")
    assert list(rows[0]) == ["audiocap_id", "youtube_id", "start_time", "caption"]
    assert len({row["audiocap_id"] for row in rows}) == len(rows)
    clips = [f"{row['youtube_id']}_{row['start_time']}" for row in rows]
    assert {path.stem for path in (audiocaps / "audio" / split).iterdir()} == set(clips)
    assert all(clips.count(clip) == (1 if split == "train" else 5) for clip in clips)
    assert all(first != second for first, second in itertools.pairwise(clips))
    assert len({row["youtube_id"] for row in rows}) == AUDIOCAPS[split]
    assert all(str(int(row["start_time"])) == row["start_time"] for row in rows)


@pytest.mark.parametrize("split", AUDIOCAPS)
def test_audiocaps_tables_say_what_the_lists_say(audiocaps: Path, split: str) -> None:
    listed = [
        (f"{row['youtube_id']}_{row['start_time']}", row["caption"])
        for row in _read(audiocaps / "dataset" / f"{split}.csv")
    ]
    rows = _read_table(audiocaps / f"audiocaps_{split}_new.tsv")
    assert sorted((row[0], row[2]) for row in rows) == sorted(listed)
    assert all(row[1] == f"audio/{split}/{row[0]}.flac" for row in rows)


@pytest.mark.parametrize("split", CLOTHO)
def test_clotho_has_five_captions_for_every_file(clotho: Path, split: str) -> None:
    rows = _read(clotho / f"clotho_captions_{split}.csv")
    assert list(rows[0]) == ["file_name", *(f"caption_{number}" for number in range(1, 6))]
    assert {row["file_name"] for row in rows} == {path.name for path in (clotho / split).iterdir()}
    assert len(rows) == CLOTHO[split]
    assert all(len(set(row.values())) == 6 for row in rows)


def test_clotho_has_names_that_must_not_be_tidied(clotho: Path) -> None:
    names = [row["file_name"] for row in _read(clotho / "clotho_captions_development.csv")]
    assert any(name.startswith(" ") for name in names)
    assert any("  " in name and "#" in name for name in names)
    assert any("," in name for name in names)


@pytest.mark.parametrize("split", CLOTHO)
def test_clotho_tables_say_what_the_lists_say(clotho: Path, split: str) -> None:
    listed = [
        (row["file_name"], row[f"caption_{number}"])
        for row in _read(clotho / f"clotho_captions_{split}.csv")
        for number in range(1, 6)
    ]
    rows = _read_table(clotho / f"clotho_{split}_new.tsv")
    assert [(row[0], row[2]) for row in rows] == listed
    assert all(row[1] == f"{split}/{row[0]}" for row in rows)


def test_files_hold_the_clips_that_are_described(clotho: Path) -> None:
    row = _read(clotho / "clotho_captions_evaluation.csv")[2]
    drawn = draw_captioned_clip(0, "clotho-evaluation", index=2, num_captions=5, alone_share=0.0)
    assert tuple(row.values())[1:] == drawn.captions
    assert (clotho / "evaluation" / row["file_name"]).read_bytes() == encode_sound(drawn.clip.samples, "WAV")


def test_lines_end_in_two_ways(audiocaps: Path, clotho: Path) -> None:
    assert (audiocaps / "dataset" / "test.csv").read_bytes().count(b"\r\n") == 1 + 5 * AUDIOCAPS["test"]
    assert (clotho / "clotho_captions_validation.csv").read_bytes().count(b"\r\n") == 1 + CLOTHO["validation"]
    assert b"\r" not in (clotho / "clotho_captions_evaluation.csv").read_bytes()
