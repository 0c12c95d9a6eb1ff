"""The ranks of a training: who they are, what they exchange, and how the model is spread over them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pretrain.config import ParallelConfig
from pretrain.losses import Negatives
from pretrain.objective import Objective

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SLURM_NAMES = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


@dataclass(frozen=True)
class World:
    """The processes of a training, and this one among them; leave it by `with`."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> "World":
        """Meet the other processes that torchrun or SLURM started; alone where there are none.

        Args:
            device: `cpu`, `cuda`, or `auto`: a GPU where there is one.

        Raises:
            ValueError: a GPU is asked for where there is none for every process.
        """
        rank, size, local_rank = (_read_number(name) for name in SLURM_NAMES)
        kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if kind.startswith("cuda") and local_rank >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise ValueError(
                f"--device {device} for local rank {local_rank}, but there are {found} GPUs; use --device cpu"
            )
        place = torch.device(kind, local_rank) if kind == "cuda" else torch.device(kind)
        if place.type == "cuda":
            torch.cuda.set_device(place)
        if size > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo")
        return cls(rank, size, place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size > 1 and error is None:
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def gather_rows(self, vectors: Mapping[str, Tensor]) -> Negatives:
        """Give the rows of all ranks, in the order of the ranks, without gradient; each has equally many."""
        own = {name: value.detach() for name, value in vectors.items()}
        if self.size == 1:
            return Negatives(own, first_row=0)
        rows = len(next(iter(own.values())))
        return Negatives({name: self._gather(value) for name, value in own.items()}, first_row=self.rank * rows)

    def _gather(self, value: Tensor) -> Tensor:
        whole = value.new_empty(self.size * len(value), *value.shape[1:])
        dist.all_gather_into_tensor(whole, value.contiguous())
        return whole

    def sum(self, values: Tensor) -> Tensor:
        """Add up over the ranks."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def share_text(self, text: str) -> str:
        """Give every rank the first one's text."""
        if self.size == 1:
            return text
        content = text.encode("utf-8")
        length = torch.tensor([len(content)])
        dist.broadcast(length, src=0)
        message = torch.zeros(int(length), dtype=torch.uint8)
        if self.is_first:
            message.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(message, src=0)
        return bytes(message.tolist()).decode("utf-8")


def _read_number(name: str) -> int:
    default = "1" if name == "WORLD_SIZE" else "0"
    return int(os.environ.get(name) or os.environ.get(SLURM_NAMES[name]) or default)


def spread(objective: Objective, config: ParallelConfig, world: World) -> None:
    """Put the model on its device, and shard it layer by layer over the ranks, in place.

    Source: torch FSDP2. The logit scale is a single number, which FSDP cannot shard: every rank keeps it, and
    `reduce_scale` averages its gradient.
    """
    objective.to(world.device, DTYPES[config.state_dtype])
    encoders = (
        [objective.model.encoder] if objective.decoder is None else [objective.model.encoder, objective.decoder.encoder]
    )
    for encoder in encoders:
        encoder.is_checkpointed = config.has_checkpointing
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
    fully_shard(objective, mesh=mesh, mp_policy=policy, ignored_params={objective.model.logit_scale})


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


def reduce_scale(objective: Objective, world: World) -> None:
    """Average the gradient that FSDP leaves alone."""
    gradient = objective.model.logit_scale.grad
    if gradient is not None:
        world.sum(gradient).div_(world.size)


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


def clip_gradients(parameters: list[nn.Parameter], *, norm: Tensor, largest: float) -> None:
    """Scale all gradients alike, so that their norm is at most `largest`."""
    clip_grads_with_norm_(parameters, largest, norm)
