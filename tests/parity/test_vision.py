"""Groups 12 and 13: the vision release, the segmentation backbone, the ViT-Adapter, and the full size."""

import json
import math

import pytest
import torch
from torch import nn

from downstream.engines.settings import AdapterSettings
from downstream.engines.vit_adapter import ViTAdapter, rename_adapter_state
from models.checkpoint.load import load_state
from models.checkpoint.names import is_derived, our_name, published_name, rename_state
from models.config import ModelConfig, load_config
from models.heads import ImageClassifier, ImageHeadConfig
from models.onepeace import OnePeace

pytestmark = pytest.mark.golden

PRECISIONS = (torch.float32, torch.float64)


def vision_model(config: dict, *, has_per_layer_bias: bool, has_final_norm: bool = False) -> OnePeace:
    grid = config["bucket_size"]
    return OnePeace(
        ModelConfig(
            name="golden",
            embed_dim=config["embed_dim"],
            ffn_dim=config["ffn_embed_dim"],
            num_layers=config["layers"],
            num_heads=config["attention_heads"],
            modalities={"image": {"grid_size": grid, "bias_grid_size": grid}},
            has_per_layer_bias=has_per_layer_bias,
            has_final_norm=has_final_norm,
            has_projection=False,
        )
    )


@pytest.fixture
def source_state(find_cases):
    (case,) = find_cases("12a")
    return case.tensors("source_state_used_keys")


def test_vision_release_names_and_fairseq_names_mean_the_same_parameters(find_cases):
    (case,) = find_cases("12a")
    pairs = [pair for pair in case.manifest["name_pairs"] if not is_derived(pair[0])]
    assert len(pairs) > 70
    for fairseq, vision in pairs:
        assert our_name(fairseq) == our_name(vision) is not None


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("prefix", ["12b", "12c"])
def test_segmentation_backbone(find_cases, source_state, prefix, dtype):
    for case in find_cases(prefix):
        model = vision_model(case.manifest["config"], has_per_layer_bias=True)
        report = load_state(model, rename_state(source_state))
        assert not report.missing
        assert not report.unexpected
        model.to(dtype).eval()
        with torch.no_grad():
            features = model.encode({"image": case.input("src_images").to(dtype)})["image"].features
        case.check("features_LBC", features.transpose(0, 1))


def test_larger_buckets_resize_positions_and_tables_as_published(find_cases, source_state):
    for case in find_cases("12c"):
        model = vision_model(case.manifest["config"], has_per_layer_bias=True)
        load_state(model, rename_state(source_state))
        ours = model.state_dict()
        for name, stored in rename_state(case.tensors("changed_after_load")).items():
            torch.testing.assert_close(ours[name], stored, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("prefix", ["12d", "12e", "12f"])
def test_imagenet_classifier(find_cases, source_state, prefix, dtype):
    for case in find_cases(prefix):
        config = case.manifest["config"]
        is_pooled = config["global_pool"]
        classifier = ImageClassifier(
            vision_model(config, has_per_layer_bias=False, has_final_norm=not is_pooled),
            ImageHeadConfig(num_classes=config["num_classes"], pooling="mean" if is_pooled else "cls"),
        )
        own = {name: value for name, value in case.tensors("own_state").items() if "adapter" not in name}
        state = rename_state({**source_state, **own}, prefix="model.")
        load_state(classifier, state)
        classifier.to(dtype).eval()
        with torch.no_grad():
            images = case.input("src_images").to(dtype)
            case.check("logits", classifier({"image": images}))
            features = classifier.model.encode({"image": images})["image"].features
            case.check("features_LBC", features.transpose(0, 1))


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_vit_adapter_gives_the_published_four_maps(find_cases, dtype):
    for case in find_cases("12g"):
        adapter = load_adapter(case).to(dtype).eval()
        with torch.no_grad():
            maps = adapter(case.input("src_images").to(dtype))
        check_maps(case, maps)


@pytest.mark.parametrize(
    "victim",
    [
        "spm.stem.0.weight",
        "interactions.2.injector.gamma",
        "interactions.3.extra_extractors.1.ffn.dwconv.bias",
        "up.bias",
    ],
)
def test_a_planted_error_in_the_adapter_is_seen(find_cases, victim):
    (case, *_) = find_cases("12g")
    adapter = load_adapter(case).eval()
    with torch.no_grad():
        adapter.get_parameter(victim).add_(1e-2)
        maps = adapter(case.input("src_images"))
    with pytest.raises(AssertionError):
        check_maps(case, maps)


def test_the_wrong_norm_epsilon_in_interactions_is_seen(find_cases):
    (case, *_) = find_cases("12g")
    adapter = load_adapter(case).eval()
    for module in adapter.interactions.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    with torch.no_grad():
        maps = adapter(case.input("src_images"))
    with pytest.raises(AssertionError):
        check_maps(case, maps)


def check_maps(case, maps) -> None:
    for number, features in enumerate(maps, start=1):
        case.check(f"f{number}", features)


def load_adapter(case) -> ViTAdapter:
    config = case.manifest["config"]
    adapter = ViTAdapter(
        vision_model(config, has_per_layer_bias=True),
        AdapterSettings(
            conv_planes=config["conv_inplane"],
            num_points=config["n_points"],
            num_heads=config["deform_num_heads"],
            value_ratio=config["deform_ratio"],
            ffn_ratio=config["cffn_ratio"],
            injector_scale_init=config["init_values"],
        ),
    )
    report = load_state(adapter, rename_adapter_state(case.tensors("state")))
    assert len(report.loaded) == len([name for name in case.manifest["keys"] if not is_derived(name)])
    return adapter


def test_full_size_has_the_published_names_and_shapes(golden_dir):
    entries = json.loads((golden_dir / "13_full_entries_uncollapsed.json").read_text(encoding="utf-8"))
    published = entries["retrieval_val_shared_table"]
    with torch.device("meta"):
        ours = OnePeace(load_config("4b")).state_dict()
    expected = {name: shape for name, (shape, _) in published.items() if not is_derived(name)}
    assert {published_name(name): list(value.shape) for name, value in ours.items()} == expected
    assert {our_name(name) for name in expected} == set(ours)


@pytest.mark.parametrize(
    ("branch", "key"), [("text", "L_branch"), ("image", "V_branch"), ("audio", "A_branch")], ids=lambda value: value
)
def test_branches_count_the_published_parameters(golden_dir, branch, key):
    counts = json.loads((golden_dir / "13_full_config_facts.json").read_text(encoding="utf-8"))["parameter_counts"]
    with torch.device("meta"):
        model = OnePeace(load_config("4b").branch(branch))
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total - math.prod(model.logit_scale.shape) == counts[key]
