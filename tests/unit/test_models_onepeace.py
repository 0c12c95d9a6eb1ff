"""Models are built from a seed alone, and modalities are found by name."""

import math

import pytest
import torch
from torch import nn

from models.config import load_config
from models.heads import ImageClassifier, ImageHeadConfig
from models.modalities import list_modalities, load_modality
from models.onepeace import build_model, initialise

TINY = load_config("tiny")


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = build_model(TINY, seed=3).state_dict()
    torch.manual_seed(6)
    second = build_model(TINY, seed=3).state_dict()
    third = build_model(TINY, seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder.layers.0.attn.q_proj.weight"], third["encoder.layers.0.attn.q_proj.weight"])


def test_building_leaves_the_callers_random_state() -> None:
    before = torch.get_rng_state()
    build_model(TINY, seed=3)
    assert torch.equal(before, torch.get_rng_state())


def test_linear_maps_start_normal_and_biases_at_zero() -> None:
    linear, embedding = nn.Linear(300, 200), nn.Embedding(500, 40, padding_idx=1)
    initialise(linear)
    initialise(embedding)
    assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not linear.bias.any()
    assert not embedding.weight[1].any()


def test_the_logit_scale_starts_at_the_published_temperature() -> None:
    assert build_model(TINY, seed=0).logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_without_projection_there_is_neither_projection_nor_scale() -> None:
    names = build_model(TINY.branch("image", has_projection=False), seed=0).state_dict()
    assert not [name for name in names if name.startswith(("projections", "logit_scale"))]


def test_modalities_embed_for_themselves() -> None:
    model = build_model(TINY, seed=0).eval()
    text, image = torch.randint(4, 96, (2, 5)), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        both = model.embed({"text": text, "image": image})
        assert torch.equal(both["text"], model.embed({"text": text})["text"])
        assert torch.equal(both["image"], model.embed({"image": image})["image"])


def test_fusing_lets_modalities_see_each_other() -> None:
    model = build_model(TINY, seed=0).eval()
    text, image = torch.randint(4, 96, (2, 5)), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        alone = model.encode({"text": text})["text"].features
        fused = model.encode({"text": text, "image": image})["text"].features
    assert not torch.allclose(alone, fused, atol=1e-4)


def test_modalities_are_found_by_file_name() -> None:
    assert set(list_modalities()) >= {"audio", "image", "text"}
    assert [load_modality(name).name for name in list_modalities()] == list(list_modalities())


@pytest.mark.parametrize("name", ["texts", "base", ""])
def test_an_unknown_modality_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown modality '{name}'"):
        load_modality(name)


@pytest.mark.parametrize(("pooling", "has_final_norm"), [("mean", False), ("cls", True)])
def test_the_classifier_pools_patches_or_takes_the_class(pooling: str, has_final_norm: bool) -> None:
    model = build_model(TINY.branch("image", has_final_norm=has_final_norm), seed=0)
    classifier = ImageClassifier(model, ImageHeadConfig(num_classes=7, pooling=pooling)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.encode({"image": images})["image"].features
        pooled = features[:, 1:].mean(1) if pooling == "mean" else features[:, 0]
        logits = classifier({"image": images})
        torch.testing.assert_close(logits, classifier.head(classifier.fc_norm(pooled)))
    assert logits.shape == (2, 7)
