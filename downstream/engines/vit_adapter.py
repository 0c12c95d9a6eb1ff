"""The ViT-Adapter: four feature maps for dense prediction around the vision branch."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from downstream.engines.deformable import DeformableAttention, GridSize, cell_centres
from downstream.engines.settings import AdapterSettings
from models.checkpoint.names import rename_state
from models.encoder import FusionEncoder, Sequenced
from models.modalities.image import ImageAdapter
from models.onepeace import OnePeace

MODALITY = "image"
INTERACTION_NORM_EPS = 1e-6


class SpatialPrior(nn.Module):
    """A small convolutional pyramid over the picture, strides 4 to 32."""

    def __init__(self, dim: int, planes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv_block(3, planes, stride=2),
            *_conv_block(planes, planes, stride=1),
            *_conv_block(planes, planes, stride=1),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.conv2 = nn.Sequential(*_conv_block(planes, 2 * planes, stride=2))
        self.conv3 = nn.Sequential(*_conv_block(2 * planes, 4 * planes, stride=2))
        self.conv4 = nn.Sequential(*_conv_block(4 * planes, 4 * planes, stride=2))
        self.fc1 = nn.Conv2d(planes, dim, kernel_size=1)
        self.fc2 = nn.Conv2d(2 * planes, dim, kernel_size=1)
        self.fc3 = nn.Conv2d(4 * planes, dim, kernel_size=1)
        self.fc4 = nn.Conv2d(4 * planes, dim, kernel_size=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give four maps (batch, dim, height / stride, width / stride)."""
        c1 = self.stem(images)
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        return self.fc1(c1), self.fc2(c2), self.fc3(c3), self.fc4(c4)


