"""The detection recipe decays by layer, spares norms and positions, and steps down where it should."""

import pytest
import torch
from torch import nn

from downstream.config import load_task_config
from downstream.engines.openmmlab.detection_settings import DetectionProfile
from models.config import override

SMALL = ("size=tiny", "cascade.channels=8", "cascade.fc_dim=12")


def read_profile(*assignments: str) -> DetectionProfile:
    values = override(load_task_config("coco_det").profiles["mini"], [*SMALL, *assignments])
    return DetectionProfile.parse(values, where="test")


def test_every_parameter_has_its_layer_and_its_decay() -> None:
    from downstream.engines.openmmlab.detection_model import build_detector
    from downstream.engines.openmmlab.detection_optim import parameter_groups

    profile = read_profile("training.layer_decay=0.5", "training.lr=1.0")
    detector = build_detector(profile, num_classes=3, seed=0)
    names = {parameter: name for name, parameter in detector.named_parameters()}
    told: dict[str, tuple[float, bool]] = {}
    for group in parameter_groups(detector, num_layers=4, settings=profile.training):
        for parameter in group["params"]:
            told[names[parameter]] = group["lr"], group["weight_decay"] > 0
    assert set(told) == set(names.values())
    encoder, adapter = "backbone.model.encoder.layers", "backbone.model.adapters.image"
    expected = {
        f"{adapter}.positions": (0.5**5, False),
        f"{adapter}.bias.tables.0": (0.5**5, True),
        f"{adapter}.stem.1.norm.weight": (0.5**5, False),
        f"{encoder}.0.attn.q_proj.weight": (0.5**4, True),
        f"{encoder}.0.attn.q_proj.bias": (0.5**4, True),
        f"{encoder}.3.ffn_norm.weight": (0.5, False),
        f"{encoder}.3.attn_residual.gamma": (0.5, True),
        "backbone.relative.2.height": (0.25, True),
        "neck.stages.0.5.norm.weight": (1.0, False),
        "roi_head.bbox_head.1.shared_convs.0.ln.bias": (1.0, False),
        "roi_head.mask_head.0.conv_logits.bias": (1.0, True),
    }
    assert {name: told[name] for name in expected} == expected


def test_the_rate_warms_up_and_falls_at_the_milestones() -> None:
    from downstream.engines.openmmlab.detection_optim import build_schedulers

    settings = read_profile(
        "training.iterations=10", "training.milestones=[6,8]", "training.warmup_iterations=3", "training.lr=1.0"
    ).training
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = build_schedulers(optimizer, settings)
    rates = []
    for _ in range(settings.iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    start = settings.warmup_start
    warm = [start, start + (1 - start) / 3, start + 2 * (1 - start) / 3, 1.0]
    assert rates == pytest.approx([*warm, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.milestones=[8,6]", "do not ascend"),
        ("training.milestones=[999]", "do not ascend up to iterations"),
        ("picture.side_px=100", "not a multiple of 64"),
        ("picture.window=3", "does not divide the 8 patches"),
        ("picture.global_layers=[4]", "names 4, size 'tiny' has 4 layers"),
    ],
)
def test_impossible_settings_are_one_line(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_profile(assignment)
    assert "\n" not in str(caught.value)
