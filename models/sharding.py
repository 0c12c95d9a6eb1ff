"""How a model is spread over the ranks of a training, and what its gradients need then."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from models.encoder import FusionEncoder
from models.training import ParallelConfig
from models.world import World

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def spread(module: nn.Module, encoders: Sequence[FusionEncoder], *, config: ParallelConfig, world: World) -> None:
    """Put what is trained on its device, and shard it layer by layer over the ranks, in place.

    Args:
        module: all that is trained; every use goes through its `forward`.
        encoders: those within it, each layer of which is gathered for itself.
        config: how.
        world: the ranks.

    Raises:
        ValueError: the ranks are no multiple of `shard_size`.

    Source: torch FSDP2. A parameter of a single number, such as the logit scale, cannot be sharded: every rank keeps
    it, and `reduce_numbers` averages its gradient.
    """
    module.to(world.device, DTYPES[config.state_dtype])
    for encoder in encoders:
        encoder.recompute = config.recompute
        if config.has_compile:
            for layer in encoder.layers:
                layer.compile()
    if world.size == 1:
        return
    mesh = _make_mesh(config, world)
    policy = MixedPrecisionPolicy(
        param_dtype=DTYPES[config.dtype], reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for encoder in encoders:
        for layer in encoder.layers:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=set(_numbers(module.parameters())))


def _make_mesh(config: ParallelConfig, world: World) -> DeviceMesh:
    """Lay the ranks out in one row, or in rows of `shard_size` that hold copies of each other."""
    if config.shard == "full":
        return init_device_mesh(world.device.type, (world.size,), mesh_dim_names=("shard",))
    if world.size % config.shard_size:
        raise ValueError(
            f"parallel.shard_size {config.shard_size} does not divide {world.size} ranks; choose one that does, or "
            "parallel.shard=full"
        )
    shape = (world.size // config.shard_size, config.shard_size)
    return init_device_mesh(world.device.type, shape, mesh_dim_names=("copy", "shard"))


def _numbers(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Pick the parameters of a single number."""
    return [parameter for parameter in parameters if parameter.ndim == 0]


def reduce_numbers(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Average over the ranks the gradients that FSDP leaves alone: those of single numbers.

    A number has a gradient on all ranks or on none.
    """
    for parameter in _numbers(parameters):
        if parameter.grad is not None:
            world.sum(parameter.grad).div_(world.size)


def separate_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every gradient memory of its own, in place.

    Where a batch has one sample, nothing is summed over it, and autograd may hand one piece of memory to two parameters
    that are added to each other: adding the next micro-batch to it, or clipping it, would then count twice.
    """
    seen: set[int] = set()
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None or isinstance(gradient, DTensor):
            continue
        place = gradient.untyped_storage().data_ptr()
        if place in seen:
            parameter.grad = gradient.clone()
        seen.add(place)


def measure_gradients(parameters: list[nn.Parameter]) -> Tensor:
    """Give the norm of all gradients together, over all ranks, as float32."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    sharded = [gradient for gradient in gradients if isinstance(gradient, DTensor)]
    whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    norms = []
    if sharded:
        norms.append(cast("DTensor", get_total_norm(sharded)).full_tensor())
    if whole:
        norms.append(get_total_norm(whole))
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))
    return total


def clip_gradients(parameters: list[nn.Parameter], *, norm: Tensor, largest: float | None) -> None:
    """Scale all gradients alike, so that their norm is at most `largest`; None leaves them as they are."""
    if largest is not None:
        clip_grads_with_norm_(parameters, largest, norm)
