"""Genuine pieces of the data sets are read with the counts that they came with, and alike from either layout."""

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from downstream.formats import audiocaps, avqa, clotho, esc50, fsd50k, karpathy, vggsound
from downstream.formats.base import Captioned, Labelled, Listing, Question
from downstream.formats.tables import read_bare_csv, read_csv

Read = Callable[[Path, str], Listing[Any]]


@dataclass(frozen=True)
class Piece:
    """One split of one data set, as its README counts it."""

    folder: str
    split: str
    read: Read
    num_samples: int
    table: str
    num_captions: int = 0
    num_classes: int = 0


PIECES = {
    "esc50": Piece("esc50", "all", esc50.read, 40, "esc50.tsv", num_classes=50),
    "fsd50k": Piece("fsd50k", "eval", fsd50k.read, 1, "fsd50K_eval.tsv", num_classes=200),
    "vggsound test": Piece("vggsound", "test", vggsound.read, 12, "vggsound_test_new.tsv", num_classes=309),
    "vggsound train": Piece("vggsound", "train", vggsound.read, 3, "vggsound_train.tsv", num_classes=309),
    "audiocaps": Piece("audiocaps", "test", audiocaps.read, 7, "audiocaps_test_new.tsv", num_captions=35),
    "clotho": Piece("clotho", "evaluation", clotho.read, 3, "clotho_evaluation_new.tsv", num_captions=15),
    "avqa": Piece("avqa", "val", avqa.read, 1, "avqa_val.tsv"),
    "coco test": Piece("mscoco_karpathy", "test", karpathy.read_coco, 26, "test_new.tsv", num_captions=130),
    "coco val": Piece("mscoco_karpathy", "val", karpathy.read_coco, 8, "val_new.tsv", num_captions=40),
    "flickr30k test": Piece("flickr30k", "test", karpathy.read_flickr30k, 8, "test_new.tsv", num_captions=40),
    "flickr30k val": Piece("flickr30k", "val", karpathy.read_flickr30k, 8, "val.tsv", num_captions=40),
}
CAPTIONED = [name for name, piece in PIECES.items() if piece.num_captions and name != "coco test"]


@pytest.fixture(params=PIECES)
def piece(request: pytest.FixtureRequest) -> Piece:
    return PIECES[request.param]


def test_the_counts_are_those_of_the_readme(samples_dir: Path, piece: Piece) -> None:
    listing = piece.read(samples_dir / piece.folder, piece.split)
    assert listing.layout == "original"
    assert (len(listing.samples), listing.absent) == (piece.num_samples, ())
    assert sum(len(getattr(sample, "captions", ())) for sample in listing.samples) == piece.num_captions
    assert len(listing.class_names) == piece.num_classes
    assert all(path.is_file() for path in listing.sources)


def test_ids_are_unique_and_origins_name_the_list(samples_dir: Path, piece: Piece) -> None:
    listing = piece.read(samples_dir / piece.folder, piece.split)
    assert len({sample.id for sample in listing.samples}) == piece.num_samples
    name = listing.sources[0].relative_to(samples_dir / piece.folder)
    assert all(sample.origin.startswith(f"{name}, ") for sample in listing.samples)


def test_the_authors_table_gives_the_same_samples(samples_dir: Path, tmp_path: Path, piece: Piece) -> None:
    original = piece.read(samples_dir / piece.folder, piece.split)
    write_table(tmp_path / piece.table, original, piece.split)
    table = piece.read(tmp_path, piece.split)
    assert table.layout == "authors' table"
    assert table.samples == original.samples
    assert piece.read(tmp_path / piece.table, piece.split).samples == original.samples


@pytest.mark.parametrize("name", CAPTIONED)
def test_captions_in_rows_are_those_of_the_texts_json(samples_dir: Path, tmp_path: Path, name: str) -> None:
    piece = PIECES[name]
    original = piece.read(samples_dir / piece.folder, piece.split)
    write_table(tmp_path / piece.table, original, piece.split, are_rows=True)
    assert not list(tmp_path.glob("*.json"))
    assert piece.read(tmp_path, piece.split).samples == original.samples


def test_a_caption_keeps_its_line_end(samples_dir: Path) -> None:
    captions = {
        text
        for sample in karpathy.read_coco(samples_dir / "mscoco_karpathy", "test").samples
        for text in sample.captions
    }
    assert [text for text in captions if text.endswith("\n")]


def write_table(path: Path, listing: Listing[Any], split: str, *, are_rows: bool = False) -> None:
    """Write what the authors would publish of a listing."""
    is_picture = any(sample.media.suffix == ".jpg" for sample in listing.samples)
    header = "image_id\timage\tcaption" if is_picture else "uniq_id\taudio\ttext\tduration"
    rows = [
        "\t".join([sample.id, str(sample.media), text, *([] if is_picture else ["10.0"])])
        for sample in listing.samples
        for text in texts_of(sample, are_rows=are_rows)
    ]
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    if isinstance(listing.samples[0], Captioned) and not are_rows:
        texts = {sample.id: sample.captions for sample in listing.samples}
        path.with_name(f"{split}_texts.json").write_text(json.dumps(texts))
    if path.name == "esc50.tsv":
        path.with_name("esc50_label.json").write_text(json.dumps(listing.class_names))


