"""AVQA's layout: questions share clips, and lists and tables agree."""

import json
from pathlib import Path
from typing import Any

import pytest

from miniworld.questions import draw_asked_clip, write_avqa
from miniworld.samples import encode_sound

COUNTS = {"train": 7, "val": 4}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_avqa(tmp_path_factory.mktemp("world"), num_train=COUNTS["train"], num_val=COUNTS["val"])


def _read(tree: Path, split: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((tree / "data" / "annotation" / f"{split}_qa.json").read_text())
    return entries


@pytest.mark.parametrize("split", COUNTS)
def test_questions_have_the_fields_of_the_layout(tree: Path, split: str) -> None:
    entries = _read(tree, split)
    assert len(entries) == COUNTS[split]
    for entry in entries:
        assert list(entry) == [
            *("id", "video_name", "video_id", "question_text"),
            *("multi_choice", "answer", "question_relation", "question_type"),
        ]
        assert len(set(entry["multi_choice"])) == 4
        assert entry["answer"] in range(4)
        assert entry["question_type"] in ("Which", "Come From", "Happening", "Where", "Why")
        assert (tree / "data" / "audio" / f"{entry['video_name']}.wav").is_file()
        assert len(entry["video_name"]) == 11 + 1 + 6
        assert str(entry["video_id"]) not in entry["video_name"]


def test_two_questions_share_a_clip(tree: Path) -> None:
    for split, count in COUNTS.items():
        names = [entry["video_name"] for entry in _read(tree, split)]
        assert len(set(names)) == (count + 1) // 2
        assert max(map(names.count, names)) == 2


def test_ids_occur_once(tree: Path) -> None:
    entries = [entry for split in COUNTS for entry in _read(tree, split)]
    assert len({entry["id"] for entry in entries}) == len(entries)
    assert len({(entry["video_id"], entry["video_name"]) for entry in entries}) == len(
        {entry["video_id"] for entry in entries}
    )


def test_questions_are_those_about_the_clip(tree: Path) -> None:
    entries = _read(tree, "val")
    for index in range(2):
        drawn = draw_asked_clip(0, "val", index=index)
        for entry, question in zip(entries[2 * index :], drawn.questions, strict=False):
            asked = (entry["question_text"], tuple(entry["multi_choice"]), entry["answer"], entry["question_type"])
            assert asked == (question.text, question.choices, question.answer, question.kind)
            audio = tree / "data" / "audio" / f"{entry['video_name']}.wav"
            assert audio.read_bytes() == encode_sound(drawn.sound.samples, "WAV")


@pytest.mark.parametrize("split", COUNTS)
def test_tables_say_what_the_lists_say(tree: Path, split: str) -> None:
    _, *rows = [line.split("\t") for line in (tree / f"avqa_{split}.tsv").read_text().splitlines()]
    for row, entry in zip(rows, _read(tree, split), strict=True):
        assert row[0] == str(entry["id"])
        assert row[1] == f"data/audio/{entry['video_name']}.wav"
        assert row[2].split("&&&") == [entry["question_text"], *entry["multi_choice"], str(entry["answer"])]
