"""The command line answers in one line and an exit code, and computes nothing it need not."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from downstream import cli, commands
from downstream.cli import main
from downstream.config import list_tasks, load_task_config
from miniworld.layouts import write_ade20k

DRY = ["ade20k", "--dry-run"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Call the command line with its outputs below a temporary folder."""

    def call(*arguments: object) -> tuple[int, str, str]:
        places = ["--output-dir", str(tmp_path / "runs"), "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
        code = main([*(str(argument) for argument in arguments), *places])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_ade20k(tmp_path, seed=0, num_training=2, num_validation=2, width_px=64, height_px=48)


def test_list_names_every_task_and_group(run) -> None:
    code, out, err = run("--list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(list_tasks())
    assert lines[-1].startswith("groups: ")
    assert {"all", "vision"} <= set(lines[-1].removeprefix("groups: ").split(", "))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no task named. See --list."),
        (["ade2k"], "unknown task 'ade2k'. Did you mean 'ade20k'? See --list."),
        (["ade20k", "ade2k"], "unknown task 'ade2k'. Did you mean 'ade20k'? See --list."),
        (["ADE20K"], "unknown task 'ADE20K'."),
        (["../ade20k"], "unknown task '../ade20k'."),
        ([*DRY, "--set", "training.lr"], "--set 'training.lr', expected key.path=value"),
        ([*DRY, "--set", "trainin.lr=3"], "--set: unknown key 'trainin'. Did you mean 'training'?"),
        ([*DRY, "--set", "size.lr=3"], "--set: 'size' is a value, not a block"),
        ([*DRY, "--set", "training.lr=fast"], "training.lr 'fast'"),
        ([*DRY, "--set", "geometry.crop_px=100"], "crop_px 100 is not a multiple of 32"),
        ([*DRY, "--set", "size=minni"], "unknown size 'minni'. Did you mean 'mini'?"),
        ([*DRY, "--set", "sizes=mini"], "unknown key 'sizes'. Did you mean 'size'?"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(run, arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "large"],
        ["--limit", "0"],
        ["--limit", "-3"],
        ["--limit", "2.5"],
        ["--limit", "many"],
        ["--seed", "x"],
        ["--sets", "a=b"],
        ["--num-workers"],
    ],
    ids=" ".join,
)
def test_what_the_parser_refuses_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*DRY, *arguments])
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ("20", 20.0), ("0.1", 0.1), ("1e2", 100.0)])
def test_a_limit_is_a_number_or_a_share(text: str, value: float) -> None:
    assert cli.build_parser().parse_args(["ade20k", "--limit", text]).limit == value


def test_the_paper_profile_without_anything_names_all_that_is_missing(run) -> None:
    code, out, err = run("ade20k", "--profile", "paper")
    missing = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (code, out) == (4, "")
    assert [line.split(":")[1] for line in missing] == [" missing data", " missing weights"]
    assert "--data-root" in missing[0]
    assert "--checkpoint" in missing[1]


@pytest.mark.parametrize("option", ["--checkpoint", "--pretrained"])
def test_missing_weights_are_exit_code_4_and_named(run, option: str, tmp_path: Path) -> None:
    code, _, err = run("ade20k", option, tmp_path / "absent.pth")
    assert code == 4
    assert f"error: missing weights: {tmp_path / 'absent.pth'} does not exist" in err.splitlines()


@pytest.mark.parametrize("is_dry", [False, True])
def test_missing_data_is_exit_code_4_and_named(run, tmp_path: Path, is_dry: bool) -> None:
    code, _, err = run("ade20k", "--data-root", tmp_path / "absent", *(["--dry-run"] if is_dry else []))
    assert code == 4
    assert f"missing data: no ADE20K in {tmp_path / 'absent'}" in err


def test_a_picture_without_label_is_missing_data(run, world: Path) -> None:
    next((world / "annotations" / "validation").iterdir()).unlink()
    code, _, err = run("ade20k", "--data-root", world)
    assert code == 4
    assert "has no label" in err


def test_training_data_is_needed_for_fine_tuning_only(run, world: Path, tmp_path: Path) -> None:
    weights = mini_checkpoint(tmp_path)
    for path in (world / "images" / "training").iterdir():
        path.unlink()
    assert run(*DRY, "--data-root", world)[0] == 4
    assert run(*DRY, "--data-root", world, "--checkpoint", weights)[0] == 0


