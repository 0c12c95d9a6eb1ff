"""Checkpoint files are opened without executing anything in them."""

import hashlib
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor

from models.checkpoint.reader import file_sha256, read_state

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.arange(4)}


class Payload:
    """What a hostile file asks the unpickler to do."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


def assert_same(read: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match="checkpoint ") as caught:
        read_state(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_torch_files_are_read_with_and_without_their_wrapper(tmp_path: Path, wrapper: str | None, is_zip: bool) -> None:
    path = tmp_path / "weights.pth"
    content = STATE if wrapper is None else {wrapper: STATE, "epoch": 3, "note": "x"}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert_same(read_state(path), STATE)


def test_safetensors_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(STATE, path, metadata={"made": "here"})
    assert_same(read_state(path), STATE)


def test_numbers_and_strings_among_the_tensors_are_left_out(tmp_path: Path) -> None:
    torch.save({"model": {**STATE, "version": 3.0, "name": "x"}}, tmp_path / "weights.pt")
    assert_same(read_state(tmp_path / "weights.pt"), STATE)


def test_reading_keeps_the_type_of_half_precision_weights(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "weights.pt")
    assert read_state(tmp_path / "weights.pt")["w"].dtype == torch.bfloat16


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".safetensors"])
def test_a_plain_pickle_with_a_payload_is_refused_and_does_not_run(tmp_path: Path, suffix: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / f"evil{suffix}"
    path.write_bytes(pickle.dumps({"model": {"w": Payload(marker)}}, protocol=2))
    refused(path)
    assert not marker.exists()


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_torch_file_with_a_payload_is_refused_and_does_not_run(tmp_path: Path, is_zip: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"model": {**STATE, "x": Payload(marker)}}, path, _use_new_zipfile_serialization=is_zip)
    refused(path)
    assert not marker.exists()


def test_the_payload_would_run_if_it_were_let(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


def test_a_payload_hidden_in_a_zip_beside_tensors_does_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    torch.save(STATE, path)
    with zipfile.ZipFile(path) as source:
        names = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name, data in names.items():
            target.writestr(name, pickle.dumps(Payload(marker), protocol=2) if name.endswith("data.pkl") else data)
    refused(path)
    assert not marker.exists()


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=80))
def test_random_bytes_are_no_safetensors_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "weights.safetensors"
    path.write_bytes(content)
    refused(path)


def test_noise_of_the_length_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"\xff" + random.Random(0).randbytes(5000))
    refused(path)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_half_transferred_zip_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    folder = tmp_path_factory.mktemp("half")
    torch.save(STATE, folder / "whole.pth")
    whole = (folder / "whole.pth").read_bytes()
    (folder / "weights.pth").write_bytes(whole[: int(share * len(whole))])
    refused(folder / "weights.pth")


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_half_transferred_safetensors_file_is_refused(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    whole, path = save(STATE), tmp_path_factory.mktemp("half") / "weights.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.touch()
    refused(path)


@pytest.mark.parametrize(
    "content", [{}, [1, 2], {"model": {}}, {"model": {"a": 1}}, {"epoch": 3}, 7, STATE["b"]], ids=str
)
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    assert "holds no tensors by name" in refused(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors", "."])
def test_a_missing_file_is_no_damaged_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; give the path of a file"):
        read_state(tmp_path / name)


def test_a_file_is_hashed_as_every_other_tool_does(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(300_000)
    (tmp_path / "x").write_bytes(content)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()
