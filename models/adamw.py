"""AdamW whose moments take two bytes a weight, or one, instead of four."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, overload

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard
from torch.optim import Optimizer

from models.eight_bits import CodeTable, count_blocks, dequantize, quantize, signed_values, unsigned_values
from models.training import MomentType

FIRST, SECOND, STEP = "exp_avg", "exp_avg_sq", "step"  # torch's names
SCALES = "_scales"  # of int8 moments, after the moment's name
SMALLEST: Final = 4096
"""Weights of a matrix below which its moments stay float32, as those of vectors do: there is nothing to gain."""
CHUNK: Final = 2**22
"""Weights that are updated at once: what is float32 for the time of an update stays below some 0.2 GB."""


@dataclass(frozen=True)
class _Update:
    """What the update of one parameter goes by."""

    rate: float
    decay: float
    betas: tuple[float, float]
    eps: float
    step: int
    """Updates of the parameter, this one included."""
    generator: torch.Generator


class LeanAdamW(Optimizer):
    """AdamW that computes in float32 and keeps its moments in fewer bits, under the names of `torch.optim.AdamW`.

    Of rounding, what matters is that small changes are not lost: the second moment moves by two per cent an update at
    most, about the step of eight bits. So it is rounded up or down at random, by how near either is, and so is the
    first in int8. The mean of many updates is then what exact moments would give, and the noise is below that of the
    gradients. Weights that are bfloat16 themselves are rounded so, too. The random numbers are the optimiser's own and
    follow from the parameter's place and its count of updates: a training that goes on repeats one that never stopped.

    Works on the shards that FSDP2 leaves here. A block of int8 never reaches beyond a row of its matrix, so that a
    training goes on at any number of ranks; what is drawn then differs.

    Args:
        groups: as `torch.optim.AdamW` takes them.
        lr: learning rate, eps and weight decay as there.
        betas: decay of the moments.
        eps: added to the denominator.
        state: `bfloat16` or `int8`.
        smallest: see `SMALLEST`.

    Source: arXiv 2110.02861 for int8.
    Differs: rounded at random, not to the nearest; the second moment never becomes zero by rounding.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        state: Literal["bfloat16", "int8"],
        smallest: int = SMALLEST,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self._kept_as = state
        self._smallest = smallest
        self._generators: dict[torch.device, torch.Generator] = {}

    def empty_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """Give the state of a parameter before its first update, sharded as the parameter is.

        Returns:
            `step`, a float32 number on the CPU; `exp_avg` and `exp_avg_sq`, shaped like the parameter, float32,
            bfloat16 or uint8; for the last each with `_scales`, (rows of the parameter, blocks) float32.
        """
        kind = self._kind(parameter)
        state = {STEP: torch.zeros((), dtype=torch.float32)}
        for name in (FIRST, SECOND):
            state[name] = torch.zeros_like(
                parameter.detach(), dtype=_TYPES[kind], memory_format=torch.contiguous_format, requires_grad=False
            )
            if kind == "int8":
                state[f"{name}{SCALES}"] = _empty_scales(parameter.detach())
        return state

    def _kind(self, parameter: Tensor) -> MomentType:
        is_small = parameter.ndim < 2 or parameter.numel() < self._smallest
        return "float32" if is_small else self._kept_as

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, (group, parameter) in enumerate(self._list_parameters()):
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state.update(self.empty_state(parameter))
            state[STEP] = state[STEP].cpu() + 1
            update = self._plan(group, number, step=int(state[STEP]), device=parameter.device)
            _apply(parameter, state, update)
        return loss

    def _list_parameters(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for group in self.param_groups:
            for parameter in group["params"]:
                yield group, parameter

    def _plan(self, group: Mapping[str, Any], number: int, *, step: int, device: torch.device) -> _Update:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        generator = self._generators[device].manual_seed(zlib.crc32(f"{step} {number}".encode()))
        lr, betas = float(group["lr"]), tuple(group["betas"])
        return _Update(lr, float(group["weight_decay"]), betas, float(group["eps"]), step, generator)


_TYPES: Final[Mapping[MomentType, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": torch.uint8,
}


@cache
def _table(name: str, device: torch.device) -> CodeTable:
    """Give the table of a moment. The second has squares: its root, which divides, has as many powers as the first."""
    values = signed_values() if name == FIRST else unsigned_values().square()
    return CodeTable.of(values.to(device))


def _empty_scales(parameter: Tensor) -> Tensor:
    """Make room for the scales of a parameter's blocks, its rows sharded as the parameter's are."""
    shape = (len(parameter), count_blocks(parameter[0].numel()))
    if not isinstance(parameter, DTensor):
        return parameter.new_zeros(shape, dtype=torch.float32)
    if odd := [place for place in parameter.placements if isinstance(place, Shard) and place.dim != 0]:
        raise ValueError(f"a parameter is sharded as {odd[0]}, expected by its rows; set optim.state=bfloat16")
    local = parameter.to_local()
    return DTensor.from_local(
        local.new_zeros((len(local), shape[1]), dtype=torch.float32),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=torch.Size(shape),
        stride=(shape[1], 1),
    )


def _apply(parameter: Tensor, state: Mapping[str, Tensor], update: _Update) -> None:
    """Update one parameter, the part of it that is here, and its moments, some rows at a time."""
    assert parameter.grad is not None
    values, gradient = _local(parameter), _local(parameter.grad)
    if not values.numel():
        return
    kept = {name: _local(value) for name, value in state.items() if name != STEP}
    size = max(1, CHUNK // (values.numel() // len(values))) if values.ndim else 1
    for first in range(0, len(values) if values.ndim else 1, size):
        rows = slice(first, first + size) if values.ndim else ...
        _update_rows(values[rows], gradient[rows], {name: value[rows] for name, value in kept.items()}, update)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _update_rows(values: Tensor, gradient: Tensor, kept: Mapping[str, Tensor], update: _Update) -> None:
    """Update some rows of one parameter.

    Source: torch.optim.AdamW, the same arithmetic in the same order.
    """
    beta_1, beta_2 = update.betas
    gradient = gradient.float()
    first, second = _read(kept, FIRST), _read(kept, SECOND)
    first.lerp_(gradient, 1 - beta_1)
    second.mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
    root = second.sqrt().div_((1 - beta_2**update.step) ** 0.5).add_(update.eps)
    wide = values.float()
    wide.mul_(1 - update.rate * update.decay)
    wide.addcdiv_(first, root, value=-update.rate / (1 - beta_1**update.step))
    _write(kept, FIRST, first, update.generator)
    _write(kept, SECOND, second, update.generator)
    if wide is not values:
        values.copy_(round_at_random(wide, update.generator) if values.dtype == torch.bfloat16 else wide)


def _read(kept: Mapping[str, Tensor], name: str) -> Tensor:
    """Give a moment as float32; the kept one itself where that is what is kept."""
    value = kept[name]
    if value.dtype != torch.uint8:
        return value.float()
    table = _table(name, value.device)
    return dequantize(value.flatten(1), kept[f"{name}{SCALES}"], table).view(value.shape)


def _write(kept: Mapping[str, Tensor], name: str, value: Tensor, generator: torch.Generator) -> None:
    """Keep a moment."""
    place = kept[name]
    if place.dtype == torch.uint8:
        codes, scales = quantize(value.flatten(1), _table(name, value.device), generator)
        place.copy_(codes.view(place.shape))
        kept[f"{name}{SCALES}"].copy_(scales)
    elif place.dtype == torch.bfloat16:
        place.copy_(value if name == FIRST else round_at_random(value, generator))


def round_at_random(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round float32 to what bfloat16 can hold, up or down by how near either is; in place.

    bfloat16 is the upper half of float32: a random lower half is added, and what it does not carry over is cut off.

    Args:
        values: contiguous float32, finite.
        generator: of the same device.
    """
    bits = values.view(torch.int32)
    bits.add_(torch.randint(0, 2**16, bits.shape, dtype=torch.int32, device=bits.device, generator=generator))
    bits.bitwise_and_(-(2**16))
    return values
