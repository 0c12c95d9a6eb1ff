"""Optimiser and schedule of the released segmentation recipe."""

import re
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

import models.optim
from downstream.engines.openmmlab.imports import prepare
from downstream.engines.settings import TrainingSettings

prepare()

from mmengine.optim import LinearLR, PolyLR  # noqa: E402

_FIRST_LAYER = re.compile(r"decode_head\.(mask_embed|cls_embed|level_embed|query_embed|query_feat)\.")


def layer_of(name: str, num_layers: int) -> int:
    """Number a parameter for the layer-wise decay: the backbone's as everywhere, the head's queries like adapters.

    Source: reference one_peace_vision/seg/optimizer/onepeace_layer_decay_optimizer_constructor.py, where each layer
    owns its relative table.
    """
    if _FIRST_LAYER.match(name):
        return 0
    return models.optim.layer_of(name.removeprefix("backbone."), num_layers)


def parameter_groups(model: nn.Module, *, num_layers: int, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Group parameters by layer and by whether they decay: vectors and biases do not."""
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        layer = layer_of(name, num_layers)
        decays = parameter.ndim > 1 and not name.endswith(".bias")
        key = f"layer_{layer}_{'decay' if decays else 'no_decay'}"
        scale = settings.layer_decay ** (num_layers + 1 - layer)
        fresh: dict[str, Any] = {
            "name": key,
            "params": [],
            "lr": settings.lr * scale,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        groups.setdefault(key, fresh)["params"].append(parameter)
    return list(groups.values())


def build_optimizer(model: nn.Module, *, num_layers: int, settings: TrainingSettings) -> Optimizer:
    """Build AdamW over the groups."""
    groups = parameter_groups(model, num_layers=num_layers, settings=settings)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=1e-8, fused=True)


def build_schedulers(optimizer: Optimizer, settings: TrainingSettings) -> tuple[Any, ...]:
    """Build the linear warm-up and the polynomial decay to zero, power 1; stepped once an optimiser step.

    As in the released recipe, whose schedule is mmcv 0.x's: the decay counts from the first iteration, the warm-up
    multiplies it, and the rate would be zero one step after the last. mmengine's own lengths end one step earlier.
    """
    decay = PolyLR(optimizer, eta_min=0.0, power=1.0, begin=0, end=settings.iterations + 1, by_epoch=False)
    warmup = settings.warmup_iterations
    if not warmup:
        return (decay,)
    rise = LinearLR(optimizer, start_factor=settings.warmup_start, begin=0, end=warmup + 1, by_epoch=False)
    return (rise, decay)
