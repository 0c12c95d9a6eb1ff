import json
import shutil
from pathlib import Path

import pytest

from miniworld.pretraining import write_pairs
from miniworld.sound import SOUNDS
from pretrain.held_out import read_held_out

LISTS = ("dataset_miniworld.json", "sounds.tsv", "sounds_captions.json", "meta/esc50.csv", "sound_concepts.json")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """What the miniworld's own writer makes."""
    counts = {"num_pictures": 1, "num_sounds": 1, "num_held_out": 3, "clips_per_class": 5}
    return write_pairs(tmp_path_factory.mktemp("world"), **counts, num_workers=1) / "held_out"


@pytest.fixture
def lists(world, tmp_path) -> Path:
    """The lists of that world, to be spoilt."""
    (tmp_path / "meta").mkdir()
    for name in LISTS:
        shutil.copyfile(world / name, tmp_path / name)
    return tmp_path


def spoil(path: Path, old: str, new: str, *, count: int = 1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def test_everything_that_the_miniworld_writes_is_found(world):
    found = read_held_out(world)
    assert len(found.pictures) == 3
    assert all(picture.path.is_file() and len(picture.sentences) == 2 and picture.things for picture in found.pictures)
    assert len(found.clips) == 5 * len(SOUNDS)
    assert all(clip.path.is_file() and len(clip.sentences) == 1 for clip in found.clips)
    assert all(clip.path.stem.endswith(f"-{list(found.concepts).index(clip.category)}") for clip in found.clips)
    assert found.concepts == {sound.name: sound.concept for sound in SOUNDS}


@pytest.mark.parametrize("name", LISTS)
def test_a_missing_list_is_named(lists, name):
    (lists / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}; expected the folder held_out"):
        read_held_out(lists)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_miniworld.json", "{", "dataset_miniworld.json is no JSON"),
        ("dataset_miniworld.json", '{"images": []}', "has no pictures"),
        ("sound_concepts.json", "[1]", "holds no object"),
        ("sound_concepts.json", '{"dog": 3}', "gives 'dog' the thing 3"),
        ("sounds.tsv", "uniq_id\ttext\n", "has no column 'audio', only uniq_id, text"),
        ("sounds.tsv", "", "has no column 'uniq_id', only none"),
        ("sounds.tsv", "uniq_id\taudio\ttext\n", "has no rows"),
        ("sounds.tsv", "uniq_id\taudio\ttext\na\tb\n", "line 2, has another number of values"),
        ("sounds.tsv", "uniq_id\taudio\ttext\na\tb\tc\td\n", "line 2, has another number of values"),
    ],
)
def test_a_list_that_is_something_else_is_refused_in_one_line(lists, name, content, message):
    (lists / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        read_held_out(lists)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("dataset_miniworld.json", '"split": "test"', '"split": "train"', "picture 0: split 'train'"),
        ("dataset_miniworld.json", '"things"', '"objects"', "picture 0: things"),
        ("sounds.tsv", "audio/1-", "audio/9-", "expected one row for each row of meta/esc50.csv"),
        ("sounds.tsv", "\tthe ", "\tsome other ", "expected a list with its text"),
        ("meta/esc50.csv", ",dog,", ",wolf,", "of class 'wolf', which sound_concepts.json lacks"),
        ("meta/esc50.csv", "1-100001-A-1.wav", "1-100000-A-0.wav", "has '1-100000-A-0.wav' twice"),
        ("meta/esc50.csv", "1-100000-A-0.wav", "1-100000-A-0.wav,1,0,dog,0,0,A\nmore.wav", "has 'more.wav', which sou"),
        ("sounds_captions.json", "{", '{"more": ["a sound"],', "has 'more', which sounds.tsv lacks"),
    ],
)
def test_lists_that_contradict_each_other_or_are_not_held_out_are_refused(lists, name, old, new, message):
    spoil(lists / name, old, new)
    with pytest.raises(ValueError, match=message) as error:
        read_held_out(lists)
    assert "\n" not in str(error.value)


def test_a_list_that_is_not_utf8_is_named(lists):
    (lists / "sounds.tsv").write_bytes(b"uniq_id\taudio\ttext\n\xff\t\t\n")
    with pytest.raises(ValueError, match=r"sounds\.tsv is not UTF-8"):
        read_held_out(lists)


def test_several_sentences_of_a_sound_are_all_kept(lists):
    captions = json.loads((lists / "sounds_captions.json").read_text(encoding="utf-8"))
    first = next(iter(captions))
    captions[first].append("once more")
    (lists / "sounds_captions.json").write_text(json.dumps(captions), encoding="utf-8")
    assert read_held_out(lists).clips[0].sentences[1:] == ("once more",)
