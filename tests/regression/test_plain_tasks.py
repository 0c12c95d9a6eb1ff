"""Whole jobs of the plain engine from the command line: layouts, splits, processes, kills, genuine samples."""

import json
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from downstream.config import load_task_config
from miniworld.benchmarks import WRITERS
from reports.log_file import read_log
from reports.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.regression.conftest import Bench

pytestmark = pytest.mark.slow

TABLES = {
    "esc50": "ESC-50-master/esc50.tsv",
    "fsd50k": "FSD50K/fsd50K_eval.tsv",
    "vggsound": "vggsound/vggsound_test_new.tsv",
    "audiocaps": "audiocaps/audiocaps_test_new.tsv",
    "clotho": "clotho/clotho_evaluation_new.tsv",
    "avqa": "AVQA/avqa_val.tsv",
    "coco": "mscoco/test_new.tsv",
    "flickr30k": "flickr30k/test_new.tsv",
    "refcoco": "refcoco/refcoco_val.tsv",
    "refcoco_plus": "refcoco_plus/refcocoplus_val.tsv",
    "refcocog": "refcocog/refcocog_val.tsv",
    "vqav2": "vqav2/vqa_val.tsv",
    "nlvr2": "nlvr2/nlvr2_dev.tsv",
}
GROUNDING = ("refcoco", "refcoco_plus", "refcocog")
WITH_HEAD = ("fsd50k", "vggsound", "avqa", *GROUNDING, "vqav2", "nlvr2")
SPLITS = {"refcoco": "val", "refcoco_plus": "val", "refcocog": "val", "nlvr2": "dev"}  # of several that are judged


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets, small; nobody writes here."""
    folder = tmp_path_factory.mktemp("world")
    for name in (*TABLES, "imagenet"):
        WRITERS[name](folder, scale=0.03 if name in GROUNDING else 0.05)
    return folder


@pytest.fixture(scope="module")
def unbroken(
    make_bench: "Callable[[Path], Bench]", world: Path, tmp_path_factory: pytest.TempPathFactory
) -> "tuple[Bench, str, str]":
    """ESC-50 with the shipped weights, from beginning to end; with what was said."""
    bench = make_bench(tmp_path_factory.mktemp("unbroken"))
    return bench, *bench.run("esc50", "--data-root", world / "ESC-50-master", "--batch-size", 8)


@pytest.fixture(scope="module")
def trained(make_bench: "Callable[[Path], Bench]", world: Path, tmp_path_factory: pytest.TempPathFactory) -> "Bench":
    """Every task with a head, fine-tuned for two steps and judged; the three of grounding share one fine-tuning."""
    bench = make_bench(tmp_path_factory.mktemp("trained"))
    names = ["imagenet", *(name for name in WITH_HEAD if name not in GROUNDING[1:])]
    bench.run(loop=[[name, "--data-root", str(world), *split_of(name), *bench.tiny(steps=2)] for name in names])
    return bench


def split_of(name: str) -> list[str]:
    return ["--split", SPLITS[name]] if name in SPLITS else []


def weights_of(trained: "Bench", name: str) -> str:
    (folder,) = (trained.folder / "runs" / "trainings").glob(f"{'refcoco' if name in GROUNDING else name}-*")
    return str(folder / "weights.safetensors")


def values(record: Record) -> dict[str, float]:
    return {metric.name: metric.value for metric in record.metrics}


def read_rows(part: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (part / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def numbers(record: Record) -> list[Any]:
    return [metric.model_dump() for metric in record.metrics]


def test_esc50_from_raw_files_to_a_judged_number(unbroken: "tuple[Bench, str, str]") -> None:
    bench, stdout, stderr = unbroken
    record = bench.record("esc50")
    assert (record.task, record.split, record.setting) == ("esc50", "all", "zero-shot")
    assert values(record)["accuracy"] >= 60, "the shipped weights know these sounds"
    assert record.metrics[0].n == record.data.n == record.data.n_expected == 85
    assert record.data.version == "miniworld"
    assert record.checkpoint.name == "mini.safetensors"
    assert record.protocol == "audio-15s-prompt/zero-shot"
    assert [comparison.verdict for comparison in record.comparisons] == ["not comparable"]
    assert record.timings["encoded_units"] == 85 + 17
    rows = bench.rows("esc50")
    assert sum(row["truth"] == row["prediction"] for row in rows) == record.metrics[0].hits
    assert len(rows) == 85
    assert all(word in stderr for word in ("not comparable with the paper's", "MINI", "weights: mini.safetensors"))
    assert stdout.strip().endswith("python reports/run.py table")


def test_both_layouts_give_the_same_samples_and_numbers(bench: "Bench", trained: "Bench", world: Path) -> None:
    chosen = {name: ["--setting", "zero-shot"] for name in TABLES}
    chosen |= {name: ["--checkpoint", weights_of(trained, name), *split_of(name)] for name in WITH_HEAD}
    roots = {name: world / table.partition("/")[0] for name, table in TABLES.items()}
    original = [[name, "--data-root", str(root), *chosen[name]] for name, root in roots.items()]
    tables = [[name, "--data-root", str(world / table), *chosen[name]] for name, table in TABLES.items()]
    stdout, _ = bench.run(loop=[*original, *tables])
    assert stdout.count("code 0") == 2 * len(TABLES)
    for name in TABLES:
        one, other = bench.records(name)
        assert one.data.ids_sha256 == other.data.ids_sha256, name
        assert numbers(one) == numbers(other), name
        assert one.data.version == other.data.version == "miniworld"
        assert one.timings["encoded_units"] > 0
        assert other.timings["encoded_units"] == 0, f"{name}: the same content is there already"
        if trained.runs(name):
            assert numbers(one) == numbers(trained.record(name)), "a checkpoint gives the number of its run"
            assert one.checkpoint.sha256 == trained.record(name).checkpoint.sha256


def test_what_else_a_task_tells_lies_beside_its_predictions(trained: "Bench") -> None:
    (asked,), (pointed,) = (trained.runs(name) for name in ("vqav2", "refcoco"))
    answers = json.loads((asked / "fine-tuned" / "server_answers.json").read_text(encoding="utf-8"))
    told = [{"question_id": int(row["id"]), "answer": row["answer"]} for row in trained.rows("vqav2")]
    assert answers == told
    with Image.open(pointed / "fine-tuned-val" / "boxes.png") as sheet:
        assert sheet.format == "PNG"
    for name, word in (("vqav2", "server_answers"), ("refcoco", "boxes")):
        assert {word, "predictions"} <= set(trained.record(name).artifacts)


def test_pictures_of_classes_are_judged_by_prompts_and_by_a_head(trained: "Bench") -> None:
    said, learned = (trained.record("imagenet", part=part) for part in ("zero-shot", "fine-tuned"))
    assert list(values(said)) == ["accuracy"]
    assert list(values(learned)) == ["accuracy_top_1", "accuracy_top_5", "loss"]
    assert {metric.n for record in (said, learned) for metric in record.metrics} == {15}
    assert (said.protocol, learned.protocol) == ("image-square-64-prompt/zero-shot", "image-center-64/fine-tuned")


def test_the_last_run_answers_a_sentence_about_one_picture(trained: "Bench", world: Path) -> None:
    image = sorted((world / "refcoco").rglob("*.jpg"))[0]
    stdout, _ = trained.run("refcoco", "--image", image, "--text", "the dog")
    assert f"runs/trainings/{Path(weights_of(trained, 'refcoco')).parent.name}/weights.safetensors" in stdout
    assert (trained.folder / "runs" / "answers" / f"refcoco_{image.stem}.png").is_file()


def test_any_number_of_processes_gives_the_same_numbers_and_predictions(
    bench: "Bench", trained: "Bench", world: Path
) -> None:
    data = ["--data-root", str(world)]
    encoded = ["esc50", "coco", "--setting", "zero-shot", *data]
    tuned = ["nlvr2", "--split", "dev", *data, *bench.tiny(steps=3, batch=12, micro=2, ema_decay=0.5)]
    loaded = ["refcoco", "--split", "val", *data, "--checkpoint", weights_of(trained, "refcoco")]
    bench.run(loop=[encoded, tuned, loaded], output="ranks1")
    for ranks in (2, 3):
        for arguments in (encoded, tuned, loaded):
            bench.run(*arguments, output=f"ranks{ranks}", ranks=ranks)
    alone, mean = (
        read_log(bench.trainings("ranks1")[0]),
        load_file(bench.trainings("ranks1")[0] / "weights.safetensors"),
    )
    for output in ("ranks2", "ranks3"):
        for task in ("esc50", "coco", "refcoco"):
            assert numbers(bench.record(task, output)) == numbers(bench.record(task, "ranks1"))
            assert bench.rows(task, output) == bench.rows(task, "ranks1")
        together = read_log(bench.trainings(output)[0])
        assert [row["loss"] for row in together] == pytest.approx([row["loss"] for row in alone], rel=1e-4)
        assert [row["grad_norm"] for row in together] == pytest.approx([row["grad_norm"] for row in alone], rel=1e-3)
        assert values(bench.record("nlvr2", output)) == pytest.approx(values(bench.record("nlvr2", "ranks1")), abs=1)
        found = load_file(bench.trainings(output)[0] / "weights.safetensors")
        gaps = torch.cat([(found[name] - value).abs().flatten() for name, value in mean.items()])
        assert float(gaps.mean()) < 1e-7, "the same running mean; the weights themselves are 1e-4 from it"


def test_a_kill_while_encoding_changes_no_number_and_costs_nothing_twice(
    bench: "Bench", world: Path, unbroken: "tuple[Bench, str, str]"
) -> None:
    arguments = ["esc50", "--data-root", world / "ESC-50-master", "--batch-size", 8]

    def count_vectors() -> int:
        for path in (bench.folder / "runs" / "vectors").glob("*.sqlite"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                try:
                    (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
                except sqlite3.OperationalError:  # not made yet
                    return 0
                return int(count)
        return 0

    bench.kill_when(bench.start(*arguments, before=bench.slow_encoding), lambda: count_vectors() >= 16)
    kept = count_vectors()
    assert 16 <= kept < 102
    (folder,) = bench.runs("esc50")
    assert not (folder / "zero-shot" / "record.json").exists()

    bench.run(*arguments, "--resume")
    assert bench.runs("esc50") == [folder]
    resumed, whole = bench.record("esc50"), unbroken[0].record("esc50")
    assert numbers(resumed) == numbers(whole)
    assert bench.rows("esc50") == unbroken[0].rows("esc50")
    assert resumed.timings["encoded_units"] == 102 - kept

    _, stderr = bench.run(*arguments, "--resume")
    assert "is finished; its result" in stderr
    _, stderr = bench.run(*arguments[:3], "--batch-size", 8, "--limit", 5, "--resume", expected=2)
    assert "made with another 'limit'" in stderr


@pytest.mark.parametrize(
    ("task", "options", "parts"),
    [
        ("fsd50k", [], ["fine-tuned"]),
        ("refcoco", ["--resume"], ["fine-tuned-val", "fine-tuned-testA", "fine-tuned-testB"]),
    ],
)
def test_a_kill_while_fine_tuning_changes_no_number_and_going_on_repeats_nothing(
    bench: "Bench", world: Path, task: str, options: list[str], parts: list[str]
) -> None:
    arguments = [task, "--data-root", world, *bench.tiny(steps=7, interval=2)]
    bench.run(*arguments, output="whole")

    process = bench.start(*arguments, output="killed", before=bench.slow_training)
    bench.kill_when(process, lambda: bool(list((bench.folder / "killed").glob("trainings/*/state.safetensors"))))
    killed_at = time.time()
    (folder,) = bench.trainings("killed")
    assert not (folder / "weights.safetensors").exists()

    bench.run(*arguments, *options, output="killed")
    assert bench.trainings("killed") == [folder]
    assert len(bench.runs(task, "killed")) == (1 if options else 2), "it went on, or began another run"
    for part in parts:
        whole, resumed = (bench.record(task, output, part=part) for output in ("whole", "killed"))
        assert numbers(resumed) == numbers(whole)
        assert resumed.checkpoint.sha256 == whole.checkpoint.sha256, "the same weights to the last bit"
    rows = read_log(folder)
    assert [row["step"] for row in rows] == list(range(1, 8))
    assert [row["loss"] for row in rows] == [row["loss"] for row in read_log(bench.trainings("whole")[0])]
    assert sum(row["time"] < killed_at for row in rows) >= 2, "what was done stays done"
    assert sorted(path.name for path in folder.iterdir()) == ["log.jsonl", "weights.safetensors"]


def test_another_number_of_processes_goes_on_where_a_training_was_killed(bench: "Bench", world: Path) -> None:
    arguments = ["fsd50k", "--data-root", world / "FSD50K", *bench.tiny(steps=6, batch=8, micro=2, interval=2)]
    bench.run(*arguments, output="whole")
    process = bench.start(*arguments, output="killed", before=bench.slow_training, ranks=2)
    bench.kill_when(process, lambda: bool(list((bench.folder / "killed").glob("trainings/*/state.safetensors"))))
    bench.run(*arguments, output="killed", ranks=1)
    rows, whole = (read_log(bench.trainings(output)[0]) for output in ("killed", "whole"))
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in whole], rel=1e-4)


def test_a_fault_that_one_process_finds_ends_all(bench: "Bench", world: Path) -> None:
    folder = bench.folder / "ESC-50-master"
    shutil.copytree(world / "ESC-50-master", folder)
    sorted((folder / "audio").iterdir())[4].write_bytes(b"")
    stdout, stderr = bench.run("esc50", "--data-root", folder, ranks=2, expected=1)  # the launcher's own code
    assert len([line for line in stderr.splitlines() if line.startswith("error:") and "esc50.csv, line 6" in line]) == 1
    assert stdout == ""
    assert bench.runs("esc50") == []


@pytest.mark.parametrize(
    ("tasks", "options", "splits"),
    [
        (("audiocaps", "clotho"), ["--setting", "fine-tuned"], ["evaluation", "test"]),
        (GROUNDING, ["--limit", "5"], ["test", "testA", "testA", "testB", "testB", "val", "val", "val"]),
    ],
)
def test_several_data_sets_and_splits_are_judged_by_one_training(
    bench: "Bench", world: Path, tasks: tuple[str, ...], options: list[str], splits: list[str]
) -> None:
    _, stderr = bench.run(*tasks, "--data-root", world, *options, *bench.tiny(steps=2))
    records = [record for task in tasks for record in bench.records(task)]
    assert sorted(record.split for record in records) == splits
    assert {record.setting for record in records} == {"fine-tuned"}
    assert stderr.count("fine-tuned weights of the same recipe, data and code are there") == len(splits) - 1
    assert sum(record.timings["train_s"] > 0 for record in records) == 1
    assert len({record.checkpoint.sha256 for record in records}) == 1
    (folder,) = bench.trainings()
    for part in (part for task in tasks for run in bench.runs(task) for part in run.iterdir()):
        assert json.loads((part / "training.json").read_text())["training"] == folder.name
        assert len(read_log(part)) == 2
    if tasks == GROUNDING:
        assert {(record.metrics[0].n, record.data.n) for record in records} == {(5, 5)}


@dataclass(frozen=True)
class Genuine:
    """Samples that somebody photographed or recorded, and what is said of them."""

    folder: str
    setting: str
    difference: str | None
    """From what is published; None where that is not known."""
    options: tuple[str, ...] = ()
    steps: int | None = None
    """Of a fine-tuning of the smallest model; None judges the small one."""


GENUINE = {
    "esc50": Genuine("esc50", "zero-shot", "40 samples are listed, 2000 are published"),
    "audiocaps": Genuine(
        "audiocaps", "zero-shot", "7 samples are listed, 975 are published", ("--setting", "zero-shot")
    ),
    "coco": Genuine("mscoco_karpathy", "zero-shot", "26 samples are listed, 5000 are published"),
    "flickr30k": Genuine("flickr30k", "zero-shot", "8 samples are listed, 1000 are published"),
    "avqa": Genuine("avqa", "untrained", None),
    "vggsound": Genuine("vggsound", "fine-tuned", "12 samples are listed, 15446 are published", steps=2),
    "fsd50k": Genuine("fsd50k", "untrained", "1 samples are listed, 10231 are published"),
    "refcoco": Genuine("refcoco", "untrained", "6 samples are listed, 10834 are published"),
    "refcoco_plus": Genuine("refcoco", "untrained", "6 samples are listed, 10758 are published"),
    "refcocog": Genuine("refcoco", "untrained", "13 samples are listed, 4896 are published"),
    "imagenet": Genuine("imagenet-1k", "zero-shot", "152 samples are listed, 50000 are published"),
    "vqav2": Genuine(
        "vqav2", "fine-tuned", "3 samples are listed, 443757 are published", ("--split", "train"), steps=2
    ),
    "nlvr2": Genuine("nlvr2", "untrained", "8 samples are listed, 6982 are published", ("--split", "dev")),
}


def test_genuine_samples_are_judged_as_what_they_are(bench: "Bench", samples_dir: Path) -> None:
    commands = []
    for task, genuine in GENUINE.items():
        training = [] if genuine.steps is None else bench.tiny(steps=genuine.steps)
        commands.append([task, "--data-root", str(samples_dir / genuine.folder), *genuine.options, *training])
    stdout, stderr = bench.run(loop=commands)
    assert stdout.count("code 0") == len(GENUINE)
    for task, genuine in GENUINE.items():
        split = genuine.options[1] if "--split" in genuine.options else load_task_config(task).dataset.split
        (record,) = (found for found in bench.records(task) if found.split == split)
        assert (record.profile, record.setting) == ("mini", genuine.setting)
        assert record.data.version != "miniworld"
        assert {comparison.verdict for comparison in record.comparisons} <= {"not comparable"}
        is_published = task not in ("audiocaps", "imagenet") and genuine.setting != "untrained"
        assert bool(record.comparisons) is is_published, "an untrained head is nobody's number"
        assert record.metrics
        if genuine.difference is not None:
            assert genuine.difference in record.data.differences
            assert f"differs from what is published: {genuine.difference}" in stderr
            assert not record.data.is_complete


def test_what_one_task_refuses_costs_the_others_nothing(bench: "Bench", world: Path) -> None:
    folder = bench.folder / "data"
    shutil.copytree(world / "ESC-50-master", folder / "ESC-50-master")
    shutil.copytree(world / "mscoco", folder / "mscoco")
    shutil.copytree(world / "flickr30k", folder / "flickr30k")
    for path in (folder / "mscoco" / "val2014").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    arguments = ["--setting", "zero-shot", "--data-root", folder, "--limit", 6, "--set", "size=tiny"]
    stdout, stderr = bench.run("esc50", "coco", "flickr30k", *arguments, expected=2)
    errors = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: coco: ")
    assert "dataset_coco.json, image" in errors[0]
    assert "Traceback" not in stderr
    assert [len(bench.runs(task)) for task in ("esc50", "coco", "flickr30k")] == [1, 0, 1]
    assert [bench.record(task).metrics[0].n for task in ("esc50", "flickr30k")] == [6, 6]
    assert all(task in stdout for task in ("esc50", "flickr30k"))


def test_a_finished_run_is_given_for_what_it_is_only(bench: "Bench", world: Path) -> None:
    base = ["clotho", "--setting", "zero-shot", "--data-root", str(world), "--limit", "4", "--set", "size=tiny"]
    others = [
        [*base, "--resume", "--split", "validation"],
        [*base, "--resume", "--pretrained", str(bench.root / "models" / "weights" / "mini.safetensors")],
        [*base, "--resume", "--seed", "1"],
        [*base, "--resume"],
    ]
    stdout, stderr = bench.run(loop=[base, *others], expected=2)
    assert [line for line in stdout.splitlines() if line.startswith("code")] == [f"code {n}" for n in (0, 2, 2, 2, 0)]
    for word in ("split", "pretrained", "seed"):
        assert f"made with another '{word}'" in stderr
    assert len(bench.runs("clotho")) == 1