def test_a_damaged_picture_stops_the_run_before_anything_is_computed(run, world: Path, tmp_path: Path) -> None:
    bad = next((world / "images" / "training").iterdir())
    bad.write_bytes(b"")
    code, out, err = run("ade20k", "--data-root", world)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {bad} is not a readable picture")


def mini_checkpoint(folder: Path, settings: str = '{"size": "mini"}') -> Path:
    path = folder / "segmentor.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"profile": settings})
    return path


def test_a_dry_run_says_what_would_happen_and_writes_nothing(run, tmp_path: Path) -> None:
    code, out, err = run(*DRY)
    assert (code, err) == (0, "")
    assert "profile mini" in out
    assert "not comparable with the paper's" in out
    for fact in ("model", "segmentor", "test", "fine-tuning", "data", "files", "memory"):
        assert f"\n  {fact:<12} " in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_shows_what_set_has_changed(run) -> None:
    _, out, _ = run(*DRY, "--set", "training.lr=7e-3", "--set", "training.iterations=77")
    assert "77 iterations" in out
    assert "lr 0.007" in out


def test_a_dry_run_counts_the_papers_parameters(run, world: Path, tmp_path: Path) -> None:
    weights = mini_checkpoint(tmp_path, '{"size": "4b"}')
    code, out, _ = run(*DRY, "--profile", "paper", "--data-root", world, "--checkpoint", weights)
    assert code == 0
    assert "1,514,572,128" in out
    assert "none, " in out
    assert "MINI" not in out


def test_test_time_augmentation_shows_in_the_dry_run(run) -> None:
    assert "one view" in run(*DRY)[1]
    scales = len(load_task_config("ade20k").profiles["mini"]["geometry"]["test_ratios"])
    assert f"{scales} scales and flip" in run(*DRY, "--tta")[1]


@pytest.mark.parametrize("group", ["all", "vision"])
def test_a_group_runs_its_tasks_once(run, group: str) -> None:
    _, out, _ = run(group, "ade20k", "--dry-run")
    assert out.count("ADE20K semantic segmentation") == 1


@pytest.mark.parametrize(
    ("settings", "profile"),
    [('{"size": "mini"}', "mini"), ('{"size": "4b"}', "paper"), ("{", "paper"), ("{}", "paper")],
)
def test_the_profile_follows_the_checkpoint(run, world: Path, tmp_path: Path, settings: str, profile: str) -> None:
    weights = mini_checkpoint(tmp_path, settings)
    code, out, _ = run(*DRY, "--data-root", world, "--checkpoint", weights)
    assert code == 0
    assert f", profile {profile} (" in out


def test_a_profile_that_is_asked_for_is_taken(run, world: Path, tmp_path: Path) -> None:
    (tmp_path / "any.pth").write_bytes(b"x")
    _, out, _ = run(*DRY, "--profile", "mini", "--data-root", world, "--checkpoint", tmp_path / "any.pth")
    assert "profile mini (asked for)" in out


@pytest.mark.parametrize("named", [[], ["no-such-run"]], ids=["latest", "named"])
def test_there_must_be_something_to_resume(run, named: list[str], tmp_path: Path) -> None:
    code, out, err = run("ade20k", "--resume", *named)
    assert (code, out) == (4, "")
    assert err.splitlines()[-1].startswith("error: no run ")


def test_the_latest_run_of_the_task_is_resumed(tmp_path: Path) -> None:
    for name in ("20250101-000000_ade20k_aaaaaa", "20260101-000000_ade20k_bbbbbb", "20270101-000000_other_cccccc"):
        (tmp_path / name).mkdir()
    args = SimpleNamespace(resume="", output_dir=tmp_path)
    assert commands._open_folder(args, "ade20k").name == "20260101-000000_ade20k_bbbbbb"


def test_a_new_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    args = SimpleNamespace(resume=None, output_dir=tmp_path / "runs")
    folders = {commands._open_folder(args, "ade20k") for _ in range(3)}
    assert len(folders) == 3
    assert all(folder.is_dir() and "_ade20k_" in folder.name for folder in folders)


