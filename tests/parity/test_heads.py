"""Group 03: fine-tuned heads on one modality, on fused ones, and on two pictures."""

import pytest
import torch

from models.checkpoint.load import load_state
from models.checkpoint.names import rename_state
from models.checkpoint.published import read_model_config
from models.heads import Classifier, HeadConfig
from models.modalities.image import SecondImages
from models.onepeace import OnePeace

pytestmark = pytest.mark.golden

PRECISIONS = (torch.float32, torch.float64)
PREFIXES = ("03a", "03b", "03c", "03d", "03e", "03f")


def pooled_modality(manifest, *, use_image_features: bool) -> str:
    head_type = manifest["head_type"]
    if head_type in ("vl", "al"):
        return "image" if use_image_features else "text"
    return head_type


def build(case, dtype, *, use_image_features: bool | None = None) -> Classifier:
    manifest = case.manifest
    published = manifest["config"]
    if use_image_features is None:
        use_image_features = published["use_image_features"]
    model = OnePeace(
        read_model_config(
            published["encoder"],
            head_type=manifest["head_type"],
            vocabulary_size=manifest["vocab_size"],
            has_per_layer_bias=True,
            has_projection=False,
            padding_mode="reference",
        )
    )
    head = HeadConfig(
        num_classes=manifest["num_classes"],
        pooled_modality=pooled_modality(manifest, use_image_features=use_image_features),
        hidden_ratio=published["head_scale_ratio"],
        has_attention_pooling=published["attn_pooling"],
        has_pooler=published["use_pooler"],
        num_passes=2 if manifest.get("use_two_images") else 1,
    )
    classifier = Classifier(model, head)
    report = load_state(classifier, rename_state(case.tensors("state"), prefix="model."))
    assert not report.missing
    assert not report.unexpected
    return classifier.to(dtype).eval()


def passes_of(case, dtype) -> list[dict]:
    first = case.model_inputs(dtype)
    if "src_images_2" not in case.manifest["inputs"]:
        return [first]
    return [first, {**first, "image": SecondImages(case.input("src_images_2").to(dtype))}]


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_logits(find_cases, prefix, dtype):
    for case in find_cases(prefix):
        classifier = build(case, dtype)
        with torch.no_grad():
            logits = classifier(*passes_of(case, dtype))
        case.check("logits", logits)
        if "logits_sigmoid" in case.manifest["outputs"]:
            case.check("logits_sigmoid", logits.sigmoid())


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_grounding_that_pools_the_other_modality(find_cases, dtype):
    for case in find_cases("03c"):
        classifier = build(case, dtype, use_image_features=False)
        with torch.no_grad():
            logits = classifier(*passes_of(case, dtype))
        case.check("logits_text_features", logits)
        case.check("logits_text_features_sigmoid", logits.sigmoid())


@pytest.mark.parametrize(
    ("prefix", "victim"),
    [
        ("03b", "head.pooling.q"),
        ("03c", "head.norm.weight"),
        ("03d", "head.pooler.0.weight"),
        ("03e", "model.adapters.image.second_type_embedding"),
        ("03f", "head.classifier.1.bias"),
    ],
)
def test_a_planted_error_in_a_head_is_seen(find_cases, prefix, victim):
    (case, *_) = find_cases(prefix)
    classifier = build(case, torch.float32)
    with torch.no_grad():
        classifier.get_parameter(victim).view(-1)[::2].add_(1e-1)
        logits = classifier(*passes_of(case, torch.float32))
    with pytest.raises(AssertionError):
        case.check("logits", logits)
