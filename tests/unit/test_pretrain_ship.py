"""Only weights that say where they come from, from committed code, become the ones that are shipped."""

import json

import pytest
import torch
from safetensors import safe_open

from pretrain import ship as ship_module
from pretrain.config import load_stage
from pretrain.evaluate import Evaluation
from pretrain.job import EVALUATION_FILE, METADATA_KEY, read_origin
from pretrain.ship import ship
from pretrain.stages import build_objective
from pretrain.weights import collect, write
from reports.record import MetricValue

ORIGIN = {"stage": "stage1", "size": "tiny", "seed": 0, "commit": "a" * 40, "start": None}
EVALUATION = Evaluation(metrics=(MetricValue(name="recall", value=61.5, n=4),), chance={}, notes=())


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of the tiny size."""
    monkeypatch.setattr(ship_module, "WEIGHTS_DIR", tmp_path / "models" / "weights")
    (tmp_path / "models").mkdir()
    folder = tmp_path / "run"
    folder.mkdir()
    finish(folder, ORIGIN)
    (folder / EVALUATION_FILE).write_text(EVALUATION.to_json(), encoding="utf-8")
    return folder


def finish(folder, origin) -> None:
    state = collect(build_objective(load_stage("stage1", "tiny")), None)
    metadata = {} if origin is None else {"format": "pt", METADATA_KEY: json.dumps(origin)}
    write(state, folder, metadata=metadata)


def test_the_encoder_is_shipped_with_its_origin_and_metrics(run, tmp_path):
    line = ship(run)
    path = tmp_path / "models" / "weights" / "tiny.safetensors"
    assert "models/weights/tiny.safetensors" in line
    origin = read_origin(path)
    assert origin == {**ORIGIN, "metrics": {"recall": 61.5}}
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        scale = file.get_tensor("logit_scale")
    assert names == set(build_objective(load_stage("stage1", "tiny")).model.state_dict())
    assert torch.isfinite(scale)


@pytest.mark.parametrize("commit", ["unknown", "b" * 40 + "-dirty"])
def test_code_that_is_not_in_the_history_ships_nothing(run, commit):
    finish(run, {**ORIGIN, "stage": "stage2", "start": {**ORIGIN, "commit": commit}})
    with pytest.raises(ValueError, match="commit first"):
        ship(run)
    assert not list((run.parent / "models").rglob("*.safetensors"))


def test_weights_of_unknown_origin_are_refused(run):
    finish(run, None)
    with pytest.raises(ValueError, match="does not say where it comes from"):
        ship(run)


def test_a_run_that_was_not_judged_is_refused(run):
    (run / EVALUATION_FILE).unlink()
    with pytest.raises(FileNotFoundError, match="no evaluation"):
        ship(run)


def test_a_size_that_is_too_large_is_refused(run, monkeypatch):
    monkeypatch.setattr(ship_module, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="expected at most 1000"):
        ship(run)
