"""The vision branch with attention in windows, and the simple feature pyramid on its last map."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from downstream.engines.openmmlab.detection_settings import STRIDES, WindowSettings
from downstream.engines.openmmlab.imports import prepare
from models.config import ModelConfig
from models.encoder import FusionLayer
from models.layers.position_bias import NUM_CLASS_ROWS, RelativeTables, grid_buckets, num_grid_rows
from models.modalities.image import ImageAdapter
from models.onepeace import OnePeace, initialise

prepare()

from mmdet.registry import MODELS  # noqa: E402

MODALITY = "image"
NORM_EPS = 1e-6  # detectron2's norm over channels


@MODELS.register_module(name="OnePeaceChannelNorm")
class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (batch, channels, height, width), as detectron2's `LN`."""

    def __init__(self, num_features: int, eps: float = NORM_EPS) -> None:
        super().__init__(num_features, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel for itself."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SplitPositions(nn.Module):
    """What a layer learns of relative positions besides the shared table: rows and columns apart, read by the query.

    Args:
        side: patches along one side of what the layer attends to.
        num_heads: attention heads.
        dim: width of a token.

    Source: MViTv2's decomposed relative positions; reference one_peace_vision/det/models/onepeace.py.
    """

    def __init__(self, side: int, num_heads: int, dim: int) -> None:
        super().__init__()
        self.side, self.num_heads = side, num_heads
        self.height = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.width = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))

    def forward(self, queries: Tensor) -> Tensor:
        """Turn (batch, side * side, dim) queries, unscaled, into (batch, heads, side * side, side * side) to add."""
        side = self.side
        places = torch.arange(side, device=queries.device)
        steps = places[:, None] - places[None, :] + side - 1
        q = queries.view(len(queries), side, side, self.num_heads, -1)
        rows = torch.einsum("bhwnc,hkc->bnhwk", q, self.height[steps].to(q.dtype))
        columns = torch.einsum("bhwnc,wkc->bnhwk", q, self.width[steps].to(q.dtype))
        both = rows[..., :, None] + columns[..., None, :]
        return both.reshape(len(queries), self.num_heads, side**2, side**2)


