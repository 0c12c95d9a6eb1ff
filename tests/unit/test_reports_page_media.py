"""What there is to see of a sample: found by name and never elsewhere, small, and told where it is missing."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from reports.page.media_files import MediaFiles
from reports.page.pictures import COLUMNS, REST, SIDE_PX, encode_picture, encode_sound, measure_levels, read_classes
from reports.page.run_files import FolderFiles
from reports.page.showing import show_samples
from reports.record import CheckpointInfo, DataInfo, MetricValue, Record, write_record


def _record(root_name: str, *, version: str = "miniworld", seed: int = 0, **changes: Any) -> Record:
    fields: dict[str, Any] = {"run_id": "r1", "task": "t", "dataset": "d", "split": "val", "profile": "mini"}
    fields |= {"model_size": "mini", "setting": "fine-tuned", "protocol": "p/ss", "protocol_sha256": "ab", "seed": seed}
    fields |= {
        "metrics": (MetricValue(name="miou", value=1.0, n=8),),
        "config": {},
        "dtype": "float32",
        "device": "cpu",
    }
    fields |= {"checkpoint": CheckpointInfo(name="w", sha256=None, loaded=1), "commit": "0123456", "is_dirty": False}
    fields |= {"started_at": "2024-01-31T12:00:00+00:00", "duration_s": 1.0, "command": "c", "versions": {}}
    fields["data"] = DataInfo(
        name="d", version=version, root_name=root_name, digest="d", n=8, n_expected=8, ids_sha256="e5"
    )
    return Record(**{**fields, **changes})


def _draw(path: Path, colour: str = "red", size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def _drawn(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "miniworld.json").write_text("{}", encoding="utf-8")


def test_a_file_is_found_by_its_name_its_stem_or_the_number_it_ends_in(tmp_path: Path) -> None:
    _drawn(tmp_path / "seed0" / "coco")
    path = _draw(tmp_path / "seed0" / "coco" / "val2014" / "COCO_val2014_000000000322.jpg")
    media, record = MediaFiles([tmp_path]), _record("coco")
    for name in (path.name, path.stem, "322"):
        assert media.find(name, record) == path
    assert media.find("32", record) == "no file of this name in coco"
    assert media.find("val2014/COCO_val2014_000000000322.jpg", record) == "no file of this name in coco"


def test_a_name_with_a_number_at_its_end_is_no_other_file_of_that_number(tmp_path: Path) -> None:
    _drawn(tmp_path / "audiocaps")
    _draw(tmp_path / "audiocaps" / "other_474.png")
    assert MediaFiles([tmp_path]).find("R5vgfLO06fS_474", _record("audiocaps")) == "no file of this name in audiocaps"


def test_a_name_leads_nowhere_else(tmp_path: Path) -> None:
    _drawn(tmp_path / "data" / "esc50")
    _draw(tmp_path / "data" / "secret.png")
    media = MediaFiles([tmp_path / "data"])
    for name in ("../secret.png", str(tmp_path / "data" / "secret.png"), "secret.png"):
        assert isinstance(media.find(name, _record("esc50")), str)
    assert isinstance(media.find("secret.png", _record("..")), str)


def test_drawn_files_are_never_taken_for_photographed_ones(tmp_path: Path) -> None:
    _drawn(tmp_path / "mini" / "coco")
    drawn = _draw(tmp_path / "mini" / "coco" / "images" / "coco" / "COCO_val2014_000000000322.jpg")
    media = MediaFiles([tmp_path])
    assert "--data-root" in str(media.find("322", _record("coco", version="2014")))
    assert media.find("322", _record("coco")) == drawn
    real = _draw(tmp_path / "real" / "coco" / "COCO_val2014_000000000322.jpg")
    media = MediaFiles([tmp_path])
    assert media.find("322", _record("coco", version="2014")) == real
    assert media.find("322", _record("coco")) == drawn


def test_of_several_drawn_worlds_the_one_of_the_seed_counts(tmp_path: Path) -> None:
    for seed in (0, 1):
        _drawn(tmp_path / f"seed{seed}" / "coco")
        _draw(tmp_path / f"seed{seed}" / "coco" / "a.png")
    media = MediaFiles([tmp_path])
    assert media.find("a", _record("coco", seed=1)) == tmp_path / "seed1" / "coco" / "a.png"
    assert media.find("a", _record("coco", seed=2)) == "2 files of this name in coco"


def test_pictures_are_shrunk_and_keep_their_shape(tmp_path: Path) -> None:
    encoded = encode_picture(_draw(tmp_path / "a.png", size=(1000, 500)))
    assert (encoded.width_px, encoded.height_px) == (1000, 500)
    kind, _, data = encoded.source.partition(";base64,")
    assert kind == "data:image/webp"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (SIDE_PX, SIDE_PX // 2)


def test_a_higher_tone_stands_higher_in_the_spectrogram() -> None:
    time = np.arange(16_000) / 16_000
    places = []
    for hertz in (200, 1000, 5000):
        levels = measure_levels(np.sin(2 * np.pi * hertz * time).astype(np.float32), 16_000)
        assert levels.shape[1] == COLUMNS
        assert (levels.min() >= 0, levels.max()) == (True, 1)
        places.append(int(levels.mean(axis=1).argmax()))
    assert places == sorted(places, reverse=True)  # rows count from the top


@pytest.mark.parametrize("samples", [1, 100, 5000, 40 * 8000])
def test_sounds_of_any_length_are_drawn(samples: int, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, samples), 8000)
    encoded, duration_s, highest_hz = encode_sound(path)
    assert encoded.width_px == COLUMNS
    assert duration_s == min(30.0, samples / 8000)
    assert highest_hz == 4000


def _run(folder: Path, rows: list[dict[str, Any]], record: Record) -> FolderFiles:
    write_record(record, folder)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return FolderFiles(folder.parent)


def test_masks_stand_beside_their_picture_with_one_legend(tmp_path: Path) -> None:
    tree = tmp_path / "data" / "ADE"
    _drawn(tree)
    _draw(tree / "images" / "validation" / "a.jpg")
    label = np.full((30, 40), 3, dtype=np.uint8)
    label[:5], label[25:] = 1, 0
    found = np.full((30, 40), 3, dtype=np.uint8)  # nothing is left out of a prediction
    for path, content in (
        (tree / "annotations" / "validation" / "a.png", label),
        (tmp_path / "runs" / "x" / "labels" / "a.png", found),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(path)
    areas = {"predicted": {"2": 1000}, "labelled": {"0": 200, "2": 800}}  # of the pixels that have a class
    row = {"id": "a", "num_classes": 3, "intersect": {"2": 800}, **areas}
    record = _record(
        "ADE",
        artifacts={"predictions": "predictions.jsonl", "labels": "labels"},
        per_class={"sky": 1.0, "sea": None, "sand ": 3.0},
    )
    shown = show_samples(record, _run(tmp_path / "runs" / "x", [row], record), MediaFiles([tmp_path / "data"]))
    assert [one.role for one in shown.best[0].pictures] == ["picture", "truth", "prediction"]
    assert [one.name for one in shown.legend] == ["sand", "sky", "all others"]
    assert shown.legend[-1].colour == REST
    assert shown.best[0].pictures[1].alt == "truth by class; most of it is sand, sky"


def test_numbers_of_a_label_file_are_told_from_the_pixels_that_were_counted(tmp_path: Path) -> None:
    labels = np.array([[0, 0, 0, 7], [9, 9, 255, 7]], dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    assert read_classes(tmp_path / "a.png", {0: 3, 5: 2, 6: 2}).tolist() == [[1, 1, 1, 6], [7, 7, 0, 6]]
    with pytest.raises(ValueError, match=r"a\.png holds other pixels than were counted"):
        read_classes(tmp_path / "a.png", {0: 3, 5: 4})


def test_a_label_file_that_is_not_the_judged_one_is_not_shown(tmp_path: Path) -> None:
    tree = tmp_path / "data" / "ADE"
    _drawn(tree)
    _draw(tree / "images" / "a.jpg")
    (tree / "annotations").mkdir()
    Image.fromarray(np.full((30, 40), 3, dtype=np.uint8)).save(tree / "annotations" / "a.png")
    row = {"id": "a", "num_classes": 3, "intersect": {"2": 7}, "predicted": {"2": 7}, "labelled": {"2": 7}}
    record = _record("ADE", artifacts={"predictions": "predictions.jsonl"})
    shown = show_samples(record, _run(tmp_path / "runs" / "x", [row], record), MediaFiles([tmp_path / "data"]))
    assert [one.role for one in shown.best[0].pictures] == ["picture"]


def test_what_cannot_be_shown_is_told_and_the_runs_own_sheet_stands_in(tmp_path: Path) -> None:
    row = {"id": "a", "num_classes": 1, "intersect": {"0": 9}, "predicted": {"0": 9}, "labelled": {"0": 9}}
    record = _record("ADE", artifacts={"predictions": "predictions.jsonl", "pictures": "pictures.png"})
    files = _run(tmp_path / "runs" / "x", [row], record)
    _draw(tmp_path / "runs" / "x" / "pictures.png", size=(1200, 300))
    shown = show_samples(record, files, MediaFiles([]))
    assert shown.best[0].note == (
        "Not shown: a: no folder ADE of this data set is at hand; name the place that holds it with --data-root."
    )
    assert shown.sheet is not None
    assert (shown.sheet.role, shown.sheet.width_px) == ("sheet", 1200)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_file_that_cannot_be_read_costs_its_sample_alone(content: bytes, tmp_path: Path) -> None:
    _drawn(tmp_path / "data" / "esc")
    for name in ("a.png", "b.wav"):
        (tmp_path / "data" / "esc" / name).write_bytes(content)
    rows = [{"id": name, "truth": "x", "prediction": "x", "share": 0.5} for name in ("a", "b")]
    record = _record("esc", artifacts={"predictions": "predictions.jsonl"})
    shown = show_samples(record, _run(tmp_path / "runs" / "x", rows, record), MediaFiles([tmp_path / "data"]))
    for sample in shown.best:
        assert "cannot be read" in str(sample.note)


def test_a_run_without_rows_says_so(tmp_path: Path) -> None:
    record = _record("esc")
    assert show_samples(record, FolderFiles(tmp_path), MediaFiles([])).note == (
        "No sample: this run judges no single samples."
    )
    gone = _record("esc", artifacts={"predictions": "predictions.jsonl"})
    assert show_samples(gone, FolderFiles(tmp_path), MediaFiles([])).note == (
        "No sample: predictions.jsonl of this run was not found."
    )
