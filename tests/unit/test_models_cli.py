"""The command line of the model: inspect, convert, verify; exit codes and one-line errors."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from models.checkpoint import convert as conversion
from models.checkpoint.load import load_branches
from models.checkpoint.names import published_name
from models.cli import main
from models.config import load_config
from models.onepeace import OnePeace, build_model


@pytest.fixture(scope="module")
def model() -> OnePeace:
    return build_model(load_config("tiny"), seed=3)


@pytest.fixture
def released(tmp_path: Path, model: OnePeace) -> Path:
    state = {str(published_name(name)): value for name, value in model.state_dict().items()}
    state["image_mask_token"] = torch.zeros(1, 8)
    state["encoder_wrapper.text_adapter.rp_bucket"] = torch.zeros(3, 3, dtype=torch.int64)
    torch.save({"model": state, "cfg": {"task": {"name": "pretrain"}}}, tmp_path / "one-peace.pt")
    return tmp_path / "one-peace.pt"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_inspect_says_what_a_file_is(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", released) == 0
    shown = capsys.readouterr()
    assert "fairseq, pretrained" in shown.out
    assert "audio" in shown.out
    assert shown.err == ""


def test_inspect_gives_json(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", released, "--json") == 0
    read = json.loads(capsys.readouterr().out)
    assert read["config"] == {"task": {"name": "pretrain"}}
    assert read["sizes"]["num_layers"] == 4


def test_convert_writes_our_names_and_their_provenance(released: Path, tmp_path: Path, model: OnePeace) -> None:
    out = tmp_path / "branch.safetensors"
    assert run("convert", released, out, "--branches", "image,text") == 0
    state, stored = load_file(out), model.state_dict()
    expected = {name for name in stored if "audio" not in name}
    assert set(state) == expected
    assert all(torch.equal(state[name], stored[name]) for name in expected)
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["source"] == "one-peace.pt"
    assert metadata["source_sha256"] == hashlib.sha256(released.read_bytes()).hexdigest()
    assert metadata["branches"] == "text,image"
    assert metadata["dtype"] == "as stored"
    assert metadata["made_by"].startswith("one-peace-suite ")
    assert json.loads(metadata["sizes"])["embed_dim"] == 32
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["branch.safetensors", "one-peace.pt"]


def test_a_converted_file_loads_inspects_and_converts_again(
    released: Path, tmp_path: Path, model: OnePeace, capsys: pytest.CaptureFixture[str]
) -> None:
    once, twice = tmp_path / "once.safetensors", tmp_path / "twice.safetensors"
    assert run("convert", released, once, "--branches", "image,audio") == 0
    assert run("convert", once, twice, "--branches", "image") == 0
    loaded, report = load_branches(twice, "tiny", ("image",))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert report.left_out == ()
    assert run("inspect", twice) == 0
    assert "ours" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "dtype"), [("bf16", torch.bfloat16), ("half", torch.float16), ("fp32", torch.float32)]
)
def test_convert_changes_the_type_of_floats(
    released: Path, tmp_path: Path, model: OnePeace, name: str, dtype: torch.dtype
) -> None:
    out = tmp_path / "x.safetensors"
    assert run("convert", released, out, "--branches", "audio", "--dtype", name) == 0
    stored = model.state_dict()
    for key, value in load_file(out).items():
        assert value.dtype == dtype
        assert torch.equal(value, stored[key].to(dtype))


def test_converting_twice_gives_the_same_bytes(released: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("convert", released, tmp_path / f"{name}.safetensors", "--branches", "image") == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_convert_takes_a_classifiers_head_along_when_asked(released: Path, tmp_path: Path) -> None:
    content = torch.load(released, weights_only=True)
    content["model"]["classify_head.classifier.3.weight"] = torch.ones(5, 64)
    torch.save(content, released)
    assert run("convert", released, tmp_path / "without.safetensors", "--branches", "text") == 0
    assert run("convert", released, tmp_path / "with.safetensors", "--branches", "text", "--with-head") == 0
    assert set(load_file(tmp_path / "with.safetensors")) - set(load_file(tmp_path / "without.safetensors")) == {
        "head.classifier.3.weight"
    }
    _, report = load_branches(tmp_path / "with.safetensors", "tiny", ("text",))
    assert [part.reason for part in report.left_out] == ["task head"]


def test_convert_tells_what_it_leaves_out(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("convert", released, tmp_path / "x.safetensors", "--branches", "image") == 0
    told = capsys.readouterr().err
    assert "1 names, pretraining decoder" in told
    assert "other branches" in told


def failed(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert run(*arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


def test_an_existing_file_is_kept_unless_told_otherwise(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.safetensors"
    out.write_bytes(b"precious")
    assert "--overwrite" in failed(capsys, 2, "convert", released, out, "--branches", "image")
    assert out.read_bytes() == b"precious"
    assert run("convert", released, out, "--branches", "image", "--overwrite") == 0
    assert load_file(out)


def test_a_conversion_that_fails_leaves_the_old_file_and_nothing_else(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.safetensors"
    out.write_bytes(b"precious")

    def fail(*_: object) -> memoryview:
        raise OSError(28, "No space left on device", str(out))

    monkeypatch.setattr(conversion, "_bytes_of", fail)
    assert "no space left" in failed(capsys, 2, "convert", released, out, "--branches", "image", "--overwrite")
    assert out.read_bytes() == b"precious"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one-peace.pt", "x.safetensors"]


def test_the_source_is_never_overwritten(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = tmp_path / "x.safetensors"
    assert run("convert", released, once, "--branches", "image") == 0
    capsys.readouterr()
    failed(capsys, 2, "convert", once, once, "--branches", "image", "--overwrite")
    (tmp_path / "link.safetensors").symlink_to(once)
    failed(capsys, 2, "convert", once, tmp_path / "link.safetensors", "--branches", "image", "--overwrite")


WRONG = {
    "unknown branch": (("--branches", "smell"), "x.safetensors", "has no branch 'smell'"),
    "unknown dtype": (("--branches", "image", "--dtype", "fp8"), "x.safetensors", "unknown dtype 'fp8'"),
    "another suffix": (("--branches", "image"), "x.pt", "ends in .safetensors"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_are_usage_errors(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    arguments, out, message = WRONG[case]
    assert message in failed(capsys, 2, "convert", released, tmp_path / out, *arguments)
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("branches", ["", ",", " "])
def test_no_branch_is_a_usage_error(released: Path, tmp_path: Path, branches: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run("convert", released, tmp_path / "x.safetensors", "--branches", branches)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.pop("encoder_wrapper.fusion_model.layers.1.gamma_1"), "layer 1 differs"),
        (lambda state: state.update({"encoder_wrapper.new": torch.zeros(1)}), "1 names that nothing here knows"),
    ],
    ids=["a hole", "an unknown name"],
)
def test_a_source_that_is_not_whole_is_not_converted(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: object, message: str
) -> None:
    content = torch.load(released, weights_only=True)
    damage(content["model"])
    torch.save(content, released)
    assert message in failed(capsys, 2, "convert", released, tmp_path / "x.safetensors", "--branches", "image")
    assert not (tmp_path / "x.safetensors").exists()


def test_what_is_missing_exits_with_4(released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent.pt"
    failed(capsys, 4, "inspect", absent)
    failed(capsys, 4, "verify", absent, "--sha256", "0" * 64)
    failed(capsys, 4, "convert", absent, tmp_path / "x.safetensors", "--branches", "image")
    failed(capsys, 4, "convert", released, tmp_path / "no" / "x.safetensors", "--branches", "image")


def test_verify_compares_the_hash(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = hashlib.sha256(released.read_bytes()).hexdigest()
    assert run("verify", released, "--sha256", right.upper()) == 0
    assert "as expected" in capsys.readouterr().out
    message = failed(capsys, 2, "verify", released, "--sha256", "0" * 64)
    assert right in message
    assert "no SHA-256" in failed(capsys, 2, "verify", released, "--sha256", "abc")


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("place", ["model", "cfg", "extra_state"])
@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_payload_gives_one_line_and_never_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, command: str
) -> None:
    path, marker = tmp_path / "evil.pt", tmp_path / "ran"
    content = {"model": {"w": torch.zeros(2)}, "cfg": {}, "extra_state": {}}
    content[place]["x"] = Payload(marker)
    path.write_bytes(pickle.dumps(content))
    more = () if command == "inspect" else (tmp_path / "x.safetensors", "--branches", "image")
    assert ".system, which is not data" in failed(capsys, 2, command, path, *more)
    assert not marker.exists()


@pytest.mark.parametrize("before", [True, False])
def test_traceback_shows_where_an_error_comes_from(tmp_path: Path, before: bool) -> None:
    arguments = ["--traceback", "inspect", tmp_path / "x"] if before else ["inspect", tmp_path / "x", "--traceback"]
    with pytest.raises(FileNotFoundError):
        run(*arguments)


def test_a_fault_of_ours_has_its_own_exit_code(
    released: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("models.checkpoint.describe.describe", fail)
    assert run("inspect", released) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "--help"], ["convert", "--help"]], ids=" ".join)
def test_help_does_not_wait_for_torch(root: Path, arguments: list[str]) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['models/run.py', *{arguments!r}]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, stdout=subprocess.DEVNULL)


def test_it_starts_from_anywhere(released: Path, tmp_path: Path, root: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(root / "models" / "run.py"), "inspect", "one-peace.pt"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "fairseq, pretrained" in done.stdout
    assert done.stderr == ""


def test_embed_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20, 30), "red").save(tmp_path / "red.png")
    out = tmp_path / "out.safetensors"
    arguments = ["embed", "--model", "mini", "--seed", "0", "--text", "a bird", "rain", "--image", str(tmp_path)]
    assert main([*arguments, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 2 text, 1 image\n"
    assert load_file(out)["text"].shape == (2, 128)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--model", "mini", "--seed", "0"], 2),
        (["--model", "mini", "--seed", "0", "--text", "a", "--hop", "1"], 2),
        (["--model", "tiny", "--text", "a"], 4),
        (["--model", "mini", "--seed", "0", "--image", "nowhere"], 4),
        (["--model", "mini", "--seed", "0", "--text", "a", "--dtype", "fp31"], 2),
    ],
)
def test_what_cannot_be_embedded_is_one_line(
    arguments: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", *arguments, "-o", str(tmp_path / "out.safetensors")]) == code
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())