@MODELS.register_module(name="OnePeaceWindowed")
class WindowedBranch(nn.Module):
    """The vision branch for large pictures: most layers attend within windows, without class token and final norm.

    Args:
        branch: `ModelConfig` of the vision branch, as plain values; `bias_grid_size` is that of the picture.
        table_grid: patches along one side that the shared relative table is stored for; it is resized when it is used.
        picture: `WindowSettings`, as plain values.
        drop_activations: recompute activations in the backward pass.

    Source: ViTDet, arXiv 2203.16527; reference one_peace_vision/det/models/onepeace.py.
    Differs: one fused attention call; the reference spells it out.
    """

    def __init__(
        self, branch: dict[str, Any], table_grid: int, picture: dict[str, Any], *, drop_activations: bool
    ) -> None:
        super().__init__()
        config = ModelConfig.parse(branch, where="backbone")
        settings = WindowSettings.parse(picture, where="backbone")
        self.model = OnePeace(config)
        self.grid, self.table_grid = settings.grid, table_grid
        self.drop_activations = drop_activations
        self.adapter.bias = RelativeTables(1, num_grid_rows(table_grid), config.num_heads)
        del self.adapter.cls_embedding  # the published detector has no class token
        is_global = [number in settings.global_layers for number in range(config.num_layers)]
        self.sides = tuple(settings.grid if wide else settings.window for wide in is_global)
        self.relative = nn.ModuleList(SplitPositions(side, config.num_heads, config.embed_dim) for side in self.sides)

    @property
    def adapter(self) -> ImageAdapter:
        """What turns pictures into patches."""
        return cast("ImageAdapter", self.model.adapters[MODALITY])

    def init_weights(self) -> None:
        """Start the encoder as the published code does."""
        self.model.apply(initialise)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Turn (batch, 3, side, side) pictures, normalised, into one map (batch, dim, grid, grid)."""
        patches = self.adapter.stem(images).flatten(2).transpose(1, 2)
        if patches.shape[1] != self.grid**2:
            side = self.grid * images.shape[-1] // max(1, int(patches.shape[1] ** 0.5))
            raise ValueError(f"pictures of {tuple(images.shape[2:])} pixels, expected squares of {side}")
        x = patches + self.adapter.positions[1:]
        biases = {side: self.spell_table(side) for side in sorted(set(self.sides))}
        for number in range(len(self.sides)):
            if self.drop_activations and torch.is_grad_enabled():
                x = checkpoint(self._run_layer, number, x, biases, use_reentrant=False)
            else:
                x = self._run_layer(number, x, biases)
        return (x.transpose(1, 2).unflatten(2, (self.grid, self.grid)).contiguous(),)

    def spell_table(self, side: int) -> Tensor:
        """Spell out the shared table for a square of patches.

        Returns:
            (1, heads, side * side, side * side); a table of another grid is resized bicubically, at every call.
        """
        span = 2 * self.table_grid - 1
        table = self.adapter.bias.tables[0][:-NUM_CLASS_ROWS].t().view(1, -1, span, span)
        if side != self.table_grid:
            table = functional.interpolate(table, size=(2 * side - 1, 2 * side - 1), mode="bicubic")
        buckets = grid_buckets(side, table.device)[1:, 1:]
        bias: Tensor = table.flatten(2)[0].index_select(1, buckets.flatten())
        return bias.view(1, -1, side**2, side**2)

    def _run_layer(self, number: int, x: Tensor, biases: dict[int, Tensor]) -> Tensor:
        """Run one layer with its attention cut into windows, (batch, patches, dim) in and out."""
        layer, side = cast("FusionLayer", self.model.encoder.layers[number]), self.sides[number]

        def attend(part: Tensor) -> Tensor:
            windows = cut_windows(layer.attn_norm(part), grid=self.grid, side=side)
            bias = biases[side] + self.relative[number](layer.attn.q_proj(windows))
            mixed: Tensor = layer.attn_output_norm(join_windows(layer.attn(windows, bias), grid=self.grid, side=side))
            return mixed

        x = layer.attn_residual.run(x, attend)
        return layer.ffn_residual.run(x, lambda part: layer.ffn[MODALITY](layer.ffn_norm(part)))


def cut_windows(x: Tensor, *, grid: int, side: int) -> Tensor:
    """Cut (batch, grid * grid, dim) into (batch * windows, side * side, dim), windows row by row."""
    count, dim = grid // side, x.shape[-1]
    return x.view(-1, count, side, count, side, dim).transpose(2, 3).reshape(-1, side**2, dim)


def join_windows(windows: Tensor, *, grid: int, side: int) -> Tensor:
    """Undo `cut_windows`."""
    count, dim = grid // side, windows.shape[-1]
    return windows.view(-1, count, count, side, side, dim).transpose(2, 3).reshape(-1, grid**2, dim)


class NormedConv(nn.Conv2d):
    """A convolution without bias and the norm behind it, under the names that detectron2 gives them."""

    def __init__(self, in_channels: int, channels: int, *, kernel: int) -> None:
        super().__init__(in_channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = ChannelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise."""
        out: Tensor = self.norm(super().forward(x))
        return out


@MODELS.register_module(name="OnePeaceSimplePyramid")
class SimplePyramid(nn.Module):
    """Maps of strides 4, 8, 16 and 32 out of the last one alone, and every second pixel of the last as a fifth.

    Args:
        dim: channels of the encoder's map.
        channels: of every map that is made.

    Source: ViTDet, simple feature pyramid.
    """

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        half, quarter = dim // 2, dim // 4
        openings: Sequence[tuple[int, list[nn.Module]]] = (
            (quarter, [_enlarge(dim, half), ChannelNorm(half), nn.GELU(), _enlarge(half, quarter)]),
            (half, [_enlarge(dim, half)]),
            (dim, []),
            (dim, [nn.MaxPool2d(kernel_size=2, stride=2)]),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*opening, NormedConv(width, channels, kernel=1), NormedConv(channels, channels, kernel=3))
            for width, opening in openings
        )

    def init_weights(self) -> None:
        """Start the convolutions as detectron2 does."""
        for module in self.modules():
            if isinstance(module, NormedConv):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: tuple[Tensor]) -> tuple[Tensor, ...]:
        """Give five maps (batch, channels, height / stride, width / stride) of strides 4 to 64."""
        made = [stage(maps[0]) for stage in self.stages]
        made.append(functional.max_pool2d(made[-1], kernel_size=1, stride=2))
        assert len(made) == len(STRIDES)
        return tuple(made)


def _enlarge(in_channels: int, channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, channels, kernel_size=2, stride=2)
