"""Published numbers by file: all of them are there, nothing passes without a source, and what disagrees is told."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.cli import main
from reports.target import Target
from reports.target_files import (
    ABLATIONS,
    PUBLISHED,
    find_unsourced_changes,
    list_notes,
    list_target_files,
    list_targets,
    read_disagreements,
    read_target_files,
    summarise,
)

ENTRY: dict[str, Any] = {
    "id": "V7",
    "task": "ade20k",
    "dataset": "ADE20K",
    "dataset_version": "2016",
    "split": "val",
    "metric": "miou",
    "unit": "%",
    "direction": "higher",
    "value": 62.0,
    "printed": "62.0",
    "num_samples": 2000,
    "setting": "fine-tuned",
    "protocol": "slide-896-512/ss",
    "resolution_px": 896,
    "scales": [1.0],
    "flip": False,
    "duration_s": None,
    "precision": None,
    "train_data": "ADE20K",
    "source": "paper, table 3",
    "confidence": "high",
    "note": "one view",
}
ABLATION_TABLES = {
    "structure": {
        "contrast_alone": "35.94 62.52 72.78 23.87 47.80 59.38 43.24",
        "share_attention_and_ffn": "33.96 60.92 72.24 22.51 46.13 57.63 42.21",
        "share_nothing": "29.08 54.30 65.56 18.98 40.34 51.44 37.73",
        "share_ffn": "27.36 52.66 64.36 18.08 38.68 49.84 33.98",
    },
    "terms and losses": {
        "contrast_alone": "35.94 62.52 72.78 23.87 47.80 59.38 43.24 82.20",
        "text": "37.02 63.78 73.96 23.63 47.87 59.22 43.69 81.99",
        "image": "38.88 65.34 75.76 26.05 49.78 61.26 45.94 83.32",
        "text_image": "39.00 65.64 76.30 25.85 50.06 61.80 45.54 83.33",
        "all_terms": "39.94 65.94 76.72 26.94 51.38 62.81 46.41 83.75",
        "smooth_l1": "36.72 63.86 74.30 24.37 48.17 59.86 44.36 82.50",
        "l2": "37.46 64.80 74.46 25.81 49.64 61.80 45.78 83.15",
        "cosine": "38.28 65.80 75.18 25.47 50.02 61.59 45.15 83.07",
    },
}
COLUMNS = [f"recall_at_{k}_{way}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


def _write(path: Path, *entries: dict[str, Any], **fields: Any) -> Path:
    path.write_text(yaml.safe_dump({**fields, "targets": [{**ENTRY, **entry} for entry in entries]}), encoding="utf-8")
    return path


def _column(target: Target) -> str:
    return target.metric if target.dataset == "MSCOCO" else target.setting


@pytest.mark.parametrize("table", ABLATION_TABLES)
def test_the_ablations_are_the_papers_cell_by_cell(table: str) -> None:
    (file,) = read_target_files([ABLATIONS])
    found: dict[tuple[str, str], str] = {}
    for target in file.targets:
        found[target.protocol.partition("/")[2], _column(target)] = target.printed
    for variant, printed in ABLATION_TABLES[table].items():
        columns = [*COLUMNS, "zero-shot", "fine-tuned"][: len(printed.split())]
        assert [found[variant, column] for column in columns] == printed.split()


def test_what_no_task_measures_is_kept_and_marked() -> None:
    files = {file.name: file for file in read_target_files(list_target_files())}
    printed = {target.id: target.printed for file in files.values() for target in file.targets}
    k400 = {"V16-top1": "88.00", "V16-top5": "97.76", "V17-top1": "88.10", "V17-top5": "97.85"}
    extractor = {"T18-random": "85.8", "T18-hubert": "89.6", "T18-wav2vec2": "90.0", "T18-wavlm": "91.8"}
    early = {"I26-run1": "59.4", "I26-run2": "59.66", "I26-run3": "59.77", "I26-run4": "60.35"}
    assert {"L8": "56.6", **k400, **extractor, **early}.items() <= printed.items()
    for name in ("k400.yaml", "audio_extractor.yaml", "early_runs.yaml", "examples.yaml"):
        assert files[name].measured_by is None
    assert files["ade20k.yaml"].measured_by == "python downstream/run.py ade20k"
    assert files["ablations.yaml"].measured_by == "python pretrain/run.py ablate"
    assert any("no number is reported anywhere" in note for note in files["examples.yaml"].notes)


def test_a_file_without_a_source_is_refused_by_name(tmp_path: Path) -> None:
    good = _write(tmp_path / "a.yaml", {})
    for number, source in enumerate(("", " ", "TODO", "?", "unknown", "n/a", "not stated", None)):
        bad = _write(tmp_path / f"b{number}.yaml", {"id": "V8", "source": source})
        with pytest.raises(ValueError, match=rf"^b{number}\.yaml: target 'V8': 'source' is ") as caught:
            read_target_files([good, bad])
        assert "\n" not in str(caught.value)


def test_the_same_id_in_two_files_is_refused(tmp_path: Path) -> None:
    paths = [_write(tmp_path / name, {}) for name in ("a.yaml", "b.yaml")]
    with pytest.raises(ValueError, match="'V7' stands twice"):
        read_target_files(paths)


def test_the_summary_counts_by_section(tmp_path: Path) -> None:
    paths = [
        _write(tmp_path / "ade20k.yaml", {}, {"id": "V8", "note": ""}, groups=["vision"]),
        _write(tmp_path / "size.yaml", {"id": "S1", "unit": "million"}, section="model size", measured_by="a test"),
        _write(tmp_path / "k400.yaml", {"id": "V16"}, section="vision", measured_by=None),
    ]
    assert summarise(read_target_files(paths), read_disagreements(tmp_path / "none.yaml")).splitlines() == [
        "vision        3 in 2 files",
        "model size    1 in 1 file",
        "4 targets, each with its protocol and source",
        "nothing here measures those of k400.yaml",
        "3 targets with a note, 0 disagreements among sources, 0 in accounts; --notes shows them",
    ]
    text = list_targets(read_target_files(paths))
    assert "k400.yaml, vision: nothing here measures it\n" in text
    assert "62.0 million" in text


def test_notes_are_told_once_with_the_targets_that_share_them(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.yaml", {}, {"id": "V8"}, {"id": "V9", "note": "two views"}, notes=["of all"])
    told = tmp_path / "disagreements.yaml"
    told.write_text(
        "sources: [{about: ade20k, note: differs}]\naccounts: [{about: size, says: 4B, instead: less}]\n",
        encoding="utf-8",
    )
    assert list_notes(read_target_files([path]), read_disagreements(told)).splitlines() == [
        "a.yaml",
        "  of all",
        "  V7, V8: one view",
        "  V9: two views",
        "where sources disagree",
        "  ade20k: differs",
        "where accounts of the paper disagree with it",
        "  size: said: 4B; so it is: less",
    ]


@pytest.mark.parametrize(
    "text", ["- 1", "[", "sauces: []", "sources: [{about: x}]", "accounts: [{about: x, says: ''}]"]
)
def test_disagreements_of_another_form_are_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "disagreements.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^disagreements\.yaml: ") as caught:
        read_disagreements(path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one commit that holds two targets; gives their file."""
    monkeypatch.setattr("reports.target_files.ROOT", tmp_path)
    path = _write(tmp_path / "a.yaml", {}, {"id": "V8"})
    identity = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "a.yaml"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        (
            {"value": 63.0, "printed": "63.0"},
            ["target 'V7': printed '62.0' -> '63.0', value 62.0 -> 63.0, and the source"],
        ),
        ({"protocol": "slide-640/ss"}, ["target 'V7': protocol 'slide-896-512/ss' -> 'slide-640/ss', and the source"]),
        ({"value": 63.0, "printed": "63.0", "source": "paper, version 2, table 3"}, []),
        ({"value": 63.0, "printed": "63.0", "note": "the first version of the paper has 62.0"}, []),
        ({"confidence": "medium"}, []),
        ({"id": "V99", "value": 63.0, "printed": "63.0"}, []),  # a new one, whose source is asked for anyway
    ],
    ids=str,
)
def test_a_changed_number_needs_a_source_of_its_own(history: Path, change: dict[str, Any], told: list[str]) -> None:
    _write(history, change, {"id": "V8"})
    found = find_unsourced_changes([history], "HEAD")
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))


def test_a_file_that_is_new_has_no_earlier_numbers_and_an_unknown_commit_is_said(history: Path) -> None:
    new = _write(history.parent / "b.yaml", {"id": "V10", "value": 1.0, "printed": "1.0"})
    assert find_unsourced_changes([history, new], "HEAD") == ()
    with pytest.raises(ValueError, match="no commit 'nowhere'"):
        find_unsourced_changes([history], "nowhere")
    with pytest.raises(ValueError, match="no commit '--help'"):
        find_unsourced_changes([history], "--help")


def test_the_command_line_refuses_an_unsourced_change(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["targets", "--since", "HEAD", "--configs", str(history.parent)]
    assert main(arguments) == 0
    assert "2 targets" in capsys.readouterr().out
    _write(history, {"value": 63.0, "printed": "63.0"}, {"id": "V8"})
    assert main(arguments) == 2
    assert "name where the new one stands" in capsys.readouterr().err


def test_the_disagreements_of_the_project_are_read() -> None:
    found = read_disagreements()
    assert (PUBLISHED / "disagreements.yaml").is_file()
    assert len(found.sources) >= 20
    assert len(found.accounts) >= 15
    assert all("\n" not in note.note for note in found.sources)
