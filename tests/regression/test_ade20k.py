"""ADE20K, and COCO-Stuff before it, from the command line, end to end, on the mini profile."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.record import Record, read_record

pytestmark = pytest.mark.slow

SHORT = [
    *("--set", "training.iterations=24"),
    *("--set", "training.warmup_iterations=4"),
    *("--set", "training.state_interval=8"),
    *("--limit", "3"),
]


SPOKEN = re.compile(r"ADE20K|COCO-Stuff|  MINI|drawing|\d+ pictures|loaded|fine-tuning \d|predicting \d|recording")


@pytest.fixture
def start(root, tmp_path):
    """Start the command in a folder of its own."""

    def run(*arguments: str, output: str = "runs", task: str = "ade20k") -> subprocess.Popen:
        command = [sys.executable, str(root / "downstream" / "run.py"), task, *arguments]
        places = ["-o", str(tmp_path / output), "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, *places], cwd=tmp_path, env=environment, **pipes)

    return run


@pytest.fixture
def finish(start, tmp_path):
    """Run the command to its end, and read its record."""

    def run(*arguments: str, output: str = "runs", task: str = "ade20k", expected: int = 0) -> Record:
        process = start(*arguments, output=output, task=task)
        stdout, stderr = process.communicate()
        assert process.returncode == expected, stderr
        run.stdout, run.stderr = stdout, stderr
        latest = sorted((tmp_path / output).iterdir())[-1]
        return read_record(latest)

    return run


def folder_of(tmp_path: Path, output: str = "runs") -> Path:
    return sorted((tmp_path / output).iterdir())[-1]


def values(record: Record) -> dict[str, float]:
    return {metric.name: metric.value for metric in record.metrics}


def test_the_mini_recipe_reaches_its_number_in_time(finish, tmp_path):
    record = finish()
    assert values(record)["miou"] >= 60
    assert record.data.n == record.data.n_expected == 32
    assert {comparison.verdict for comparison in record.comparisons} == {"not comparable"}
    for line in ("MINI", "not comparable with the paper's"):
        assert line in finish.stderr
    for name in ("config.yaml", "record.json", "predictions.jsonl", "log.jsonl", "pictures.png"):
        assert (folder_of(tmp_path) / name).is_file()
    assert finish.stdout.strip().endswith("python reports/run.py table")
    assert [line for line in finish.stderr.splitlines() if not SPOKEN.match(line)] == []


def test_one_seed_gives_one_number_and_a_kill_does_not_change_it(start, finish, tmp_path):
    first = finish(*SHORT, output="first")
    second = finish(*SHORT, output="second")
    assert values(first) == values(second)

    process = start(*SHORT, output="killed")
    state = "training_state.safetensors"
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob(f"*/{state}")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder_of(tmp_path, "killed") / "record.json").exists()

    resumed = finish(*SHORT, "--resume", output="killed")
    assert values(resumed) == values(first)
    log = (folder_of(tmp_path, "killed") / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["iteration"] == 24
    assert len(list((tmp_path / "killed").iterdir())) == 1

    assert values(finish(*SHORT, "--resume", output="killed")) == values(first)
    assert "is finished; its result" in finish.stderr
    other = start(*SHORT[:-1], "2", "--resume", output="killed")
    _, stderr = other.communicate()
    assert other.returncode == 2
    assert "made with another 'limit'" in stderr


def test_a_checkpoint_of_a_run_gives_the_number_of_the_run_and_takes_every_view(finish, tmp_path):
    trained = finish(*SHORT, output="trained")
    checkpoint = str(folder_of(tmp_path, "trained") / "segmentor.safetensors")
    limit = ["--limit", "3", "--checkpoint", checkpoint]
    loaded = finish(*limit, output="loaded")
    assert loaded.profile == "mini"
    assert values(loaded) == values(trained)
    assert loaded.checkpoint.sha256 == trained.checkpoint.sha256

    views = finish(*limit, "--tta", output="views")
    assert [line for line in finish.stderr.splitlines() if not SPOKEN.match(line)] == []
    assert views.protocol.endswith("/ms")
    assert values(views) != values(loaded)
    assert views.comparisons[0].target_id == "V9"


def test_genuine_pictures_are_judged_as_what_they_are(finish, samples_dir):
    record = finish(*SHORT, "--data-root", str(samples_dir / "ade20k"))
    assert record.dataset == "ADE20K"
    assert (record.data.n, record.data.n_expected) == (2, 2000)
    assert not record.data.is_complete


def test_ade20k_goes_on_from_the_weights_of_coco_stuff(start, finish, tmp_path):
    stage = finish(task="cocostuff", output="stage")
    assert values(stage)["miou"] >= 35
    assert stage.data.n == stage.data.n_expected == 32
    assert {comparison.verdict for comparison in stage.comparisons} == {"not comparable"}
    assert [line for line in finish.stderr.splitlines() if not SPOKEN.match(line)] == []

    weights = str(folder_of(tmp_path, "stage") / "segmentor.safetensors")
    short = ["--limit", "8", *SHORT[:-2]]
    later = finish(*short, "--pretrained", weights, output="later")
    assert "segmentor.safetensors was made for 171 classes: what tells the 150 apart starts fresh" in finish.stderr
    assert later.checkpoint.name == "segmentor.safetensors (fine-tuned from segmentor.safetensors)"
    assert later.checkpoint.missing_names == ("decode_head.cls_embed.weight", "decode_head.cls_embed.bias")
    assert values(later)["miou"] > values(finish(*short, output="fresh"))["miou"] + 10

    for task, output in (("ade20k", "stage"), ("cocostuff", "later")):
        other = str(folder_of(tmp_path, output) / "segmentor.safetensors")
        process = start("--checkpoint", other, "--limit", "1", output="refused", task=task)
        stdout, stderr = process.communicate()
        assert (process.returncode, stdout) == (2, "")
        assert sum(line.startswith("error:") for line in stderr.splitlines()) == 1
        assert "classes, expected" in stderr


def damage_size(tree: Path) -> None:
    path = tree / "annotations" / "validation" / "ADE_val_00000002.png"
    Image.new("L", (40, 30)).save(path)


def damage_picture(tree: Path) -> None:
    path = tree / "images" / "validation" / "ADE_val_00000002.jpg"
    path.write_bytes(path.read_bytes()[:500])


def damage_label(tree: Path) -> None:
    path = tree / "annotations" / "validation" / "ADE_val_00000002.png"
    label = np.array(Image.open(path))
    label[3, 4] = 151
    Image.fromarray(label).save(path)


def lose_label(tree: Path) -> None:
    (tree / "annotations" / "validation" / "ADE_val_00000002.png").unlink()


@pytest.mark.parametrize(
    ("damage", "code"), [(damage_size, 2), (damage_picture, 2), (damage_label, 2), (lose_label, 4)]
)
def test_damaged_data_is_named_before_anything_is_computed(start, tmp_path, damage, code):
    from miniworld.layouts import write_ade20k

    tree = write_ade20k(tmp_path / "world", num_training=2, num_validation=3, width_px=64, height_px=64)
    damage(tree)
    began = time.monotonic()
    process = start("--data-root", str(tree.parent))
    stdout, stderr = process.communicate()
    assert process.returncode == code, stderr
    errors = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "ADE_val_00000002" in errors[0]
    assert "Traceback" not in stderr
    assert stdout == ""
    assert time.monotonic() - began < 8, "it was found before the imports of the stack"
