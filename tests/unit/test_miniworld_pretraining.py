"""Pairs on disk: whole shards, a held-out part in the layouts of real sets, and the same pairs as plain files."""

import csv
import gc
import hashlib
import io
import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from PIL import Image

import miniworld.shards
from miniworld.concepts import CONCEPTS
from miniworld.pretraining import write_pair_tables, write_pairs
from miniworld.samples import STREAMS, make_picture, make_sound, pair_seed
from miniworld.shards import make_shards, plan_shards
from miniworld.sound import SOUNDS

NUM_PICTURES, NUM_SOUNDS, NUM_HELD_OUT, CLIPS, SIDE_PX = 7, 5, 4, 5, 48
FILES_OF = {"pictures": ("jpg", "txt", "json"), "sounds": ("flac", "txt", "json")}


def _write(root: Path, **changes: int) -> Path:
    options = {
        "num_pictures": NUM_PICTURES,
        "num_sounds": NUM_SOUNDS,
        "num_held_out": NUM_HELD_OUT,
        "clips_per_class": CLIPS,
        "side_px": SIDE_PX,
        "samples_per_shard": 3,
        "num_workers": 1,
    }
    return write_pairs(root, **{**options, **changes})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    return write_pair_tables(root, num_pictures=NUM_PICTURES, num_sounds=NUM_SOUNDS, side_px=SIDE_PX)


def _members(pairs: Path, kind: str) -> dict[str, bytes]:
    """Read all files of a kind's shards, checking that the members of a sample stand together."""
    found: dict[str, bytes] = {}
    for shard in sorted(pairs.glob(f"{kind}-*.tar")):
        with tarfile.open(shard) as tar:
            names = tar.getnames()
            found |= {name: tar.extractfile(name).read() for name in names}
        groups = [list(group) for _, group in itertools.groupby(names, key=lambda name: name.split(".")[0])]
        assert all(tuple(name.split(".")[1] for name in group) == FILES_OF[kind] for group in groups)
    return found


def _read_table(file: Path) -> tuple[list[str], list[list[str]]]:
    header, *rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    return header, rows


def test_shards_hold_every_sample_once_and_sizes_tell_how_many(pairs: Path) -> None:
    sizes = json.loads((pairs / "sizes.json").read_text())
    assert sizes == {
        "pictures-000000.tar": 3,
        "pictures-000001.tar": 3,
        "pictures-000002.tar": 1,
        "sounds-000000.tar": 3,
        "sounds-000001.tar": 2,
    }
    assert sorted(sizes) == sorted(path.name for path in pairs.glob("*.tar"))
    assert [name for name in _members(pairs, "pictures") if name.endswith(".jpg")] == [
        f"picture-{number:06d}.jpg" for number in range(NUM_PICTURES)
    ]
    assert len(_members(pairs, "sounds")) == 3 * NUM_SOUNDS


def test_a_picture_of_a_shard_agrees_with_its_facts(pairs: Path) -> None:
    members = _members(pairs, "pictures")
    for name in (name for name in members if name.endswith(".json")):
        facts, key = json.loads(members[name]), name.removesuffix(".json")
        with Image.open(io.BytesIO(members[f"{key}.jpg"])) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIDE_PX, SIDE_PX))
            assert image.size == (facts["width"], facts["height"])
        assert members[f"{key}.txt"].decode() == facts["caption"]
        assert facts["key"] == key
        assert 0.3 <= facts["score"] <= 1.0
        assert all(thing["colour"] in facts["caption"] and len(thing["box"]) == 4 for thing in facts["things"])


