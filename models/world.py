"""The processes of a training: who they are, and what they exchange."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

SLURM_NAMES = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


@dataclass(frozen=True)
class Negatives:
    """The features of a whole batch, of all processes, without gradient."""

    features: Mapping[str, Tensor]
    """By modality, (whole batch, dim) unit vectors."""
    first_row: int
    """Where the own rows begin among them."""


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
        kind = choose_kind(device)
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

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

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


def choose_kind(device: str) -> str:
    """Turn `auto` into `cuda` where there is a GPU, else into `cpu`; any other name stays."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _read_number(name: str) -> int:
    default = "1" if name == "WORLD_SIZE" else "0"
    return int(os.environ.get(name) or os.environ.get(SLURM_NAMES[name]) or default)
