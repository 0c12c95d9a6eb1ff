"""Optimiser and schedule of the released detection recipe."""

import re
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from downstream.engines.openmmlab.detection_settings import DetectionTraining
from downstream.engines.openmmlab.imports import prepare

prepare()

from mmengine.optim import LinearLR, MultiStepLR  # noqa: E402

_LAYER = re.compile(r"backbone\.(?:model\.encoder\.layers|relative)\.(\d+)\.")
_ADAPTER = "backbone.model.adapters."
_POSITIONS = "adapters.image.positions"


def layer_of(name: str, num_layers: int) -> int:
    """Number a parameter for layer-wise decay: 0 for the adapter, 1 to `num_layers`, and one more for all the rest.

    Source: reference one_peace_vision/det/models/onepeace.py, get_onepeace_lr_decay_rate.
    """
    if name.startswith(_ADAPTER):
        return 0
    match = _LAYER.match(name)
    return int(match[1]) + 1 if match else num_layers + 1


def parameter_groups(model: nn.Module, *, num_layers: int, settings: DetectionTraining) -> list[dict[str, Any]]:
    """Group parameters by layer and by whether they decay: norms and absolute positions do not, biases do.

    Source: detectron2 get_default_optimizer_params, with the overrides of the released config.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter, decays in _list_parameters(model):
        layer = layer_of(name, num_layers)
        key = f"layer_{layer}_{'decay' if decays else 'no_decay'}"
        fresh: dict[str, Any] = {
            "name": key,
            "params": [],
            "lr": settings.lr * settings.layer_decay ** (num_layers + 1 - layer),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        groups.setdefault(key, fresh)["params"].append(parameter)
    return list(groups.values())


def _list_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter, bool]]:
    listed = []
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(prefix=prefix, recurse=False):
            listed.append((leaf, parameter, not isinstance(module, nn.LayerNorm) and not leaf.endswith(_POSITIONS)))
    return listed


def build_optimizer(model: nn.Module, *, num_layers: int, settings: DetectionTraining) -> Optimizer:
    """Build AdamW over the groups."""
    groups = parameter_groups(model, num_layers=num_layers, settings=settings)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=1e-8, fused=True)


def build_schedulers(optimizer: Optimizer, settings: DetectionTraining) -> tuple[Any, ...]:
    """Build the linear warm-up and the steps down; stepped once an optimiser step."""
    steps = MultiStepLR(optimizer, milestones=list(settings.milestones), gamma=settings.step_factor, by_epoch=False)
    if not settings.warmup_iterations:
        return (steps,)
    end = settings.warmup_iterations + 1
    return (LinearLR(optimizer, start_factor=settings.warmup_start, begin=0, end=end, by_epoch=False), steps)
