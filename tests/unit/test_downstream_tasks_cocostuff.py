"""COCO-Stuff is run as ADE20K is, says what it is for, and refuses bad data in one line before anything is computed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from downstream.cli import main
from downstream.config import load_task_config
from miniworld.cocostuff import write_cocostuff

STEM = "000000000285"
SAME = ("size", "adapter", "head")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Call the command line with its outputs below a temporary folder."""

    def call(*arguments: object) -> tuple[int, str, str]:
        places = ["--output-dir", str(tmp_path / "runs"), "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
        code = main(["cocostuff", *map(str, arguments), *places])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_cocostuff(tmp_path, seed=0, num_training=2, num_validation=3, width_px=64, height_px=48)


def label_path(tree: Path) -> Path:
    return tree / "annotations" / "val2017" / f"{STEM}.png"


def test_a_dry_run_says_what_the_stage_is_for(run, world: Path) -> None:
    code, out, err = run("--dry-run", "--data-root", world.parent)
    assert (code, err) == (0, "")
    assert "published: 118,287 and 5,000" in out
    assert "ade20k --pretrained" in out
    assert "52.9" in out


def test_the_paper_profile_names_all_that_is_missing(run) -> None:
    code, out, err = run("--profile", "paper")
    assert (code, out) == (4, "")
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert [line.split(":")[1] for line in lines] == [" missing data", " missing weights"]
    assert "none is published" in lines[1]


@pytest.mark.parametrize("profile", ["paper", "mini"])
def test_its_segmentor_is_that_of_ade20k_but_for_the_classes(profile: str) -> None:
    ours, theirs = (load_task_config(task).profiles[profile] for task in ("cocostuff", "ade20k"))
    assert {key: ours[key] for key in SAME} == {key: theirs[key] for key in SAME}
    assert ours["geometry"] == theirs["geometry"]


def test_the_recipe_is_the_released_one() -> None:
    training = load_task_config("cocostuff").profiles["paper"]["training"]
    assert (training["iterations"], training["lr"], training["warmup_iterations"]) == (80_000, 2e-5, 1500)
    assert (training["batch_size"], training["layer_decay"], training["weight_decay"]) == (16, 0.95, 0.05)
    assert training["drop_path_rate"] == 0.5


def damage_size(tree: Path) -> None:
    Image.new("L", (40, 30)).save(label_path(tree))


def damage_value(tree: Path) -> None:
    label = np.array(Image.open(label_path(tree)))
    label[3, 4] = 200
    Image.fromarray(label).save(label_path(tree))


def damage_format(tree: Path) -> None:
    with Image.open(label_path(tree)) as label:
        label.load()
    label.save(label_path(tree), format="JPEG")


def damage_bytes(tree: Path) -> None:
    label_path(tree).write_bytes(label_path(tree).read_bytes()[:60])


def lose_label(tree: Path) -> None:
    label_path(tree).unlink()


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (damage_size, 2, "is 40 x 30 pixels, its picture 64 x 48"),
        (damage_value, 2, "holds the value 200, expected 0 to 10"),
        (damage_format, 2, "is JPEG inside, expected PNG"),
        (damage_bytes, 2, "is not a readable picture"),
        (lose_label, 4, "has no label"),
    ],
    ids=["size", "value", "format", "bytes", "lost"],
)
def test_bad_data_is_one_line_and_leaves_nothing(
    run, world: Path, tmp_path: Path, damage: Callable[[Path], None], code: int, words: str
) -> None:
    damage(world)
    found, out, err = run("--data-root", world.parent)
    assert (found, out) == (code, "")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert STEM in errors[0]
    assert words in errors[0]
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []
