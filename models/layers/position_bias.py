"""Relative position bias in 1-D and 2-D: buckets, tables, and resizing both tables and absolute positions."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

NUM_CLASS_ROWS = 3  # from class to any, from any to class, class to class
MAX_POSITIONS = 1024  # the distance at which the published logarithmic buckets end


def num_token_rows(bucket_size: int) -> int:
    """Count the rows of a 1-D relative table."""
    return 2 * bucket_size - 1 + NUM_CLASS_ROWS


def num_grid_rows(grid_size: int) -> int:
    """Count the rows of a 2-D relative table for a square grid of patches."""
    return (2 * grid_size - 1) ** 2 + NUM_CLASS_ROWS


def token_buckets(length: int, bucket_size: int, device: torch.device) -> Tensor:
    """Number the relative positions of a 1-D sequence: exact nearby, logarithmic far away.

    Args:
        length: positions, the class at position 0 included; at most 1024.
        bucket_size: distances on either side, zero included.
        device: where the numbers are needed.

    Returns:
        (length, length) int64; row is the query, column the key.

    Raises:
        ValueError: `length` is beyond what the published buckets cover.

    Source: reference one_peace/models/components.py.
    """
    if length > MAX_POSITIONS:
        raise ValueError(f"a sequence of {length} positions, expected at most {MAX_POSITIONS}; cut the input shorter")
    return _all_token_buckets(bucket_size, device)[:length, :length]


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # what is kept here may be needed for a gradient later
def _all_token_buckets(bucket_size: int, device: torch.device) -> Tensor:
    distance = torch.arange(MAX_POSITIONS - 1, -MAX_POSITIONS, -1, device="cpu")  # each once, from last to first
    mid = bucket_size // 2
    # Below `mid` the logarithm is not used; its argument is kept inside its domain.
    far = torch.where(distance.abs() < mid, mid - 1, distance.abs()).clamp(min=1)
    ratio = torch.log(far / mid) / math.log((MAX_POSITIONS - 1) / mid)
    log_bucket = torch.ceil(ratio * (mid - 1)) + mid
    bucket = torch.where(distance.abs() <= mid, distance, log_bucket.long() * distance.sign()) + bucket_size - 1
    rows = bucket.unfold(0, MAX_POSITIONS, 1).flip(0)  # a query's row is that of the one before, moved by one
    return _with_class_rows(rows, first_row=2 * bucket_size - 1).to(device)


@functools.lru_cache(maxsize=4)
@torch.inference_mode(False)
def grid_buckets(grid_size: int, device: torch.device) -> Tensor:
    """Number the relative positions of a square grid of patches with the class in front.

    Args:
        grid_size: patches along one side.
        device: where the numbers are needed.

    Returns:
        (grid_size**2 + 1, grid_size**2 + 1) int64; row is the query, column the key.

    Source: reference one_peace/models/components.py.
    """
    side = torch.arange(grid_size, device="cpu")
    y, x = torch.meshgrid(side, side, indexing="ij")
    y, x = y.flatten(), x.flatten()
    span = 2 * grid_size - 1
    bucket = (y[:, None] - y[None, :] + grid_size - 1) * span + (x[:, None] - x[None, :] + grid_size - 1)
    return _with_class_rows(functional.pad(bucket, (1, 0, 1, 0)), first_row=span**2).to(device)


def _with_class_rows(bucket: Tensor, *, first_row: int) -> Tensor:
    """Give row 0, column 0 and their corner, where the class token stands, the last three rows of the table."""
    bucket = bucket.clone()
    bucket[0, :] = first_row
    bucket[:, 0] = first_row + 1
    bucket[0, 0] = first_row + 2
    return bucket


@dataclass(frozen=True)
class PositionBias:
    """The bias of one modality's block, taken from its tables only when a layer asks for it.

    At 896 px one layer's bias is 0.9 GB in float32, so the forty of the paper's model never exist side by side.
    """

    tables: tuple[Tensor, ...]
    """Each (rows, heads): one for all layers, or one for each."""
    buckets: Tensor
    """(tokens, tokens), or (batch, tokens, tokens) where samples keep different tokens; the table row of each query
    and key."""

    @property
    def is_shared(self) -> bool:
        """Whether every layer gets the same bias."""
        return len(self.tables) == 1

    def at_layer(self, layer: int) -> Tensor:
        """Spell out one layer's bias as (batch, heads, tokens, tokens); batch is 1 where it serves every sample."""
        table = self.tables[0 if self.is_shared else layer]
        bias = table.t().index_select(1, self.buckets.flatten())
        return bias.view(bias.shape[0], -1, *self.buckets.shape[-2:]).transpose(0, 1)

    def keep(self, slots: Tensor) -> "PositionBias":
        """Take the rows and columns of some tokens, (batch, kept) by their numbers in the full sequence."""
        return PositionBias(self.tables, self.buckets[slots[:, :, None], slots[:, None, :]])