def test_a_sound_of_a_shard_agrees_with_its_facts(pairs: Path) -> None:
    members = _members(pairs, "sounds")
    concepts = {sound.name: sound.concept for sound in SOUNDS}
    for name in (name for name in members if name.endswith(".json")):
        facts, key = json.loads(members[name]), name.removesuffix(".json")
        samples, rate_hz = soundfile.read(io.BytesIO(members[f"{key}.flac"]))
        assert (rate_hz, samples.ndim) == (facts["sample_rate"], 1) == (16_000, 1)
        assert len(samples) / rate_hz == facts["duration"]
        assert 1.0 <= facts["duration"] <= 2.0
        assert concepts[facts["label"]] == facts["concept"]
        assert members[f"{key}.txt"].decode() == facts["caption"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves shards open
def test_webdataset_reads_the_shards(pairs: Path) -> None:
    urls = sorted(str(path) for path in pairs.glob("pictures-*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [f"picture-{number:06d}" for number in range(NUM_PICTURES)]
    assert samples[0]["jpg"].shape == (SIDE_PX, SIDE_PX, 3)
    assert samples[0]["txt"] == samples[0]["json"]["caption"]
    gc.collect()  # so that an open shard is told here, where it is expected


def test_same_arguments_give_the_same_bytes(pairs: Path, tmp_path: Path) -> None:
    again = _write(tmp_path)
    for path in (path for path in pairs.rglob("*") if path.is_file()):
        assert (again / path.relative_to(pairs)).read_bytes() == path.read_bytes()


def test_more_samples_and_other_shards_leave_the_first_ones_alone(pairs: Path, tmp_path: Path) -> None:
    larger = _write(tmp_path, num_pictures=9, num_sounds=6, num_held_out=5, samples_per_shard=4)
    for kind in FILES_OF:
        first, all_of_them = _members(pairs, kind), _members(larger, kind)
        assert {name: all_of_them[name] for name in first} == first
    for path in (pairs / "held_out" / "images").iterdir():
        assert (larger / "held_out" / "images" / path.name).read_bytes() == path.read_bytes()


def test_the_number_of_processes_changes_no_byte() -> None:
    shards = plan_shards("sounds", 2, seed=0, side_px=SIDE_PX, samples_per_shard=1)
    assert list(make_shards(shards, num_workers=2)) == list(make_shards(shards, num_workers=1))


def test_no_two_streams_share_a_seed() -> None:
    seeds = [pair_seed(seed, stream, index=index) for seed in (0, 1) for stream in STREAMS for index in range(300)]
    assert len(set(seeds)) == len(seeds)
    with pytest.raises(ValueError, match="unknown stream 'pictures'"):
        pair_seed(0, "pictures", index=0)


def test_no_held_out_sample_is_a_training_sample(pairs: Path) -> None:
    training = {hashlib.sha256(data).digest() for kind in FILES_OF for data in _members(pairs, kind).values()}
    held_out = [path for path in (pairs / "held_out").rglob("*") if path.suffix in (".jpg", ".wav")]
    assert len(held_out) == NUM_HELD_OUT + CLIPS * len(SOUNDS)
    assert not training & {hashlib.sha256(path.read_bytes()).digest() for path in held_out}


def test_held_out_pictures_stand_in_karpathys_json_with_two_sentences_each(pairs: Path) -> None:
    content = json.loads((pairs / "held_out" / "dataset_miniworld.json").read_text())
    assert content["dataset"] == "miniworld"
    assert [image["imgid"] for image in content["images"]] == list(range(NUM_HELD_OUT))
    sentids = [sentid for image in content["images"] for sentid in image["sentids"]]
    assert sentids == list(range(2 * NUM_HELD_OUT))
    for image in content["images"]:
        assert image["split"] == "test"
        assert (pairs / "held_out" / "images" / image["filename"]).is_file()
        assert [(each["imgid"], each["sentid"]) for each in image["sentences"]] == [
            (image["imgid"], sentid) for sentid in image["sentids"]
        ]
        assert set(image["things"]) <= {concept.name for concept in CONCEPTS}
        words = {word for each in image["sentences"] for word in each["tokens"]}
        assert set(image["things"]) & words


def test_the_table_of_pictures_has_a_row_a_picture_and_all_captions_beside_it(pairs: Path) -> None:
    header, rows = _read_table(pairs / "held_out" / "pictures.tsv")
    captions = json.loads((pairs / "held_out" / "pictures_captions.json").read_text())
    assert header == ["image_id", "image", "caption"]
    assert [row[0] for row in rows] == list(captions) == [f"test-picture-{index:06d}" for index in range(NUM_HELD_OUT)]
    assert all((pairs / "held_out" / row[1]).is_file() and captions[row[0]][0] == row[2] for row in rows)
    assert all(len(each) == 2 for each in captions.values())


def test_held_out_sounds_are_named_and_listed_as_in_esc50(pairs: Path) -> None:
    with (pairs / "held_out" / "meta" / "esc50.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    for row in rows:
        assert row["filename"] == f"{row['fold']}-{row['src_file']}-{row['take']}-{row['target']}.wav"
        info = soundfile.info(pairs / "held_out" / "audio" / row["filename"])
        assert (info.channels, info.samplerate, info.subtype) == (1, 16_000, "PCM_16")
    classes = [(int(row["target"]), row["category"]) for row in rows]
    assert set(classes) == {(number, sound.name) for number, sound in enumerate(SOUNDS)}
    assert all(classes.count(each) == CLIPS for each in set(classes))
    assert all(sum(row["fold"] == fold for row in rows) == len(rows) / 5 for fold in ("1", "2", "3", "4", "5"))
    assert {row["category"] for row in rows if row["esc10"] == "True"} == {"clock_tick", "dog", "rain", "sea_waves"}


def test_the_table_of_sounds_tells_their_length(pairs: Path) -> None:
    header, rows = _read_table(pairs / "held_out" / "sounds.tsv")
    captions = json.loads((pairs / "held_out" / "sounds_captions.json").read_text())
    assert header == ["uniq_id", "audio", "text", "duration"]
    assert len(rows) == CLIPS * len(SOUNDS)
    for key, audio, text, duration in rows:
        assert soundfile.info(pairs / "held_out" / audio).duration == pytest.approx(float(duration), abs=1e-4)
        assert captions[key] == [text]


def test_every_category_has_its_concept_or_none(pairs: Path) -> None:
    concepts = json.loads((pairs / "held_out" / "sound_concepts.json").read_text())
    assert concepts == {sound.name: sound.concept for sound in SOUNDS}
    assert concepts["rain"] is None
    assert concepts["dog"] == "dog"


def test_plain_files_are_those_of_the_shards(pairs: Path, tables: Path) -> None:
    members = {name: data for kind in FILES_OF for name, data in _members(pairs, kind).items()}
    files = {path.name: path.read_bytes() for path in tables.rglob("*") if path.suffix in (".jpg", ".flac")}
    assert files == {name: data for name, data in members.items() if name.endswith((".jpg", ".flac"))}
    _, pictures = _read_table(tables / "pictures.tsv")
    assert {f"{key}.txt": caption.encode() for key, _, caption in pictures}.items() <= members.items()
    header, sounds = _read_table(tables / "sounds.tsv")
    assert header == ["uniq_id", "audio", "text", "duration"]
    assert {f"{key}.txt": text.encode() for key, _, text, _ in sounds}.items() <= members.items()
    assert all((tables / row[1]).is_file() for row in (*pictures, *sounds))


def test_plain_pictures_are_a_training_split_in_karpathys_json(tables: Path) -> None:
    images = json.loads((tables / "dataset_miniworld.json").read_text())["images"]
    _, rows = _read_table(tables / "pictures.tsv")
    assert [(each["filename"], each["sentences"][0]["raw"]) for each in images] == [
        (f"{key}.jpg", caption) for key, _, caption in rows
    ]
    assert {each["split"] for each in images} == {"train"}


def test_a_complete_tree_is_reused(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniworld.shards, "make_picture", _fail)
    assert _write(pairs.parent) == pairs


def test_other_arguments_are_refused(pairs: Path) -> None:
    with pytest.raises(ValueError, match="was made with num_sounds 5, not 6"):
        _write(pairs.parent, num_sounds=6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"num_pictures": 0}, "num_pictures is 0"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"clips_per_class": 12}, "clips_per_class is 12; expected a multiple of 5"),
        ({"side_px": 32}, "32x32"),
    ],
)
def test_impossible_orders_write_nothing(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _write(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_the_sentence_does_not_move_the_pixels() -> None:
    assert make_picture(0, 3, side_px=SIDE_PX).jpeg == make_picture(0, 3, side_px=SIDE_PX).jpeg
    assert make_picture(0, 3, side_px=SIDE_PX).jpeg != make_picture(0, 3, side_px=SIDE_PX, is_test=True).jpeg


def test_the_classes_of_sounds_take_turns() -> None:
    assert [make_sound(0, index).sound for index in range(3)] == list(SOUNDS[:3])


def test_16_bits_are_all_that_a_sound_loses(pairs: Path) -> None:
    stored, _ = soundfile.read(io.BytesIO(_members(pairs, "sounds")["sound-000001.flac"]))
    assert np.abs(stored - make_sound(0, 1).samples).max() <= 1 / 32768


def _fail(*args: object, **options: object) -> None:
    raise AssertionError("something was made that is already there")
