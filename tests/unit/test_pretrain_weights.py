"""A stage's weights come back as they were written, say what they are, and carry other modalities along."""

import re

import pytest
import torch

from models.checkpoint.load import load_branches
from models.cli import main as models_main
from pretrain.config import load_stage
from pretrain.objective import Objective
from pretrain.stages import build_objective, take_over
from pretrain.weights import WEIGHTS_FILE, Weights, collect, find_weights, write

FIRST, SECOND = load_stage("stage1", "tiny"), load_stage("stage2", "tiny")


def build(seed: int = 1) -> Objective:
    return build_objective(FIRST.model_copy(update={"seed": seed}))


@pytest.fixture
def first(tmp_path):
    """A finished run of stage 1, and what it trained."""
    objective, folder = build(), tmp_path / "stage1"
    folder.mkdir()
    write(collect(objective, None), folder, metadata={"format": "pt"})
    return folder, objective


def test_weights_come_back_under_the_objectives_names(first):
    folder, objective = first
    read, state = Weights(folder), objective.state_dict()
    assert len(read) == len(state)
    assert set(read) == set(state)
    assert all(torch.equal(read[name], value) for name, value in state.items())
    again = build(seed=9)
    again.load_state_dict(dict(read))


def test_the_encoder_stands_under_the_models_own_names(first):
    folder, objective = first
    model, report = load_branches(folder / WEIGHTS_FILE, "tiny", ("text", "image"))
    assert not report.missing
    state = objective.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_inspect_names_the_decoder(first, capsys):
    folder, objective = first
    assert models_main(["inspect", str(folder / WEIGHTS_FILE)]) == 0
    told = capsys.readouterr().out
    assert objective.decoder is not None
    count = sum(value.numel() for value in objective.decoder.parameters())
    assert f"{count:,} parameters of the pretraining decoder" in told
    assert re.search(r"^unknown +none$", told, re.MULTILINE)


def test_the_next_stage_carries_what_it_does_not_have(first, tmp_path):
    folder, before = first
    start, objective = Weights(folder), build_objective(SECOND)
    take_over(objective, start, SECOND)
    write(collect(objective, start), tmp_path, metadata={"format": "pt"})
    read = Weights(tmp_path)
    state = before.state_dict()
    carried = [name for name in state if ".image." in f".{name}."]
    assert len(carried) > 20
    assert all(torch.equal(read[name], state[name]) for name in carried)
    assert set(read) == set(state) | set(objective.state_dict())
    model, report = load_branches(tmp_path / WEIGHTS_FILE, "tiny", ("text", "image", "audio"))
    assert list(model.config.modalities) == ["text", "image", "audio"]
    assert not report.missing


def test_weights_without_a_decoder_come_back_too(tmp_path):
    bare = load_stage("stage1", "tiny", assignments=["objective.terms={}"])
    objective = build_objective(bare)
    write(collect(objective, None), tmp_path, metadata={"format": "pt"})
    assert set(Weights(tmp_path)) == set(objective.state_dict())


def test_a_run_that_is_not_finished_has_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no {WEIGHTS_FILE} in .*: that run is not finished"):
        find_weights(tmp_path)
    with pytest.raises(FileNotFoundError):
        Weights(tmp_path / "elsewhere.safetensors")


def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path):
    path = tmp_path / WEIGHTS_FILE
    path.write_text("nothing of the kind")
    with pytest.raises(ValueError, match=r".") as error:
        Weights(path)
    assert "\n" not in str(error.value)