def texts_of(sample: Captioned | Labelled | Question, *, are_rows: bool) -> Iterable[str]:
    if isinstance(sample, Captioned):
        return sample.captions if are_rows else sample.captions[:1]
    if isinstance(sample, Labelled):
        return [",".join(map(str, sample.labels))]
    return ["&&&".join([sample.question, *sample.choices, str(sample.answer)])]


def test_esc50_keeps_the_published_categories_where_ten_have_no_clip(samples_dir: Path) -> None:
    listing = esc50.read(samples_dir / "esc50", "all")
    rows = read_csv(samples_dir / "esc50" / "full_annotations" / "esc50.csv", ("target", "category"))
    assert {(row.whole("target"), row.text("category")) for row in rows} == set(enumerate(listing.class_names))
    assert len({sample.labels for sample in listing.samples}) == 40


def test_the_fsd50k_clip_has_its_fourteen_classes(samples_dir: Path) -> None:
    listing = fsd50k.read(samples_dir / "fsd50k", "eval")
    (clip,) = listing.samples
    assert (clip.id, len(clip.labels)) == ("99", 14)
    assert {"Chatter", "Motor_vehicle_(road)"} < {listing.class_names[label] for label in clip.labels}


def test_vggsound_reads_the_makers_whole_test_list(samples_dir: Path, tmp_path: Path) -> None:
    genuine = samples_dir / "vggsound"
    for name, source in {"test.csv": "full_annotations/test.csv", "stat.csv": "stat.csv", "audio": "audio"}.items():
        (tmp_path / name).symlink_to(genuine / source)
    listing = vggsound.read(tmp_path, "test")
    assert (listing.num_listed, len(listing.samples), len(listing.absent)) == (15_446, 12, 15_434)
    own = {sample.id: sample.labels for sample in vggsound.read(genuine, "test").samples}
    assert {sample.id: sample.labels for sample in listing.samples} == own


@pytest.mark.parametrize(
    ("split", "num_clips", "per_clip"),
    [pytest.param("train", 49_838, 1, marks=pytest.mark.slow), ("val", 495, 5), ("test", 975, 5)],
)
def test_audiocaps_lists_hold_the_published_counts(
    samples_dir: Path, tmp_path: Path, split: str, num_clips: int, per_clip: int
) -> None:
    full = samples_dir / "audiocaps" / "full_annotations"
    packed = full / f"{split}.csv.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.is_file() else (full / f"{split}.csv").read_bytes()
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / f"{split}.csv").write_bytes(content)
    first = next(csv.DictReader(content.decode().splitlines()))
    clip = tmp_path / "audio" / split / f"{first['youtube_id']}_{first['start_time']}.wav"
    clip.parent.mkdir(parents=True)
    clip.touch()
    listing = audiocaps.read(tmp_path, split)
    assert (listing.num_listed, len(listing.samples)) == (num_clips, 1)
    assert len(listing.samples[0].captions) == per_clip


@pytest.mark.parametrize(("split", "num_clips"), [("development", 3839), ("validation", 1045), ("evaluation", 1045)])
def test_clotho_lists_hold_the_published_counts(samples_dir: Path, split: str, num_clips: int) -> None:
    path = samples_dir / "clotho" / "full_annotations" / f"clotho_captions_{split}.csv"
    rows = read_csv(path, ("file_name", *clotho.CAPTIONS))
    assert len({row.text("file_name") for row in rows}) == num_clips
    assert all(row.text(column) for row in rows for column in clotho.CAPTIONS)


def test_vggsound_labels_are_the_309_of_the_test_list(samples_dir: Path) -> None:
    names = vggsound.read_classes(samples_dir / "vggsound" / "stat.csv")
    rows = read_bare_csv(samples_dir / "vggsound" / "full_annotations" / "test.csv", ("file", "label"))
    assert (len(names), {row.text("label") for row in rows}) == (309, set(names))


def test_flickr30k_captions_are_those_of_the_makers(samples_dir: Path) -> None:
    listing = karpathy.read_flickr30k(samples_dir / "flickr30k", "test")
    assert [path.name for path in listing.sources] == ["dataset_flickr30k.json", "results_20130124.token"]
    full = samples_dir / "flickr30k" / "full_annotations" / "karpathy_val_test.token"
    assert len(list(karpathy.read_tokens(full))) == 10_000


def test_avqa_questions_of_every_type_are_read(samples_dir: Path, tmp_path: Path) -> None:
    excerpt = samples_dir / "avqa" / "full_annotations" / "val_qa_excerpt.json"
    entries: list[Mapping[str, Any]] = json.loads(excerpt.read_text())
    (tmp_path / "data" / "annotation").mkdir(parents=True)
    (tmp_path / "data" / "audio").mkdir()
    (tmp_path / "data" / "annotation" / "val_qa.json").write_bytes(excerpt.read_bytes())
    for entry in entries:
        (tmp_path / "data" / "audio" / f"{entry['video_name']}.flac").touch()
    samples = avqa.read(tmp_path, "val").samples
    assert [sample.id for sample in samples] == [str(entry["id"]) for entry in entries]
    assert [sample.choices[sample.answer] for sample in samples] == [
        entry["multi_choice"][entry["answer"]] for entry in entries
    ]
