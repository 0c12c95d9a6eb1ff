"""Every size builds, runs and counts what its settings say."""

import pytest
import torch

from downstream.config import list_tasks, load_task_config
from downstream.engines.settings import SegmentationProfile
from downstream.engines.size import measure
from models.config import list_sizes, load_config
from models.modalities import list_modalities
from models.modalities.audio import Waveforms, count_frames
from models.onepeace import OnePeace, build_model

VISION_BRANCH_4B = 1_514_572_128


def example_inputs(model: OnePeace, batch: int) -> dict:
    options = model.config.modalities
    side = options["image"]["bias_grid_size"] * 16
    frames = count_frames(8000, options["audio"]["extractor"])
    return {
        "text": torch.randint(4, options["text"]["vocabulary_size"], (batch, 6)),
        "image": torch.randn(batch, 3, side, side),
        "audio": Waveforms(torch.randn(batch, 8000), torch.zeros(batch, frames + 1, dtype=torch.bool)),
    }


@pytest.mark.parametrize("size", list_sizes())
def test_every_size_builds_all_its_modalities(size):
    config = load_config(size)
    with torch.device("meta"):
        model = OnePeace(config)
    assert tuple(model.adapters) == tuple(config.modalities)
    assert set(config.modalities) <= set(list_modalities())


@pytest.mark.parametrize("size", ["mini", "tiny"])
@pytest.mark.parametrize(
    "names", [["text"], ["image"], ["audio"], ["text", "image"], ["image", "audio"], ["text", "image", "audio"]]
)
def test_every_subset_of_modalities_is_one_sequence(size, names):
    model = build_model(load_config(size), seed=0).eval()
    inputs = example_inputs(model, 2)
    with torch.no_grad():
        encoded = model.encode({name: inputs[name] for name in names})
    assert list(encoded) == names
    for tokens in encoded.values():
        assert tokens.features.shape[0] == 2
        assert tokens.features.shape[2] == model.config.embed_dim
        assert tokens.features.isfinite().all()


def test_embeddings_are_unit_vectors():
    model = build_model(load_config("tiny"), seed=0).eval()
    with torch.no_grad():
        embedded = model.embed(example_inputs(model, 3))
    for vectors in embedded.values():
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_the_vision_branch_of_the_paper_counts_exactly():
    with torch.device("meta"):
        model = OnePeace(load_config("4b").branch("image", has_projection=False))
    assert sum(parameter.numel() for parameter in model.parameters()) == VISION_BRANCH_4B


@pytest.mark.parametrize("profile_name", ["paper", "mini"])
def test_counts_without_torch_equal_the_built_segmentor(profile_name):
    from downstream.engines.openmmlab.model import MODELS, segmentor_config

    config = load_task_config("ade20k")
    profile = SegmentationProfile.parse(config.profiles[profile_name], where="test")
    size = measure(profile, num_classes=config.dataset.num_classes)
    with torch.device("meta"):
        segmentor = MODELS.build(segmentor_config(profile, num_classes=150))

    def count(module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert size.backbone == count(segmentor.backbone.model)
    assert size.adapter == count(segmentor.backbone) - size.backbone
    assert size.head == count(segmentor.decode_head)
    if profile_name == "paper":
        assert size.branch == VISION_BRANCH_4B


@pytest.mark.parametrize("task", list_tasks())
@pytest.mark.parametrize("profile_name", ["paper", "mini"])
def test_every_task_has_both_profiles(task, profile_name):
    assert profile_name in load_task_config(task).profiles
