"""Case 03g: which names a narrower model takes from the full one, which it copies to every layer, which are its own."""

import re

import pytest
import torch

from models.checkpoint.load import load_state
from models.checkpoint.names import is_derived, our_name
from models.checkpoint.published import MODALITIES
from models.config import ModelConfig
from models.heads import Classifier, HeadConfig
from models.onepeace import OnePeace

pytestmark = pytest.mark.golden

HEAD_TYPES = ("audio", "al", "vl", "image", "text", "retrieval_vl", "retrieval_al")


def count(names, pattern: str) -> int:
    return len({match[1] for name in names if (match := re.search(pattern, name))})


def config_of(names, modalities, **switches) -> ModelConfig:
    """A model with the layers and convolutions that the names tell of; its widths do not matter here."""
    convs = count(names, r"conv_layers\.(\d+)\.0\.weight")
    options = {
        "text": {"vocabulary_size": 5, "max_positions": 6, "bucket_size": 4},
        "image": {"grid_size": 3, "bias_grid_size": 3},
        "audio": {
            "bucket_size": 4,
            "extractor": [[4, 3, 2]] * convs,
            "position_depth": count(names, r"embed_positions\.(\d+)\.0\.weight"),
            "position_width": 9,
            "position_groups": 2,
        },
    }
    return ModelConfig(
        name="names",
        embed_dim=16,
        ffn_dim=8,
        num_layers=count(names, r"layers\.(\d+)\.gamma_1"),
        num_heads=2,
        modalities={name: options[name] for name in modalities},
        **switches,
    )


@pytest.mark.parametrize("head_type", HEAD_TYPES)
def test_a_narrower_model_takes_the_published_names(find_cases, head_type):
    for case in find_cases("03g"):
        report = case.manifest["report"][head_type]
        source = [*report["dropped_source_keys"], *report["copied_same_name"]]
        source += report.get("unexpected_under_strict_loading", [])
        full = OnePeace(config_of(source, MODALITIES["val"]))
        assert {our_name(name) for name in source if not is_derived(name)} == set(full.state_dict())

        is_retrieval = head_type.startswith("retrieval_")
        modalities = MODALITIES[head_type.removeprefix("retrieval_")]
        config = config_of(source, modalities, has_per_layer_bias=True, has_projection=is_retrieval)
        model = OnePeace(config)
        kept = {name: value for name, value in full.state_dict().items() if name in model.state_dict()}
        loaded = load_state(model, kept)
        ours = {our_name(name) for name in report["copied_same_name"] if not is_derived(name)}
        assert set(kept) == ours
        assert {our_name(name) for name in report["filled_from_first_table"]} == set(loaded.reshaped)

        if not is_retrieval:
            head = HeadConfig(num_classes=3, pooled_modality=modalities[0])
            with torch.device("meta"):
                classifier = Classifier(OnePeace(config), head)
            own = {name for name in classifier.state_dict() if name.startswith("head.")}
            assert {our_name(name) for name in report["kept_own_init"]} == own
            assert report["unexpected_under_strict_loading"] == ["logit_scale"]
