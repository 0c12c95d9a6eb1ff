"""A modality is added by one file and a name in a size: the worked example of CONTRIBUTING.md."""

from pathlib import Path

import pytest
import torch

import models.modalities
from models.config import load_config
from models.onepeace import OnePeace, build_model

EXAMPLE = Path(__file__).parent / "example"


@pytest.fixture
def model(monkeypatch) -> OnePeace:
    """The tiny model with a fourth modality, found by its file name."""
    monkeypatch.setattr(models.modalities, "__path__", [*models.modalities.__path__, str(EXAMPLE)])
    config = load_config("tiny")
    added = {**config.modalities, "depth": {"grid_size": 4}}
    return build_model(config.model_copy(update={"modalities": added}), seed=0)


def test_the_example_is_short():
    lines = (EXAMPLE / "depth.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 70


def test_a_new_modality_is_found_by_its_file(model):
    assert "depth" in models.modalities.list_modalities()
    assert tuple(model.adapters) == ("text", "image", "audio", "depth")


def test_a_new_modality_fuses_with_the_others(model):
    inputs = {"text": torch.randint(4, 90, (2, 7)), "depth": torch.randn(2, 1, 64, 64)}
    encoded = model.eval().encode(inputs)
    assert {name: tokens.features.shape for name, tokens in encoded.items()} == {
        "text": (2, 8, 32),
        "depth": (2, 17, 32),
    }
    alone = model.encode({"text": inputs["text"]})["text"].features
    assert not torch.allclose(encoded["text"].features, alone), "the text attends to the depth map"


def test_training_its_own_parameters_leaves_everything_else_bit_equal(model):
    own = model.own_parameters("depth")
    assert any(name.startswith("adapters.depth.") for name in own)
    assert any(".ffn.depth." in name for name in own)
    assert any(name.startswith("encoder.norms.depth.") for name in own)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.requires_grad_(False)
    for parameter in own.values():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(own.values(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        vectors = model.embed({"text": torch.randint(4, 90, (3, 5)), "depth": torch.randn(3, 1, 64, 64)})
        (vectors["text"] * vectors["depth"]).sum().backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert moved <= set(own)
    assert {name.split(".")[0] for name in moved} == {"adapters", "encoder", "projections"}