class RelativeTables(nn.Module):
    """The learned relative position tables of one modality, all zero at the start.

    Args:
        num_tables: 1 for one table that all layers share, else the number of layers.
        num_rows: rows of a table, see `num_token_rows` and `num_grid_rows`.
        num_heads: attention heads.
    """

    def __init__(self, num_tables: int, num_rows: int, num_heads: int) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(torch.zeros(num_rows, num_heads)) for _ in range(num_tables))

    def forward(self, buckets: Tensor) -> PositionBias:
        """Join the tables with the bucket numbers of a sequence, (tokens, tokens)."""
        return PositionBias(tables=tuple(self.tables), buckets=buckets)


def resize_positions(positions: Tensor, grid_size: int) -> Tensor:
    """Resize absolute positions of a square grid bicubically, the class row kept.

    Args:
        positions: (source_grid**2 + 1, dim), the class first.
        grid_size: patches along one side of the target grid.

    Returns:
        (grid_size**2 + 1, dim) in the type of `positions`; computed in float32 or wider.

    Source: reference one_peace/models/adapter/image.py.
    """
    source = math.isqrt(len(positions) - 1)
    if source == grid_size:
        return positions
    wide = positions.dtype if positions.dtype == torch.float64 else torch.float32
    patches = positions[1:].to(wide).view(1, source, source, -1).permute(0, 3, 1, 2)
    patches = functional.interpolate(patches, size=(grid_size, grid_size), mode="bicubic", align_corners=False)
    patches = patches.permute(0, 2, 3, 1).reshape(grid_size**2, -1)
    return torch.cat([positions[:1], patches.to(positions.dtype)])


def resize_grid_table(table: Tensor, grid_size: int) -> Tensor:
    """Enlarge a 2-D relative table by geometric-sequence interpolation, the class rows kept.

    Args:
        table: ((2 * source - 1)**2 + 3, heads).
        grid_size: patches along one side of the target grid.

    Returns:
        ((2 * grid_size - 1)**2 + 3, heads) in the type of `table`.

    Raises:
        ValueError: the table would shrink, or its source grid is smaller than 3.

    Source: BEiT's recipe; reference one_peace/models/components.py. Differs: SciPy's `RectBivariateSpline` with
    clamped arguments where the reference calls the removed `interp2d`.
    """
    source_span = math.isqrt(len(table) - NUM_CLASS_ROWS)
    span = 2 * grid_size - 1
    if source_span == span:
        return table
    source_grid = (source_span + 1) // 2
    if source_span > span or source_grid < 3:
        raise ValueError(
            f"a relative table of a {source_grid} x {source_grid} grid cannot become one of {grid_size} x {grid_size}; "
            "expected a source of at least 3 x 3 and a target that is not smaller"
        )
    from scipy.interpolate import RectBivariateSpline  # half a second, and only another resolution needs it

    knots = _geometric_knots(source_span, span)
    target = np.clip(np.arange(span, dtype=np.float64) - span // 2, knots[0], knots[-1])
    source = table[:-NUM_CLASS_ROWS].detach().double().cpu().numpy()
    heads = source.T.reshape(-1, source_span, source_span)
    resized = [RectBivariateSpline(knots, knots, head)(target, target).ravel() for head in heads]
    patches = torch.from_numpy(np.stack(resized, axis=1)).to(table)
    return torch.cat([patches, table[-NUM_CLASS_ROWS:]])


def _geometric_knots(source_span: int, span: int) -> NDArray[np.float64]:
    """Place the source's positions on the target's axis, further apart the further out."""
    half = source_span // 2
    low, high = 1.01, 1.5
    ratio = high
    while high - low > 1e-6:
        ratio = (low + high) / 2
        reach = (1 - ratio**half) / (1 - ratio)
        low, high = (low, ratio) if reach > span // 2 else (ratio, high)
    outward = np.cumsum(ratio ** np.arange(half))
    return np.concatenate([-outward[::-1], [0.0], outward])
