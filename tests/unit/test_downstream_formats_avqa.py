"""AVQA's questions find their clip by its name, not by its number."""

import json
from pathlib import Path

import pytest

from downstream.formats.avqa import read
from downstream.formats.base import Question


def entry(**changes: object) -> dict[str, object]:
    choices = ["dog", "cat", "car", "2"]
    common = {"id": 1, "video_name": "a_000001", "video_id": 9, "question_text": " What? ", "question_type": "Which"}
    return common | {"multi_choice": choices, "answer": 3} | changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two questions about one clip, a third about one that is gone."""
    for folder in ("annotation", "audio"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    entries = [entry(id=70), entry(id=8, video_name="gone_000002"), entry(id=9, answer=0)]
    (tmp_path / "data" / "annotation" / "train_qa.json").write_text(json.dumps(entries))
    (tmp_path / "data" / "audio" / "a_000001.flac").touch()
    return tmp_path


def test_a_question_has_four_choices_and_the_right_one(root: Path) -> None:
    media = root / "data" / "audio" / "a_000001.flac"
    assert read(root, "train").samples == (
        Question("70", media, " What? ", ("dog", "cat", "car", "2"), 3),
        Question("9", media, " What? ", ("dog", "cat", "car", "2"), 0),
    )


def test_questions_about_clips_that_are_gone_are_told(root: Path) -> None:
    listing = read(root, "train")
    assert (listing.absent, listing.num_listed) == (("8",), 3)


def test_origins_count_the_questions_from_one(root: Path) -> None:
    assert [sample.origin for sample in read(root, "train").samples] == [
        "data/annotation/train_qa.json, question 1",
        "data/annotation/train_qa.json, question 3",
    ]
