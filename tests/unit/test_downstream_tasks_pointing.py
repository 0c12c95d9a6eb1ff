"""A sentence about one picture is answered by a box, the one that an evaluation predicts; else there is one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from downstream.boxes import PREDICTION_COLOUR
from downstream.cli import main
from downstream.engines.plain.model import build_trainee, describe_origin, save_finetuned
from downstream.tasks.base import RunOptions
from downstream.tasks.plain import find_task, resolve_profile
from downstream.tasks.pointing import ANSWERS_FOLDER, find_weights, point
from miniworld.benchmarks import WRITERS

Run = Callable[..., tuple[int, str, str]]
TEXT = "the dog on the left"


def write_weights(path: Path, task: str = "refcoco", *, outputs: int = 4) -> Path:
    """Write what a fine-tuning of the smallest model might leave; its boxes have an extent and differ."""
    profile, _ = resolve_profile(find_task(task)[1], "mini", RunOptions(assignments=("size=tiny",)))
    loaded = build_trainee(None, size="tiny", setting=profile.settings["fine-tuned"], num_outputs=outputs, seed=0)
    with torch.no_grad():
        loaded.module.get_parameter("head.classifier.3.bias").copy_(torch.linspace(-1, 1, outputs))
        loaded.module.get_parameter("head.classifier.3.weight").mul_(10)
    origin = describe_origin(loaded, task=task, setting="fine-tuned", class_names=())
    path.parent.mkdir(parents=True, exist_ok=True)
    save_finetuned(loaded.module, loaded.module.state_dict(), path, origin=origin)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "weights.safetensors")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(200, size=(60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "yard.jpg")
    return tmp_path / "yard.jpg"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, runs: Path) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        places = ["-o", str(runs), "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
        return main([*map(str, arguments), *places]), *capsys.readouterr()

    return call


def leave_run(runs: Path, name: str, weights: Path | None) -> None:
    """Leave what a run of a task leaves of its training."""
    part = runs / name / "fine-tuned-val"
    part.mkdir(parents=True)
    (part / "training.json").write_text(json.dumps({"training": name, "weights": "weights.safetensors"}))
    if weights is not None:
        (runs / "trainings" / name).mkdir(parents=True)
        shutil.copyfile(weights, runs / "trainings" / name / "weights.safetensors")


def test_the_box_is_told_and_drawn_and_nothing_else_is_left(run: Run, picture: Path, weights: Path, runs: Path) -> None:
    code, out, err = run("refcoco", "--image", picture, "--text", TEXT, "--checkpoint", weights)
    assert code == 0, err
    box, drawn, used = (line.partition(":")[2].split() for line in out.splitlines())
    left, top, right, bottom = map(float, box[:4])
    assert 0 <= left < right <= 90
    assert 0 <= top < bottom <= 60
    assert " ".join(box[4:]) == "(left, top, right, bottom in pixels)"
    assert used[0].endswith("weights.safetensors")
    assert err == "the model always answers with one box, whatever the sentence says\n"
    (path,) = (each for each in runs.rglob("*") if each.is_file())
    assert path == runs / ANSWERS_FOLDER / "refcoco_yard.png" == Path(drawn[0]).resolve()
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert (np.array(image) == PREDICTION_COLOUR).all(axis=2).any()


def test_the_answer_is_what_an_evaluation_predicts(
    run: Run, weights: Path, tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("downstream.commands.log_records", lambda *_, **__: None)
    root = WRITERS["refcoco"](tmp_path, num_train=1, num_val=2, num_test_a=1, num_test_b=1)
    judge = ["refcoco", "--data-root", root, "--split", "val", "--batch-size", 1, "--checkpoint", weights]
    code, _, err = run(*judge)
    assert code == 0, err
    (path,) = runs.glob("*/fine-tuned-val/predictions.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({tuple(row["prediction"]) for row in rows}) > 2
    for row in rows:
        image = root / "images/mscoco/images/train2014" / row["picture"]
        options = RunOptions(checkpoint=weights, device="cpu")
        answer = point(*find_task("refcoco"), options, image=image, text=row["text"], output_dir=runs)
        assert [round(corner, 3) for corner in answer.box] == row["prediction"]


def test_the_weights_of_the_last_run_that_left_some_are_taken(
    run: Run, picture: Path, weights: Path, runs: Path
) -> None:
    leave_run(runs, "20260101-000000_refcoco_aaaaaa", weights)
    leave_run(runs, "20260102-000000_refcoco_bbbbbb", weights)
    leave_run(runs, "20260103-000000_refcoco_cccccc", None)
    leave_run(runs, "20260104-000000_refcoco_plus_dddddd", weights)
    assert find_weights("refcoco", runs).parent.name == "20260102-000000_refcoco_bbbbbb"
    assert find_weights("refcoco_plus", runs).parent.name == "20260104-000000_refcoco_plus_dddddd"
    code, out, err = run("refcoco", "--image", picture, "--text", TEXT)
    assert code == 0, err
    assert "20260102-000000_refcoco_bbbbbb" in out


def damaged(picture: Path, content: bytes) -> Path:
    picture.write_bytes(content)
    return picture


FAULTS: dict[str, tuple[int, str, Callable[[Path], list[Any]]]] = {
    "no weights": (
        4,
        "no fine-tuned weights of refcoco in {runs}; run `python downstream/run.py refcoco` first",
        lambda picture: ["refcoco", "--image", picture, "--text", TEXT],
    ),
    "weights that are not there": (
        4,
        "gone.safetensors",
        lambda picture: ["refcoco", "--image", picture, "--text", TEXT, "--checkpoint", "gone.safetensors"],
    ),
    "weights for something else": (
        2,
        "has a head of 2 outputs, expected 4; name weights fine-tuned for this task",
        lambda picture: [
            "refcoco", "--image", picture, "--text", TEXT,
            "--checkpoint", write_weights(picture.parent / "pairs.safetensors", "nlvr2", outputs=2),
        ],
    ),
    "no picture": (4, "no picture at gone.jpg", lambda _: ["refcoco", "--image", "gone.jpg", "--text", TEXT]),
    "a folder": (4, "no picture at", lambda picture: ["refcoco", "--image", picture.parent, "--text", TEXT]),
    "text for a picture": (
        2,
        "yard.jpg",
        lambda picture: ["refcoco", "--image", damaged(picture, b"a dog\n" * 99), "--text", TEXT],
    ),
    "a picture cut short": (
        2,
        "yard.jpg",
        lambda picture: ["refcoco", "--image", damaged(picture, picture.read_bytes()[:300]), "--text", TEXT],
    ),
    "an empty sentence": (2, "--text is empty", lambda picture: ["refcoco", "--image", picture, "--text", " "]),
    "a task of another kind": (
        2,
        "esc50 answers with no box; ask refcoco, refcoco_plus or refcocog",
        lambda picture: ["esc50", "--image", picture, "--text", TEXT],
    ),
    "a task of another engine": (
        2,
        "ade20k is no task of the plain engine",
        lambda picture: ["ade20k", "--image", picture, "--text", TEXT],
    ),
    "several tasks": (2, "go together, with one task", lambda picture: ["vl", "--image", picture, "--text", TEXT]),
    "no sentence": (2, "--image and --text go together", lambda picture: ["refcoco", "--image", picture]),
    "a sentence alone": (2, "--image and --text go together", lambda _: ["refcoco", "--text", TEXT]),
    "an option without a part": (
        2,
        "--limit is nothing that refcoco with --image knows; leave it out",
        lambda picture: ["refcoco", "--image", picture, "--text", TEXT, "--limit", 3],
    ),
    "a dry run": (
        2,
        "leave --dry-run and --resume out",
        lambda picture: ["refcoco", "--image", picture, "--text", TEXT, "--dry-run"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_answered_is_one_line_and_leaves_nothing(name: str, run: Run, picture: Path, runs: Path) -> None:
    expected, words, arguments = FAULTS[name]
    code, out, err = run(*arguments(picture))
    assert (code, out) == (expected, ""), err
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert words.format(runs=runs) in line
    assert not runs.exists()