def _conv_block(in_channels: int, channels: int, *, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class ConvFeedForward(nn.Module):
    """A feed-forward with a depth-wise convolution over each of the three maps."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, kernel_size=3, padding=1, groups=hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor, sizes: Sequence[GridSize]) -> Tensor:
        """Transform (batch, cells of all maps, dim)."""
        maps = self.fc1(x).split([height * width for height, width in sizes], dim=1)
        convolved = [_to_tokens(self.dwconv(_to_map(part, size))) for part, size in zip(maps, sizes, strict=True)]
        out: Tensor = self.fc2(functional.gelu(torch.cat(convolved, dim=1)))
        return out


class Injector(nn.Module):
    """Patch tokens read from the pyramid."""

    def __init__(self, dim: int, config: AdapterSettings) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=INTERACTION_NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=INTERACTION_NORM_EPS)
        self.attn = _attention(dim, config, num_levels=3)
        self.gamma = nn.Parameter(torch.full((dim,), config.injector_scale_init))

    def forward(self, x: Tensor, c: Tensor, *, grid: GridSize, sizes: Sequence[GridSize]) -> Tensor:
        """Add to the patch tokens (batch, patches, dim) what they find in the pyramid (batch, cells, dim)."""
        places = cell_centres([grid], x)
        found: Tensor = self.attn(self.query_norm(x), self.feat_norm(c), places=places, sizes=sizes)
        return x + self.gamma * found


class Extractor(nn.Module):
    """The pyramid reads from the patch tokens."""

    def __init__(self, dim: int, config: AdapterSettings) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=INTERACTION_NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=INTERACTION_NORM_EPS)
        self.attn = _attention(dim, config, num_levels=1)
        self.ffn_norm = nn.LayerNorm(dim, eps=INTERACTION_NORM_EPS)
        self.ffn = ConvFeedForward(dim, int(dim * config.ffn_ratio))

    def forward(self, c: Tensor, x: Tensor, *, grid: GridSize, sizes: Sequence[GridSize]) -> Tensor:
        """Add to the pyramid (batch, cells, dim) what it finds in the patch tokens (batch, patches, dim)."""
        places = cell_centres(sizes, c)
        c = c + self.attn(self.query_norm(c), self.feat_norm(x), places=places, sizes=[grid])
        out: Tensor = c + self.ffn(self.ffn_norm(c), sizes)
        return out


def _attention(dim: int, config: AdapterSettings, *, num_levels: int) -> DeformableAttention:
    return DeformableAttention(
        dim,
        num_heads=config.num_heads,
        num_levels=num_levels,
        num_points=config.num_points,
        value_ratio=config.value_ratio,
    )


class Interaction(nn.Module):
    """Inject, run some layers of the encoder, extract."""

    def __init__(self, dim: int, config: AdapterSettings, *, num_extra_extractors: int) -> None:
        super().__init__()
        self.injector = Injector(dim, config)
        self.extractor = Extractor(dim, config)
        self.extra_extractors = nn.ModuleList(Extractor(dim, config) for _ in range(num_extra_extractors))

    def extract(self, c: Tensor, x: Tensor, *, grid: GridSize, sizes: Sequence[GridSize]) -> Tensor:
        """Run all extractors of this interaction on the same patch tokens."""
        for extractor in (self.extractor, *self.extra_extractors):
            c = extractor(c, x, grid=grid, sizes=sizes)
        return c


class ViTAdapter(nn.Module):
    """The vision branch with the adapter around it.

    Args:
        model: a model with the image modality, without final norm.
        config: sizes of the adapter.
        drop_activations: recompute layers and interactions in the backward pass instead of keeping activations.

    Source: ViT-Adapter; reference one_peace_vision/seg/mmseg_custom/models/backbones/onepeace.py.
    """

    def __init__(self, model: OnePeace, config: AdapterSettings, *, drop_activations: bool = False) -> None:
        super().__init__()
        dim = model.config.embed_dim
        self.model = model
        self.drop_activations = drop_activations
        self.encoder.recompute = "layer" if drop_activations else "none"
        self.spm = SpatialPrior(dim, config.conv_planes)
        self.level_embed = nn.Parameter(torch.randn(3, dim))
        extra = (0, 0, 0, config.num_extra_extractors)
        self.interactions = nn.ModuleList(Interaction(dim, config, num_extra_extractors=number) for number in extra)
        self.up = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(dim) for _ in range(4))

    @property
    def encoder(self) -> FusionEncoder:
        """The encoder inside."""
        return self.model.encoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give four maps of a batch of square pictures.

        Args:
            images: (batch, 3, side, side); the side is that of the model's image adapter.

        Returns:
            (batch, dim, side / stride, side / stride) for strides 4, 8, 16, 32.
        """
        c1, *pyramid = self.spm(images)
        sizes = [(part.shape[2], part.shape[3]) for part in pyramid]
        c = torch.cat([_to_tokens(part) + row for part, row in zip(pyramid, self.level_embed, strict=True)], dim=1)
        sequence = self.encoder.join({MODALITY: self.model.adapters[MODALITY](images)})
        side = cast("ImageAdapter", self.model.adapters[MODALITY]).grid_size
        c, kept = self._interact(sequence, c, grid=(side, side), sizes=sizes)
        c2, c3, c4 = (
            _to_map(part, size)
            for part, size in zip(c.split([height * width for height, width in sizes], dim=1), sizes, strict=True)
        )
        return self._join((self.up(c2) + c1, c2, c3, c4), kept)

    def _interact(
        self, sequence: Sequenced, c: Tensor, *, grid: GridSize, sizes: Sequence[GridSize]
    ) -> tuple[Tensor, list[Tensor]]:
        """Alternate between the layers and the pyramid; keep the patch tokens of each interaction as a map."""
        cls, x = sequence.features[:, :1], sequence.features[:, 1:]
        kept = []
        per_interaction = len(self.encoder.layers) / len(self.interactions)
        for number, interaction in enumerate(cast("Sequence[Interaction]", self.interactions)):
            layers = range(round(number * per_interaction), round((number + 1) * per_interaction))
            x = self._run(interaction.injector, x, c, grid, sizes)
            through = self.encoder.run_layers(replace(sequence, features=torch.cat([cls, x], dim=1)), layers)
            cls, x = through[:, :1], through[:, 1:]
            c = self._run(interaction.extract, c, x, grid, sizes)
            kept.append(_to_map(x, grid))
        return c, kept

    def _run(
        self, step: Callable[..., Tensor], target: Tensor, source: Tensor, grid: GridSize, sizes: Sequence[GridSize]
    ) -> Tensor:
        if self.drop_activations and torch.is_grad_enabled():
            out: Tensor = checkpoint(step, target, source, grid=grid, sizes=sizes, use_reentrant=False)
            return out
        return step(target, source, grid=grid, sizes=sizes)

    def _join(self, maps: Sequence[Tensor], kept: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Add the interactions' patch tokens to the pyramid, and norm."""
        scales = (4, 2, 1, 0.5)
        f1, f2, f3, f4 = (
            norm(part + functional.interpolate(patches, scale_factor=scale, mode="bilinear", align_corners=False))
            for norm, part, patches, scale in zip(self.norms, maps, kept, scales, strict=True)
        )
        return f1, f2, f3, f4


def _to_tokens(x: Tensor) -> Tensor:
    """(batch, channels, height, width) to (batch, cells, channels), row by row."""
    return x.flatten(2).transpose(1, 2)


def _to_map(x: Tensor, size: GridSize) -> Tensor:
    """(batch, cells, channels) back to (batch, channels, height, width)."""
    return x.transpose(1, 2).reshape(len(x), -1, *size)


def rename_adapter_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a published state of the adapter subclass of the segmentation backbone our names.

    Args:
        state: tensors by published name, without the segmentor's prefix `backbone.`.
    """
    return {_our_adapter_name(name): value for name, value in rename_state(state, prefix="model.").items()}


def _our_adapter_name(published: str) -> str:
    """The parts outside the encoder are called as published, but for the norms and the depth-wise convolution."""
    if match := re.fullmatch(r"norm([1-4])\.(.+)", published):
        return f"norms.{int(match[1]) - 1}.{match[2]}"
    return published.replace(".ffn.dwconv.dwconv.", ".ffn.dwconv.")
