"""What a plain task would do is found out without torch: profile, settings, splits, and all that is missing."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from downstream.config import load_task_config
from downstream.formats.base import Labelled, Listing
from downstream.tasks import load_task
from downstream.tasks.base import Part, Plan, RunOptions
from downstream.tasks.plain import (
    PlainTask,
    find_task,
    has_training_set,
    is_miniworld,
    is_small,
)
from miniworld.benchmarks import WRITERS

SCALE = 0.05
NAMES = ("esc50", "fsd50k", "audiocaps", "clotho", "avqa", "coco", "refcoco", "refcocog", "imagenet")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for name in NAMES:
        WRITERS[name](folder, scale=SCALE)
    return folder


def plan(task: str, **options: Any) -> Plan:
    return load_task(task).plan(load_task_config(task), RunOptions(**options))


def settings_of(found: Plan) -> list[str]:
    return [part.setting for part in found.parts]


def write_weights(path: Path, **metadata: Any) -> Path:
    save_file({"a": torch.zeros(2)}, path, metadata={key: json.dumps(value) for key, value in metadata.items()})
    return path


SMALL = {"onepeace": {"size": "mini"}}
TUNED = {"finetuned": {"config": {"name": "tiny"}}}


# Which profile


@pytest.mark.parametrize(
    ("metadata", "is_ours"),
    [
        (SMALL, True),
        (TUNED, True),
        ({"onepeace": {"size": "4b"}}, False),
        ({"finetuned": {"config": {"name": "4b"}}}, False),
        ({}, False),
        ({"finetuned": []}, False),
        ({"onepeace": "mini"}, False),
    ],
)
def test_a_small_model_of_ours_is_told_by_its_header(metadata: Any, is_ours: bool, tmp_path: Path) -> None:
    assert is_small(write_weights(tmp_path / "w.safetensors", **metadata)) is is_ours


@pytest.mark.parametrize("content", [b"", b"1234", b"\xff" * 100, b"\x10" + b"\0" * 7 + b"{not json at all"])
def test_a_file_without_a_header_is_no_small_model(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert not is_small(tmp_path / "w.safetensors")
    assert not is_small(tmp_path / "absent.safetensors")


def test_a_file_of_another_kind_is_no_small_model(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", **SMALL).rename(tmp_path / "w.pt")
    assert not is_small(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("options", "profile", "reason"),
    [
        ({}, "mini", "neither released weights nor the whole data set were named"),
        ({"profile": "paper"}, "paper", "asked for"),
        ({"checkpoint": "small"}, "mini", "neither released weights"),
        ({"pretrained": "small"}, "mini", "neither released weights"),
        ({"checkpoint": "large"}, "paper", "large.pt is no small model of ours"),
        ({"pretrained": "large"}, "paper", "large.pt is no small model of ours"),
        ({"pretrained": "large", "profile": "mini"}, "mini", "asked for"),
    ],
)
def test_the_profile_follows_from_what_is_named(
    options: dict[str, Any], profile: str, reason: str, tmp_path: Path
) -> None:
    files = {"small": write_weights(tmp_path / "small.safetensors", **SMALL), "large": tmp_path / "large.pt"}
    files["large"].write_bytes(b"x")
    found = plan("esc50", **{key: files.get(value, value) for key, value in options.items()})
    assert found.profile == profile
    assert reason in found.reason


def listing_of(count: int, *, num_absent: int = 0) -> Listing[Labelled]:
    samples = tuple(Labelled(str(number), Path("a.wav"), (0,)) for number in range(count - num_absent))
    absent = tuple(f"absent {number}" for number in range(num_absent))
    return Listing(samples, absent, "original", (Path("list.csv"),), ("one",))


@pytest.mark.parametrize(
    ("count", "num_absent", "profile"), [(1500, 0, "mini"), (2000, 0, "paper"), (2000, 7, "paper"), (2001, 0, "mini")]
)
def test_the_whole_published_split_asks_for_the_paper_profile(
    count: int, num_absent: int, profile: str, tmp_path: Path
) -> None:
    task = PlainTask("prompted", "audio", lambda root, split: listing_of(count, num_absent=num_absent), "all")
    assert task.plan(load_task_config("esc50"), RunOptions(data_root=tmp_path)).profile == profile


def test_data_that_cannot_be_read_is_no_whole_split_and_is_an_error_of_the_plan(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text("filename,target\n")
    with pytest.raises(ValueError, match=r"esc50\.csv, line 1: no column 'category'"):
        plan("esc50", data_root=tmp_path)


# Which settings and splits


@pytest.mark.parametrize(
    ("task", "options", "settings"),
    [
        ("esc50", {}, ["zero-shot"]),
        ("fsd50k", {}, ["fine-tuned"]),
        ("audiocaps", {}, ["zero-shot", "fine-tuned"]),
        ("audiocaps", {"checkpoint": "small"}, ["fine-tuned"]),
        ("audiocaps", {"pretrained": "small"}, ["zero-shot"]),
        ("audiocaps", {"setting": "fine-tuned", "pretrained": "small"}, ["fine-tuned"]),
        ("audiocaps", {"setting": "zero-shot", "checkpoint": "small"}, ["zero-shot"]),
        ("audiocaps", {"data_root": "world"}, ["zero-shot", "fine-tuned"]),
        ("audiocaps", {"data_root": "without clotho"}, ["zero-shot"]),
        ("coco", {"data_root": "world"}, ["zero-shot", "fine-tuned"]),
        ("coco", {"data_root": "a table"}, ["zero-shot"]),
        ("fsd50k", {"data_root": "world", "pretrained": "small"}, ["fine-tuned"]),
        ("imagenet", {}, ["zero-shot", "fine-tuned"]),
        ("imagenet", {"checkpoint": "small"}, ["fine-tuned"]),
        ("imagenet", {"pretrained": "small"}, ["zero-shot"]),
        ("imagenet", {"data_root": "world"}, ["zero-shot", "fine-tuned"]),
        ("imagenet", {"data_root": "judged pictures"}, ["zero-shot"]),
        ("refcoco", {"pretrained": "small"}, ["fine-tuned"] * 3),
    ],
)
def test_the_settings_are_all_that_what_is_named_allows(
    task: str, options: dict[str, Any], settings: list[str], tmp_path: Path, world: Path
) -> None:
    places = {
        "small": write_weights(tmp_path / "small.safetensors", **SMALL),
        "world": world,
        "without clotho": world / "audiocaps",
        "a table": world / "mscoco" / "test_new.tsv",
        "judged pictures": tmp_path / "imagenet",
    }
    (tmp_path / "imagenet").mkdir()
    for name in ("val", "LOC_synset_mapping.txt"):
        (tmp_path / "imagenet" / name).symlink_to(world / "imagenet" / name)
    assert settings_of(plan(task, **{key: places.get(value, value) for key, value in options.items()})) == settings


def test_a_setting_that_a_task_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="esc50 is judged zero-shot, not fine-tuned"):
        plan("esc50", setting="fine-tuned")


def test_the_split_is_the_published_one_or_the_one_asked_for() -> None:
    assert plan("esc50").parts == (Part("zero-shot", "all", folder="zero-shot"),)
    assert {part.split for part in plan("coco", split="val").parts} == {"val"}
    for task, wrong, right in (("coco", "vall", "val"), ("refcoco", "testa", "testA"), ("refcocog", "testA", "test")):
        with pytest.raises(ValueError, match=rf"unknown split of {task} '{wrong}'\. Did you mean '{right}'\?"):
            plan(task, split=wrong)


@pytest.mark.parametrize(
    ("task", "options", "splits"),
    [
        ("refcoco", {}, ["val", "testA", "testB"]),
        ("refcoco", {"split": "testB"}, ["testB"]),
        ("refcoco", {"data_root": "refcoco/refcoco_val.tsv"}, ["val"]),  # a table is one split
        ("refcoco", {"data_root": "refcoco/refcoco_testA.tsv", "split": "testA"}, ["testA"]),
        ("refcoco_plus", {}, ["val", "testA", "testB"]),
        ("refcocog", {}, ["val", "test"]),
        ("nlvr2", {}, ["dev", "test1"]),
    ],
)
def test_several_splits_have_a_folder_each(task: str, options: dict[str, str], splits: list[str], world: Path) -> None:
    root = {"data_root": world / options["data_root"]} if "data_root" in options else {}
    found = plan(task, **{**options, **root})
    assert found.missing == ()
    assert found.parts == tuple(Part("fine-tuned", split, folder=f"fine-tuned-{split}") for split in splits)


@pytest.mark.parametrize("profile", ["mini", "paper"])
def test_pictures_of_a_class_are_said_or_learned(profile: str) -> None:
    settings = plan("imagenet", profile=profile).settings["settings"]
    assert [(name, each["kind"], each["head"] is None) for name, each in settings.items()] == [
        ("zero-shot", "prompted", True),
        ("fine-tuned", None, False),
    ]
    assert "{label}" in settings["zero-shot"]["prompt"]


def test_views_are_nothing_that_these_tasks_know() -> None:
    with pytest.raises(ValueError, match="--tta is nothing that esc50 knows"):
        plan("esc50", has_views=True)


# What is there


@pytest.mark.parametrize(
    ("root", "is_there"), [("world", True), ("its own", True), ("a table", False), ("empty", False)]
)
def test_training_data_is_there_or_not(root: str, is_there: bool, world: Path, tmp_path: Path) -> None:
    places = {
        "world": world,
        "its own": world / "FSD50K",
        "a table": world / "FSD50K/fsd50K_eval.tsv",
        "empty": tmp_path,
    }
    assert has_training_set("fsd50k", RunOptions(data_root=places[root])) is is_there


def test_the_miniworld_always_has_training_data() -> None:
    assert has_training_set("fsd50k", RunOptions())
    assert has_training_set("macs/some.tsv", RunOptions())


def test_a_table_to_train_on_is_looked_for_below_the_data_root(tmp_path: Path) -> None:
    assert not has_training_set("macs/some.tsv", RunOptions(data_root=tmp_path))
    (tmp_path / "macs").mkdir()
    (tmp_path / "macs" / "some.tsv").touch()
    assert has_training_set("macs/some.tsv", RunOptions(data_root=tmp_path))


def test_faulty_training_data_is_an_error_and_not_none(world: Path, tmp_path: Path) -> None:
    listed = world / "mscoco" / "dataset_coco.json"
    content = json.loads(listed.read_text())
    train = next(image for image in content["images"] if image["split"] == "train")
    train["sentences"] = []
    (tmp_path / "dataset_coco.json").write_text(json.dumps(content))
    for name in ("train2014", "val2014"):
        (tmp_path / name).symlink_to(world / "mscoco" / name)
    with pytest.raises(ValueError, match="sentences is empty"):
        plan("coco", data_root=tmp_path)


def test_a_data_set_below_the_root_is_found_by_the_tasks_name(world: Path) -> None:
    task, _ = find_task("audiocaps")
    assert task.find_root("audiocaps", RunOptions(data_root=world)) == world / "audiocaps"
    assert task.find_root("esc50", RunOptions(data_root=world)) == world
    assert task.find_root("esc50", RunOptions()) is None


@pytest.mark.parametrize("task", ["refcoco", "refcocog"])
@pytest.mark.parametrize("where", [".", "own"])
def test_a_part_of_a_data_set_that_is_called_like_it_is_not_taken_for_it(task: str, where: str, world: Path) -> None:
    root = world / task if where == "own" else world
    assert (world / task / task).is_dir()
    found, _ = find_task(task)
    assert found.find_root(task, RunOptions(data_root=root)) == world / task
    assert plan(task, data_root=root).missing == ()


@pytest.mark.parametrize("where", [".", "ESC-50-master", "ESC-50-master/esc50.tsv"])
def test_drawn_data_is_told_from_genuine_data_however_it_is_named(where: str, world: Path, tmp_path: Path) -> None:
    task, _ = find_task("esc50")
    root = world / where
    assert is_miniworld(root, task.list_split("esc50", "all", RunOptions(data_root=root)))
    copy = tmp_path / "ESC-50-master"
    copy.mkdir()
    for path in (world / "ESC-50-master").iterdir():
        if path.name != "miniworld.json":
            (copy / path.name).symlink_to(path)
    root = tmp_path / where
    assert not is_miniworld(root, task.list_split("esc50", "all", RunOptions(data_root=root)))


def test_data_that_is_not_there_is_missing_and_says_where(tmp_path: Path) -> None:
    (missing,) = plan("fsd50k", data_root=tmp_path / "absent").missing
    assert missing == f"data: no data at {tmp_path / 'absent'}; name the folder that holds fsd50k with --data-root"
    (missing,) = plan("fsd50k", data_root=tmp_path).missing
    assert missing.startswith(f"data: no FSD50K, split eval, in {tmp_path}")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("esc50", ["data", "weights", "vocabulary"]),
        ("audiocaps", ["data", "weights", "vocabulary"]),
        ("avqa", ["data", "weights", "vocabulary"]),
        ("fsd50k", ["data", "weights"]),  # reads no text
        ("refcoco", ["data", "weights", "vocabulary"]),
        ("vqav2", ["data", "weights", "vocabulary"]),
        ("nlvr2", ["data", "weights", "vocabulary"]),
        ("imagenet", ["data", "weights", "vocabulary"]),  # to name its classes
    ],
)
def test_the_paper_profile_names_all_that_is_missing(
    task: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("downstream.tasks.plain.find_vocabulary", raise_missing)
    missing = plan(task, profile="paper").missing
    assert [line.partition(":")[0] for line in missing] == words
    assert "--data-root" in missing[0]
    assert "--checkpoint" in missing[1]
    assert "--pretrained" in missing[1]


def raise_missing(name: str) -> None:
    raise FileNotFoundError("no vocabulary")


def test_the_paper_profile_asks_for_training_data_only_where_it_trains(world: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "released.pt"
    checkpoint.write_bytes(b"x")
    named = {"data_root": world / "FSD50K" / "fsd50K_eval.tsv", "profile": "paper"}
    assert plan("fsd50k", checkpoint=checkpoint, **named).missing == ()
    (missing,) = plan("fsd50k", pretrained=checkpoint, **named).missing
    assert missing.startswith("data: what fsd50k is fine-tuned on, below ")
    assert plan("fsd50k", pretrained=checkpoint, data_root=world, profile="paper").missing == ()


def test_weights_that_are_not_there_are_missing(tmp_path: Path) -> None:
    found = plan("esc50", profile="mini", checkpoint=tmp_path / "a.pt", pretrained=tmp_path / "b.pt")
    assert found.missing == tuple(f"weights: {tmp_path / name} does not exist" for name in ("a.pt", "b.pt"))


# What is told


def test_a_task_of_another_engine_is_none_to_train_on() -> None:
    with pytest.raises(ValueError, match="ade20k is no task of the plain engine"):
        find_task("ade20k")
    with pytest.raises(ValueError, match="unknown task 'codo'"):
        find_task("codo")


def test_a_dry_run_tells_each_setting_and_what_it_trains() -> None:
    facts = plan("audiocaps").facts
    assert facts["zero-shot"].startswith("test: audio-15s-text/zero-shot, float32, batches of 32")
    assert "fine-tuned for 50 steps of 32" in facts["fine-tuned"]
    assert "miniworld" in facts["data"]


def test_a_plan_imports_no_torch(root: Path, world: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from downstream.tasks import load_task\n"
        "from downstream.config import load_task_config; from downstream.tasks.base import RunOptions\n"
        f"options = RunOptions(data_root=Path({str(world)!r}))\n"
        "for task in ('coco', 'refcoco', 'imagenet'):\n"
        "    load_task(task).plan(load_task_config(task), options)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_options_count_samples_by_number_and_by_share() -> None:
    options = RunOptions()
    assert options.count(17) == 17
    assert [replace(options, limit=limit).count(17) for limit in (1, 5, 100, 0.5, 0.01)] == [1, 5, 17, 9, 1]
