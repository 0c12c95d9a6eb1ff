"""The detection task chooses its profile, counts its samples, and digests what could move its number."""

import json
from pathlib import Path
from typing import Any

import pytest

from downstream import cli
from downstream.config import load_task_config
from downstream.formats.coco_detection import read_instances
from downstream.tasks.base import RunOptions
from downstream.tasks.coco_det import (
    _check_categories,
    _is_published,
    _open_data,
    choose_profile,
    make_job,
    protocol_of,
    resolve_profile,
)
from miniworld.coco_detection import write_coco_detection
from reports.target import load_targets

CONFIG = load_task_config("coco_det")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_coco_detection(tmp_path, num_training=1, num_validation=3, width_px=64, height_px=48)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["coco_det", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("options", "profile"),
    [
        (RunOptions(), "mini"),
        (RunOptions(profile="paper"), "paper"),
        (RunOptions(checkpoint=Path("onepeace_det_coco.pth")), "paper"),
        (RunOptions(profile="mini", checkpoint=Path("released.pth")), "mini"),
        (RunOptions(data_root=Path("nowhere")), "mini"),
        (RunOptions(pretrained=Path("encoder.pt")), "mini"),
    ],
    ids=str,
)
def test_the_profile_follows_what_is_named(options: RunOptions, profile: str) -> None:
    assert choose_profile(CONFIG, options)[0] == profile


def test_the_whole_published_split_asks_for_the_paper_profile(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").touch()
    (tmp_path / "val2017").mkdir()
    for number in range(5000):
        (tmp_path / "val2017" / f"{number:012d}.jpg").touch()
    name, reason = choose_profile(CONFIG, RunOptions(data_root=tmp_path))
    assert name == "paper"
    assert "whole published validation set" in reason


def protocol(*assignments: str) -> dict[str, Any]:
    options = RunOptions(assignments=assignments)
    return protocol_of(make_job(resolve_profile(CONFIG, "paper", options), options, num_classes=80, is_mini=False))


def test_the_protocol_is_the_targets_and_follows_only_the_evaluation() -> None:
    targets = load_targets({"targets": list(CONFIG.targets)})
    assert {target.protocol for target in targets} == {protocol()["id"]}
    assert {target.metric for target in targets} == {
        f"{what}_ap{rest}" for what in ("box", "mask") for rest in ("", "50", "75", "_small", "_medium", "_large")
    }
    assert protocol() == protocol("training.lr=1e-3", "picture.train_ratio=[1.0,1.0]")
    for change in ("test.prune_threshold=0.01", "cascade.num_proposals=300", "precision=bfloat16"):
        assert protocol() != protocol(change)
        assert protocol()["id"] == protocol(change)["id"]
    for change in ("test.maskness_threshold=null", "test.soft_nms=gaussian", "picture.side_px=1024"):
        assert protocol()["id"] != protocol(change)["id"]


def test_a_mini_run_starts_from_the_shipped_weights_and_a_paper_run_from_what_is_named() -> None:
    def start(options: RunOptions, *, is_mini: bool) -> str | None:
        profile = resolve_profile(CONFIG, "mini", options)
        job = make_job(profile, options, num_classes=3, is_mini=is_mini)
        return job.pretrained.name if job.pretrained else None

    assert start(RunOptions(), is_mini=True) == "mini.safetensors"
    assert start(RunOptions(), is_mini=False) is None
    assert start(RunOptions(pretrained=Path("my.pt")), is_mini=True) == "my.pt"
    assert start(RunOptions(checkpoint=Path("my.pt")), is_mini=True) is None


def test_only_a_file_that_is_not_ours_is_published(tmp_path: Path) -> None:
    assert _is_published(tmp_path / "onepeace_det_coco.pth")
    assert not _is_published(None)


def test_the_samples_judged_are_counted_and_digested(tree: Path) -> None:
    judged = read_instances(tree, "val")
    pictures, data = _open_data(CONFIG, tree, judged, RunOptions(limit=2))
    _, whole = _open_data(CONFIG, tree, judged, RunOptions())
    assert (len(pictures), data.n, data.n_expected, whole.n) == (2, 2, 3, 3)
    assert (data.version, data.differences) == ("miniworld", ())
    assert data.digest != whole.digest
    (tree / "miniworld.json").unlink()
    _, real = _open_data(CONFIG, tree, judged, RunOptions())
    assert (real.version, real.n_expected) == ("2017", 5000)
    assert [difference.split()[:2] for difference in real.differences] == [["3", "pictures"], ["15", "categories"]]


def test_another_answer_is_another_digest(tree: Path) -> None:
    before = _open_data(CONFIG, tree, read_instances(tree, "val"), RunOptions())[1].digest
    path = tree / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 2 if content["annotations"][0]["category_id"] != 2 else 3
    path.write_text(json.dumps(content))
    assert _open_data(CONFIG, tree, read_instances(tree, "val"), RunOptions())[1].digest != before


def test_other_classes_to_learn_than_to_judge_are_refused(tree: Path) -> None:
    path = tree / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "unicorn"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has other categories than"):
        _check_categories(read_instances(tree, "val"), read_instances(tree, "train"))


def test_a_paper_run_names_what_is_missing(capsys: pytest.CaptureFixture[str], tree: Path) -> None:
    code, out, err = run(capsys, "--profile", "paper", "--dry-run")
    assert code == 4
    assert "1,588,104,254 parameters" in out
    assert "nothing has to be compiled" in out
    assert [line.split(":")[1].strip() for line in err.splitlines()] == ["missing data", "missing weights"]
    assert "onepeace_det_coco.pth" in err
    (tree / "annotations" / "instances_train2017.json").unlink()
    code, _, err = run(capsys, "--data-root", tree, "--dry-run")
    assert code == 4
    assert "instances_train2017.json is missing" in err
    code, _, err = run(capsys, "--data-root", tree, "--checkpoint", tree / "absent.pth", "--dry-run")
    assert (code, err.count("\n")) == (4, 1)


@pytest.mark.parametrize("option", [["--tta"], ["--split", "val"], ["--dtype", "bfloat16"], ["--batch-size", "2"]])
def test_options_without_a_meaning_are_refused(capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    code, _, err = run(capsys, *option, "--dry-run")
    assert code == 2
    assert "is nothing that coco_det knows" in err
