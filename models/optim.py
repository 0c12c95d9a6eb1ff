"""What the optimiser does to each parameter, and how fast it learns at each step."""

import math
import re
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from models.adamw import LeanAdamW
from models.training import OptimConfig

DecayMode = Literal["ours", "reference"]
"""Which parameters decay: as the published list means it, or as it is written."""


_MODEL = "model."  # under which a pretraining model, or a fine-tuned one, holds the encoder

_CLASS_OR_POSITIONS = re.compile(
    r"(adapters\.\w+\.(cls_embedding|positions))|(decoder\.(cls_embeddings|positions)\.\w+)"
)

# A comma is missing between these two in the published list, which so names neither.
# Source: reference one_peace/models/one_peace/one_peace_base.py.
_MERGED_IN_REFERENCE = ("decoder.cls_embeddings.text", "decoder.positions.image")

_LAYER = re.compile(r"(?:encoder\.layers|adapters\.\w+\.bias\.tables)\.(\d+)")


def decays(name: str, parameter: nn.Parameter, *, mode: DecayMode = "ours") -> bool:
    """Tell whether weight decay pulls at a parameter.

    It does not at biases and other vectors, nor at class vectors and tables of absolute positions. It does at
    relative tables, mask tokens, mask and type embeddings and the audio adapter's position of the class.

    Args:
        name: ours, in the pretraining model, in a fine-tuned one, or in the encoder alone.
        parameter: what stands under that name.
        mode: `reference` lets the decoder's text class vector and image positions decay, which the published list
            leaves out by mistake.

    Source: reference one_peace/models/one_peace/one_peace_base.py and one_peace/utils/layer_decay.py.
    """
    name = name.removeprefix(_MODEL)
    if parameter.ndim <= 1 or name.endswith(".bias"):
        return False
    if mode == "reference" and name in _MERGED_IN_REFERENCE:
        return True
    return _CLASS_OR_POSITIONS.fullmatch(name) is None


def layer_of(name: str, num_layers: int) -> int:
    """Number a parameter for layer-wise decay: 0 for adapters, 1 to `num_layers`, and one more for all the rest.

    A relative table belongs to the layer of its number, so a table that all layers share belongs to the first.

    Raises:
        ValueError: the name counts more layers than there are.

    Source: reference one_peace/utils/layer_decay.py.
    """
    bare = name.removeprefix(_MODEL)
    if match := _LAYER.match(bare):
        layer = int(match[1])
        if layer >= num_layers:
            raise ValueError(f"parameter {name!r} in a model of {num_layers} layers; set num_layers to the model's own")
        return layer + 1
    return 0 if bare.startswith("adapters.") else num_layers + 1


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    weight_decay: float,
    layer_decay: float = 1.0,
    num_layers: int | None = None,
    mode: DecayMode = "ours",
) -> list[dict[str, Any]]:
    """Group the parameters that are trained by their weight decay and the scale of their learning rate.

    Args:
        named_parameters: a model's; those without `requires_grad` are left out.
        weight_decay: of the groups that decay.
        layer_decay: factor of the learning rate from one layer to the one below; 1 is no layer-wise decay.
        num_layers: of the encoder; needed for layer-wise decay only.
        mode: see `decays`.

    Returns:
        Groups as torch's optimisers take them, in the order in which the model names their first parameter. Beside
        `params` and `weight_decay` each has its `name`, as published (`decay`, `no_decay`, or with layer-wise decay
        `layer_<id>_decay`, `layer_<id>_no_decay`), and its `lr_scale`.

    Raises:
        ValueError: no parameter is trained, or layer-wise decay without the number of layers.

    Source: reference one_peace/utils/layer_decay.py.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        is_decayed = decays(name, parameter, mode=mode)
        prefix, scale = _layer_group(name, layer_decay=layer_decay, num_layers=num_layers)
        key = f"{prefix}{'decay' if is_decayed else 'no_decay'}"
        fresh: dict[str, Any] = {
            "name": key,
            "params": [],
            "weight_decay": weight_decay if is_decayed else 0.0,
            "lr_scale": scale,
        }
        groups.setdefault(key, fresh)["params"].append(parameter)
    if not groups:
        raise ValueError("no parameter to train, expected at least one with requires_grad; freeze fewer parts")
    return list(groups.values())


def _layer_group(name: str, *, layer_decay: float, num_layers: int | None) -> tuple[str, float]:
    """Give the beginning of a parameter's group name, and its scale."""
    if layer_decay == 1.0:
        return "", 1.0
    if num_layers is None:
        raise ValueError(f"layer_decay {layer_decay} without num_layers; give the number of encoder layers")
    layer = layer_of(name, num_layers)
    return f"layer_{layer}_", layer_decay ** (num_layers + 1 - layer)


def warmup_length(config: OptimConfig, total_steps: int) -> int:
    """Count the steps of the warm-up.

    Raises:
        ValueError: it would leave no step for the cosine.
    """
    if config.warmup_share is not None:
        length = int(total_steps * config.warmup_share)
    else:
        assert config.warmup_steps is not None  # the config holds one of the two
        length = config.warmup_steps
    if length >= total_steps:
        raise ValueError(f"warm-up of {length} steps, expected fewer than total_steps {total_steps}; shorten it")
    return length


def learning_rate(step: int, *, config: OptimConfig, total_steps: int) -> float:
    """Give the learning rate of a step: a straight rise from `min_lr` to `lr`, then half a cosine back to `min_lr`.

    Args:
        step: how many updates have been made, so 0 at the first. The first update is made at `min_lr`, or at `lr`
            where there is no warm-up; `lr` is reached after the last step of the warm-up; `total_steps`, when all
            updates are made, gives `min_lr`, so the last update itself is made a little above it.
        config: the rates and the length of the warm-up.
        total_steps: of the whole training.

    Raises:
        ValueError: the step lies outside the training, or the warm-up is as long as all of it.

    Source: reference one_peace/optim/lr_scheduler/cosine_lr_scheduler.py.
    Differs: a step past the end is an error and starts no second period; where the warm-up is a share of all steps, the
        reference makes the very first update at `min_lr` divided by the length of the warm-up.
    """
    if not 0 <= step <= total_steps:
        raise ValueError(f"step {step}, expected 0 to total_steps {total_steps}; raise total_steps to train on")
    warmup = warmup_length(config, total_steps)
    height = config.lr - config.min_lr
    if step < warmup:
        return config.min_lr + height * step / warmup
    progress = (step - warmup) / (total_steps - warmup)
    return config.min_lr + 0.5 * height * (1 + math.cos(math.pi * progress))


def build_optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> Optimizer:
    """Build AdamW over `parameter_groups`; each group keeps its own weight decay and starts at its share of `lr`."""
    if config.state == "float32":
        optimizer: Optimizer = torch.optim.AdamW(
            groups, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=0.0, fused=True
        )
    else:
        optimizer = LeanAdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, state=config.state)
    set_learning_rate(optimizer, config.lr)
    return optimizer


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set every group's learning rate to its `lr_scale` times this one.

    The whole rate is scaled, so a lower layer also ends below `min_lr`, as published.

    Source: reference one_peace/optim/base_optimizer.py.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
