"""The command line answers with one line and an exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from miniworld.benchmarks import WRITERS
from miniworld.cli import BENCHMARKS, LAYOUTS, main
from miniworld.writing import LAYOUT_WRITERS

RUN_FILE = Path(__file__).resolve().parents[2] / "miniworld" / "run.py"
SMALL = ["--training", "2", "--validation", "1", "--size", "64x48"]


def _run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(RUN_FILE), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_path_goes_to_stdout_and_the_log_to_stderr(tmp_path: Path) -> None:
    done = _run("out", *SMALL, cwd=tmp_path)
    written = Path("out") / "ADEChallengeData2016"
    assert (done.returncode, done.stdout) == (0, f"{written}\n")
    assert done.stderr == f"wrote {written}\n"
    assert (tmp_path / written / "miniworld.json").is_file()


def test_a_user_error_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "ADEChallengeData2016").mkdir()
    (tmp_path / "ADEChallengeData2016" / "mine.txt").write_text("precious")
    done = _run(str(tmp_path), *SMALL, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "OUT"),
        (["out", "--size", "64"], "'64' is no size"),
        (["out", "--layout", "ade2k"], "ade2k"),
        (["out", "--trainings"], "--trainings"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    stderr = capsys.readouterr().err
    assert caught.value.code == 2
    assert stderr.startswith("error: ")
    assert message in stderr
    assert stderr.count("\n") == 1


def test_a_wrong_number_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--seed", "-3"]) == 2
    assert "seed is -3" in capsys.readouterr().err


def test_a_missing_preview_folder_is_exit_code_4_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out"), *SMALL, "--preview", str(tmp_path / "no" / "sheet.png")]) == 4
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_preview_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out"), *SMALL, "--preview", str(tmp_path / "sheet.tiff")]) == 2
    assert "no .png file" in capsys.readouterr().err


def test_the_traceback_is_shown_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--seed", "-3", "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_preview_is_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert main([str(tmp_path / "out"), *SMALL, "--preview", str(sheet)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'ADEChallengeData2016'}\n"
    with Image.open(sheet) as image:
        assert image.mode == "RGB"
        assert image.width > 2 * 2 * 256


def test_help_answers_from_any_folder(tmp_path: Path) -> None:
    done = _run("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--preview" in done.stdout


def test_the_package_needs_neither_torch_nor_openmmlab() -> None:
    code = "import sys, miniworld.writing; print({'torch', 'mmengine', 'mmcv', 'mmseg', 'mlflow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=RUN_FILE.parents[1], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "set()\n"


def test_pairs_are_written_in_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--pictures", "3", "--sounds", "2", "--held-out", "1", "--clips", "5", "--side", "48", "--shard", "2"]
    assert main([str(tmp_path), "--layout", "pairs", *numbers, "--workers", "1"]) == 0
    written = tmp_path / "miniworld-pairs"
    assert capsys.readouterr().out == f"{written}\n"
    assert sorted(path.name for path in written.glob("*.tar")) == [
        "pictures-000000.tar",
        "pictures-000001.tar",
        "sounds-000000.tar",
    ]


def test_pairs_are_written_as_plain_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--layout", "pair-tables", "--pictures", "2", "--sounds", "1", "--side", "48"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'miniworld-pair-tables'}\n"
    assert len(list((tmp_path / "miniworld-pair-tables" / "images").iterdir())) == 2


@pytest.mark.parametrize("layout", ["coco", "flickr30k", "audiocaps", "refcocog", "imagenet"])
def test_a_benchmark_is_written_at_any_scale(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--layout", layout, "--scale", "0.01", "--seed", "2"]) == 0
    written = WRITERS[layout](tmp_path, scale=0.01, seed=2)
    assert capsys.readouterr().out == f"{written}\n"


def test_every_benchmark_is_a_layout(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(WRITERS) == list(BENCHMARKS)
    assert list(LAYOUT_WRITERS) == list(LAYOUTS)
    assert main(["out", "--layout", "avqa", "--scale", "0"]) == 2
    assert "scale is 0.0; expected a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layout", "option", "value"),
    [
        ("pairs", "--training", "4"),
        ("ade20k", "--sounds", "4"),
        ("pairs", "--size", "64x64"),
        ("pairs", "--scale", "0.5"),
        ("esc50", "--clips", "5"),
    ],
)
def test_an_option_of_another_layout_is_refused_and_not_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str, option: str, value: str
) -> None:
    assert main([str(tmp_path / "out"), "--layout", layout, option, value]) == 2
    stderr = capsys.readouterr().err
    assert f"{option} does not belong to the layout '{layout}'; it takes: --" in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_names_the_numbers_that_are_taken_if_none_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for option, metavar in (("training", "N"), ("pictures", "N"), ("held-out", "N"), ("side", "PX"), ("scale", "X")):
        line = next(line for line in said.splitlines() if line.strip().startswith(f"--{option} {metavar} "))
        defaults = [layout.get(option.replace("-", "_")) for layout in LAYOUTS.values()]
        assert all(str(default) in line for default in defaults if default is not None)
