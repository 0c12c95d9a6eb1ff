"""Numbers in eight bits: a scale for each block, and a table whose steps grow with the numbers.

Eight bits spread evenly would tell apart what differs by a 256th of a block's largest number, and nothing below. Here
each power of ten has its own evenly spread steps, the top one the most: seven powers are covered.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

BLOCK: Final = 256
"""Most numbers that share a scale. Wider ones share it with outliers. Source: arXiv 2110.02861, whose blocks are 2048;
its later optimisers use 256."""
NUM_CODES: Final = 256
NUM_POWERS: Final = 7
SMALLEST_SCALE: Final = torch.finfo(torch.float32).tiny


def count_blocks(width: int) -> int:
    """Count the blocks of a row; a block never reaches into the next row, so that rows can be sharded."""
    return -(-width // BLOCK)


def signed_values() -> Tensor:
    """Give what the codes of numbers in [-1, 1] mean, (256,) float32, rising.

    Source: arXiv 2110.02861, dynamic tree quantisation.
    Differs: the least negative number makes room for -1, so that both ends are exact.
    """
    positive = _spread(1)
    return torch.cat([-torch.ones(1), -positive.flip(0)[:-1], torch.zeros(1), positive, torch.ones(1)]).float()


def unsigned_values() -> Tensor:
    """Give what the codes of numbers in [0, 1] mean, (256,) float32, rising; the sign's bit doubles the steps."""
    return torch.cat([torch.zeros(1), _spread(2), torch.ones(1)]).float()


def _spread(fewest: int) -> Tensor:
    """Spread numbers over the powers of ten below 1: the middles of even cells, twice as many from power to power."""
    powers = []
    for index in range(NUM_POWERS):
        cells = fewest * 2**index
        middles = 0.1 + 0.9 * (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
        powers.append(middles * 10.0 ** (index + 1 - NUM_POWERS))
    return torch.cat(powers)


@dataclass(frozen=True)
class CodeTable:
    """What codes mean, and where to find the code of a number."""

    values: Tensor
    """(256,) float32, rising, from -1 or 0 to 1."""
    lowest: Tensor
    """(65536,) int64: by the upper half of a float32's bits, the code below every number that begins so. There are
    more such cells than codes, so that at most one code lies inside: one more comparison finds the code of a number,
    where searching the table would take eight."""

    @classmethod
    def of(cls, values: Tensor) -> "CodeTable":
        """Prepare the table of these values."""
        patterns = torch.arange(2**16, dtype=torch.int32)
        outer = patterns + (patterns >= 2**15).int()  # a negative number's cell ends at the next larger magnitude
        ends = (outer << 16).view(torch.float32)
        lowest = torch.bucketize(ends.nan_to_num(0.0), values.cpu(), right=True).sub_(1)
        return cls(values, lowest.clamp_(0, NUM_CODES - 2).to(values.device))

    def below(self, unit: Tensor) -> Tensor:
        """Find the last code that is not above each number but is not the last of all; int64."""
        code = self.lowest.take((unit.view(torch.int32) >> 16).bitwise_and_(0xFFFF).long())
        code += unit >= self.values.take(code + 1)
        return code.clamp_(max=NUM_CODES - 2)


def quantize(values: Tensor, table: CodeTable, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Round numbers to those of a table, up or down at random, so that on average nothing is lost.

    Rounding to the nearest would lose every change that is smaller than half a step, and there are many: a moment moves
    by a few per cent an update, and steps are as wide. What is not zero becomes zero only where the table goes below
    zero: without a sign it takes the smallest step instead, for such numbers are divided by.

    Args:
        values: (rows, width) float32, not negative where the table is not.
        table: on the same device.
        generator: of the same device.

    Returns:
        Codes, (rows, width) uint8, and each block's largest magnitude, (rows, blocks) float32.
    """
    width = values.shape[1]
    blocks = _block(values)
    scales = blocks.abs().amax(dim=2)
    unit = (blocks / scales.clamp_min(SMALLEST_SCALE)[:, :, None]).flatten(1)[:, :width].contiguous()
    code = table.below(unit)
    start = table.values.take(code)
    step = table.values.take(code + 1).sub_(start)
    drawn = torch.rand(unit.shape, generator=generator, device=unit.device)
    is_up = unit - start > drawn.mul_(step)
    if table.values[0] == 0:
        is_up |= (code == 0) & (unit > 0)
    return code.add_(is_up).to(torch.uint8), scales


def dequantize(codes: Tensor, scales: Tensor, table: CodeTable) -> Tensor:
    """Give the numbers, (rows, width) float32, that `quantize` made codes of."""
    width = codes.shape[1]
    return _block(table.values.take(codes.long())).mul_(scales[:, :, None]).flatten(1)[:, :width]


def _block(values: Tensor) -> Tensor:
    """Cut rows into blocks as even as they can be, (rows, blocks, width of a block), the last filled up with zeros."""
    rows, width = values.shape
    count = count_blocks(width)
    size = -(-width // count)
    if missing := count * size - width:
        values = torch.nn.functional.pad(values, (0, missing))
    return values.view(rows, count, size)
