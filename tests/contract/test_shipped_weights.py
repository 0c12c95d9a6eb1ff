"""The small weights that come with the project: where they come from, that they load, and what they are worth."""

import pytest
import torch

from miniworld.pretraining import write_pairs
from models import load_model
from models.embedding import WEIGHTS_DIR
from pretrain.config import StageConfig, load_stage
from pretrain.evaluate import evaluate
from pretrain.job import read_origin
from pretrain.ship import MAX_BYTES, refuse_dirty

PATH = WEIGHTS_DIR / "mini.safetensors"
STORED_TO = 0.5  # points: another processor rounds other sums, and a near tie falls the other way


@pytest.fixture(scope="module")
def origin() -> dict:
    return read_origin(PATH)


def test_they_are_small():
    assert PATH.stat().st_size <= MAX_BYTES


def test_their_header_tells_recipe_seed_and_commit_of_both_stages(origin):
    assert origin["stage"] == "stage2"
    assert origin["start"]["stage"] == "stage1"
    refuse_dirty(origin)
    for stage in (origin, origin["start"]):
        assert len(stage["commit"]) == 40
        assert stage["seed"] == 0
        assert stage["steps"] == stage["recipe"]["steps"]


def test_their_recipe_is_the_one_that_is_printed(origin):
    free = {"num_workers", "parallel", "saving", "log_every_steps"}
    for stage in (origin, origin["start"]):
        shipped = load_stage(stage["stage"], "mini").model_dump(mode="json")
        own = {**stage["recipe"], **{key: shipped[key] for key in free}}
        assert StageConfig.parse(own, where="the header").model_dump(mode="json") == shipped  # what is newer: default


def test_they_tell_a_red_house_from_a_blue_boat():
    model = load_model("mini")
    texts = model.embed_text(["a red house", "a blue boat", "a dog barks"])
    assert texts.shape == (3, 128)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3))
    assert float(texts[0] @ texts[1]) < 0.9


@pytest.mark.slow
def test_they_are_worth_what_their_header_says(origin, tmp_path):
    """Judged anew, on the held-out part alone, which does not depend on how much there is to train on."""
    world = write_pairs(tmp_path, num_pictures=1, num_sounds=1, num_workers=1)
    found = {metric.name: metric for metric in evaluate(load_model("mini"), world / "held_out", say=print).metrics}
    assert set(found) == set(origin["metrics"])
    for name, value in origin["metrics"].items():
        assert found[name].value == pytest.approx(value, abs=STORED_TO), name
    assert found["recall_at_1_text_to_image"].n == 1000
    assert found["recall_at_1_text_to_image"].value >= 60
    assert found["accuracy_sound_classes"].value >= 80
    assert found["times_chance_audio_to_image"].value >= 5
