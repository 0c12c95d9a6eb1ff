"""A modality that is added by one file is aligned with text by stage 3, and everything else stays bit-equal."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import models.config
import models.modalities
from models.config import CONFIG_DIR
from models.embedding import find_tokenizer
from models.sharding import spread
from models.world import World
from pretrain.config import load_stage
from pretrain.stages import build_objective, freeze, take_over
from pretrain.trainer import Trainer
from pretrain.weights import WEIGHTS_FILE, Weights, collect, write

EXAMPLE = Path(__file__).parent / "example"
WORDS = ("near", "far", "a slope", "a wall")
SOURCE = '[{kind: shards, path: "%s", fields: {text: txt, depth: npy}}]'
QUICK = ("steps=3", "batch.batch_size=4", "batch.micro_batch_size=4", "saving.every_steps=3")


@pytest.fixture
def with_depth(monkeypatch, tmp_path) -> None:
    """The tiny size with a fourth modality."""
    sizes = tmp_path / "configs"
    shutil.copytree(CONFIG_DIR, sizes)
    values = yaml.safe_load((sizes / "tiny.yaml").read_text(encoding="utf-8"))
    values["modalities"]["depth"] = {"grid_size": 4}
    (sizes / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    monkeypatch.setattr(models.config, "CONFIG_DIR", sizes)
    monkeypatch.setattr(models.modalities, "__path__", [*models.modalities.__path__, str(EXAMPLE)])


@pytest.fixture
def shard(tmp_path) -> Path:
    """Depth maps with a word each."""
    rng, path = np.random.default_rng(0), tmp_path / "depth-000000.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(12):
            depth = io.BytesIO()
            np.save(depth, rng.standard_normal((1, 64, 64)).astype(np.float32))
            for suffix, content in (("npy", depth.getvalue()), ("txt", WORDS[number % 4].encode())):
                info = tarfile.TarInfo(f"{number:03d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    (tmp_path / "sizes.json").write_text(json.dumps({path.name: 12}), encoding="utf-8")
    return path


def test_stage_three_trains_a_new_modality_and_nothing_else(with_depth, shard, tmp_path):
    tokenizer, world = find_tokenizer(2048), World(0, 1, torch.device("cpu"))
    before = build_objective(load_stage("stage1", "tiny"))
    stage_two = build_objective(load_stage("stage2", "tiny"))
    path = write(collect(before, collect_named(stage_two)), tmp_path, metadata={})
    assert path.name == WEIGHTS_FILE

    assignments = (*QUICK, f"data.sources={SOURCE % shard}")
    config = load_stage("stage3", "tiny", modality="depth", assignments=assignments)
    objective = build_objective(config)
    take_over(objective, Weights(path), config)
    freeze(objective, config.trained)
    spread(objective, objective.encoders, config=config.parallel, world=world)
    start = {name: value.clone() for name, value in objective.state_dict().items()}
    trainer = Trainer(objective, config, world=world, folder=tmp_path / "run", tokenizer=tokenizer, say=print)
    outcome = trainer.run(None)

    assert outcome.is_complete
    assert outcome.counts["kept"] == 12
    moved = {name for name, value in objective.state_dict().items() if not torch.equal(value, start[name])}
    assert any(name.startswith("model.adapters.depth.") for name in moved)
    assert any(".ffn.depth." in name for name in moved if name.startswith("model."))
    assert {name for name in moved if name.startswith("model.")} <= {
        *(f"model.{name}" for name in objective.model.own_parameters("depth")),
        "model.logit_scale",
    }


def collect_named(objective):
    """The state under an objective's own names, as the weights to carry along."""
    return objective.state_dict()


def test_stage_three_wants_a_modality():
    with pytest.raises(ValueError, match="expected --modality NAME"):
        load_stage("stage3", "tiny")
    with pytest.raises(ValueError, match="takes no --modality"):
        load_stage("stage1", "tiny", modality="depth")
