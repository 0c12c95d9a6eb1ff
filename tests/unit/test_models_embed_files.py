import json

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors import safe_open

from models import load_model
from models.embed_files import Windows, embed_files, list_files
from models.embedding import Embedder


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_model("mini", seed=0)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 30 + number, 3), dtype=np.uint8)).save(tmp_path / f"p{number}.png")
    soundfile.write(tmp_path / "long.wav", rng.standard_normal(40_000) * 0.1, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", rng.standard_normal(8_000) * 0.1, 16_000, subtype="FLOAT")
    return tmp_path


def read(path) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, safe_open is no mapping
        return tensors, json.loads(file.metadata()["ids"])


def run(embedder, files, out, progress=lambda *_: None, **options) -> dict[str, int]:
    sources = {
        "text": ["a bird", "rain"],
        "image": list_files(files, "image"),
        "audio": list_files(files, "audio"),
    }
    return embed_files(embedder, sources, out, model_name="mini, seed 0", progress=progress, **options)


def test_rows_are_the_vectors_of_what_their_ids_say(embedder, files):
    out = files / "out.safetensors"
    assert run(embedder, files, out) == {"text": 2, "image": 3, "audio": 2}
    tensors, ids = read(out)
    assert ids["text"] == ["a bird", "rain"]
    torch.testing.assert_close(tensors["text"], embedder.embed_text(ids["text"]), rtol=0, atol=1e-6)
    torch.testing.assert_close(tensors["image"], embedder.embed_image(ids["image"]), rtol=0, atol=1e-6)
    assert not list(files.glob(".out*")), "nothing is left beside the file"


def test_windows_cover_a_sound_to_its_end(embedder, files):
    out = files / "out.safetensors"
    run(embedder, files, out, windows=Windows(length_s=1.0, hop_s=0.5))
    labels = [label.rpartition("#t=")[2] for label in read(out)[1]["audio"]]
    assert labels == ["0,1", "0.5,1.5", "1,2", "1.5,2.5", "0,0.5"]


def test_an_interrupted_run_goes_on_and_embeds_nothing_twice(embedder, files, monkeypatch):
    monkeypatch.setattr("models.embed_files.PIECE", 2)
    whole, out = files / "whole.safetensors", files / "out.safetensors"
    run(embedder, files, whole)

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(embedder, files, out, progress=stop)
    assert not out.exists()
    calls = []
    monkeypatch.setattr(embedder, "embed_text", lambda *a, **k: calls.append(a))
    run(embedder, files, out)
    assert not calls
    assert read(out)[1] == read(whole)[1]
    for name, tensor in read(whole)[0].items():
        torch.testing.assert_close(read(out)[0][name], tensor, rtol=0, atol=1e-6)


def test_a_folder_without_files_is_said_in_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no audio files"):
        list_files(tmp_path, "audio")