class Failing:
    """A task whose plan goes wrong in one way or another."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def plan(self, *_: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("bad input"), 2, "error: bad input"),
        (FloatingPointError("the loss is nan"), 2, "error: the loss is nan"),
        (FileNotFoundError("not there"), 4, "error: not there"),
        (KeyboardInterrupt(), 130, "interrupted; go on with --resume"),
        (KeyError("ours"), 70, "error: this is a fault of the suite"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_each_kind_of_failure_has_its_exit_code(
    run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    monkeypatch.setattr(commands, "load_task", lambda _: Failing(error))
    found, out, err = run("ade20k")
    assert (found, out) == (code, "")
    assert err.startswith(words)
    assert ("Traceback" in err) is (code == 70)


def test_a_traceback_is_shown_on_request(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "load_task", lambda _: Failing(ValueError("bad input")))
    with pytest.raises(ValueError, match="bad input"):
        run("ade20k", "--traceback")


@pytest.mark.parametrize(
    "assignment",
    [
        "training.lr=[",
        "training.lr=!!python/object:os.system",
        "geometry.test_ratios=['1/0']",
        "geometry.stride_px=200",
        "head.channels=100",
        "head.num_heads=7",
        "adapter.num_heads=7",
        "training.weight_decay=nan",
        "adapter.num_extra_extractors=-1",
        "training.micro_batch_size=3",
    ],
)
def test_an_unreadable_or_impossible_setting_is_one_line_and_exit_code_2(run, assignment: str) -> None:
    code, _, err = run(*DRY, "--set", assignment)
    assert (code, err.count("\n")) == (2, 1)


def test_an_unknown_key_of_a_block_names_the_nearest_of_that_block(run) -> None:
    assert "Did you mean 'lr'?" in run(*DRY, "--set", "training.lrr=3")[2]


@pytest.mark.parametrize("text", ["inf", "nan"])
def test_a_limit_is_finite(text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*DRY, "--limit", text])
    assert caught.value.code == 2


def test_going_on_with_a_task_does_not_pick_a_task_with_a_longer_name(tmp_path: Path) -> None:
    for name in ("20250101-000000_refcoco_aaaaaa", "20260101-000000_refcoco_plus_bbbbbb"):
        (tmp_path / name).mkdir()
    args = cli.build_parser().parse_args(["refcoco", "--resume", "-o", str(tmp_path)])
    assert commands._open_folder(args, "refcoco").name.endswith("aaaaaa")


PLAIN = [name for name in list_tasks() if load_task_config(name).engine == "plain"]


@pytest.mark.parametrize("task", PLAIN)
def test_a_dry_run_of_every_plain_task_tells_its_settings_and_writes_nothing(run, task: str, tmp_path: Path) -> None:
    code, out, err = run(task, "--dry-run")
    assert (code, err) == (0, "")
    config = load_task_config(task)
    assert out.startswith(f"{config.title}, profile mini (")
    for setting in config.profiles["mini"]["settings"]:
        assert f"\n  {setting:<12} {config.dataset.split}" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["esc50", "--setting", "fine-tuned"], "esc50 is judged zero-shot, not fine-tuned"),
        (["esc50", "--split", "test"], "unknown split of esc50 'test'. Known: all."),
        (["esc50", "--tta"], "--tta is nothing that esc50 knows; leave it out"),
        (["esc50", "--set", "settings.zero-shot.prompt=3"], "prompt 3"),
        (["coco", "--set", "settings.fine-tuned.training.micro_batch_size=7"], "no multiple of micro_batch_size 7"),
        (
            ["fsd50k", "esc50", "--set", "settings.fine-tuned.batch_size=4"],
            "unknown key 'fine-tuned'. Known: zero-shot.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_of_a_plain_task_is_one_line(run, arguments: list[str], message: str, tmp_path: Path) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("task", PLAIN)
def test_the_paper_profile_of_a_plain_task_names_all_that_is_missing(run, task: str, tmp_path: Path) -> None:
    code, out, err = run(task, "--profile", "paper")
    missing = [line for line in err.splitlines() if line.startswith("error: missing ")]
    assert (code, out) == (4, "")
    assert {"data", "weights"} <= {line.split()[2].rstrip(":") for line in missing}
    assert not (tmp_path / "runs").exists()


def test_what_is_missing_of_several_tasks_is_named_at_once(run, tmp_path: Path) -> None:
    code, _, err = run("esc50", "fsd50k", "--data-root", tmp_path)
    missing = [line for line in err.splitlines() if line.startswith("error: missing data: no ")]
    assert (code, len(missing)) == (4, 2)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many"])
def test_a_batch_has_a_sample_or_more(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*DRY, "--batch-size", text])
    assert caught.value.code == 2
    assert "no whole number of samples from 1" in capsys.readouterr().err
