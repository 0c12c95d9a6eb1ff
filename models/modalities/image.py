"""The image modality: patches of 16 by the hMLP stem, 2-D positions."""

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from models.batch import Embedded, Tokens, Units
from models.config import ModelConfig, PositiveInt, Settings
from models.layers.position_bias import (
    NUM_CLASS_ROWS,
    RelativeTables,
    grid_buckets,
    num_grid_rows,
    resize_grid_table,
    resize_positions,
)
from models.modalities.base import Adapter, Modality, keep_tokens

PATCH_SIZE_PX = 16


class ImageOptions(Settings):
    """The image block of a size."""

    grid_size: PositiveInt
    """Patches along one side that have an absolute position; the paper's model: 16, that is 256 px."""
    bias_grid_size: PositiveInt
    """Patches along one side of the input; it fixes the resolution. Other absolute positions are resized to it."""
    stem: Literal["hmlp", "patch"] = "hmlp"
    """`patch`: one convolution over each patch; in no released config."""
    has_embedding_norm: bool = False
    """A norm on class and patches before the positions; off in every released config."""
    has_type_embedding: bool = False
    """One vector added to every position, and another to those of a second picture; on for NLVR2."""


@dataclass(frozen=True)
class SecondImages:
    """The second pictures of pairs."""

    images: Tensor
    """As the first ones."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (batch, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel for itself."""
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class ImageAdapter(Adapter):
    """Pictures to tokens.

    Args:
        dim: width of a token.
        num_heads: attention heads, for the relative table.
        num_tables: 1 for a relative table that all layers share, else the number of layers.
        options: grid sizes.

    Source: paper, Architecture (hMLP stem); reference one_peace/models/adapter/image.py.
    """

    def __init__(self, dim: int, *, num_heads: int, num_tables: int, options: ImageOptions) -> None:
        super().__init__()
        self.grid_size = options.bias_grid_size
        self.stem = _build_stem(dim, options.stem)
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(options.grid_size**2 + 1, dim) * 0.02)
        self.embedding_norm = nn.LayerNorm(dim) if options.has_embedding_norm else nn.Identity()
        has_type = options.has_type_embedding
        self.type_embedding = nn.Parameter(torch.zeros(1, 1, dim)) if has_type else None
        self.second_type_embedding = nn.Parameter(torch.zeros(1, 1, dim)) if has_type else None
        self.bias = RelativeTables(num_tables, num_grid_rows(self.grid_size), num_heads)

    @property
    def image_size_px(self) -> int:
        """Side of the square pictures this adapter takes."""
        return self.grid_size * PATCH_SIZE_PX

    def embed(self, inputs: "Tensor | SecondImages") -> Embedded:
        """Cut a batch of pictures into patches, the class in front.

        Args:
            inputs: (batch, 3, image_size_px, image_size_px), normalised; `SecondImages` where they are the second of
                a pair.

        Returns:
            grid_size**2 + 1 units, the class first, then patches row by row; none is padding.

        Raises:
            ValueError: pictures of another size, or second ones for a model without type embeddings.
        """
        is_second = isinstance(inputs, SecondImages)
        images = inputs.images if isinstance(inputs, SecondImages) else inputs
        if images.shape[1:] != (3, self.image_size_px, self.image_size_px):
            raise ValueError(
                f"pictures of shape {tuple(images.shape[1:])}, expected (3, {self.image_size_px}, "
                f"{self.image_size_px}); resize them, or build the model with another bias_grid_size"
            )
        patches = self.stem(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_embedding.expand(len(images), -1, -1), patches], dim=1)
        # What is added to every position may as well be added before the positions are.
        return Embedded(self._add_types(self.embedding_norm(x), is_second=is_second))

    def place(self, embedded: Embedded, kept: Tensor | None = None) -> Tokens:
        """Add positions and bias; see `Adapter`."""
        x = embedded.units + resize_positions(self.positions, self.grid_size)
        return keep_tokens(Tokens(features=x, bias=self.bias(grid_buckets(self.grid_size, x.device))), kept)

    def _add_types(self, x: Tensor, *, is_second: bool) -> Tensor:
        """Mark the tokens as those of a picture; a second one gets both vectors."""
        if self.type_embedding is None or self.second_type_embedding is None:
            if is_second:
                raise ValueError("a second picture, expected one: this model has no type embeddings")
            return x
        x = x + self.type_embedding
        return x + self.second_type_embedding if is_second else x


ImageSource: TypeAlias = str | Path | bytes | bytearray | memoryview | Image.Image
ImageTransform = Callable[[Image.Image, int], Tensor]

CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP; reference one_peace/data/base_dataset.py
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)  # as CLIP_MEAN

# What pictures come as. Others are left out: Pillow hands PostScript, for one, to a program that executes it.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")


def read_image(source: ImageSource) -> Image.Image:
    """Decode a picture to 8-bit RGB.

    The content decides the format, not the name. The EXIF orientation is not applied, as in the reference. Grey,
    palette, CMYK and alpha are converted by Pillow, alpha is dropped; of 16-bit grey the high byte is taken, where
    Pillow would cut every value at 255.

    Args:
        source: a path, the bytes of a file, or a picture.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture, a truncated one, or one whose pixels have no fixed range.
    """
    where, picture = _open(source)
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # faulty EXIF and the like: not the pixels
            return _to_rgb(picture if isinstance(picture, Image.Image) else Image.open(picture, formats=FORMATS))
    except UnidentifiedImageError:
        raise ValueError(f"{where} is no picture; expected one of {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's decoders raise many kinds on faulty files
        raise ValueError(f"{where} cannot be decoded: {' '.join(str(error).split())}") from None


def _open(source: ImageSource) -> tuple[str, Image.Image | io.BytesIO]:
    """Name the source for messages, and get at its content."""
    if isinstance(source, Image.Image):
        return "the picture", source
    if isinstance(source, str | Path):
        if not Path(source).is_file():
            raise FileNotFoundError(f"no picture at {source}")
        where, content = str(source), Path(source).read_bytes()
    else:
        where, content = "the picture", bytes(source)
    if not content:
        raise ValueError(f"{where} is empty, expected a picture")
    return where, io.BytesIO(content)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Decode the pixels and convert them to 8-bit RGB."""
    if picture.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {picture.mode!r} have no fixed range; save it with 8 or 16 bits")
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def image_square(picture: Image.Image, size_px: int) -> Tensor:
    """Protocol `image-square`: squashed to a square by Pillow's bicubic filter on 8-bit pixels, then normalised.

    Args:
        picture: RGB, as `read_image` gives it.
        size_px: side of the square.

    Returns:
        (3, size_px, size_px) float32; so for every protocol.

    Raises:
        ValueError: another mode than RGB.

    Source: reference one_peace/models/one_peace/hub_interface.py, process_image.
    """
    return _normalise(_resize(picture, size_px, size_px))


def image_center(picture: Image.Image, size_px: int) -> Tensor:
    """Protocol `image-center`: the short side to `size_px`, the middle of the long side; ImageNet.

    Raises:
        ValueError: another mode than RGB.

    Source: torchvision's Resize and CenterCrop on pictures, which the reference's ImageNet evaluation uses.
    """
    short = min(picture.size)
    width, height = (size_px * side // short for side in picture.size)
    resized = _resize(picture, width, height)
    left, top = round((width - size_px) / 2), round((height - size_px) / 2)
    return _normalise(resized.crop((left, top, left + size_px, top + size_px)))


def image_grounding(picture: Image.Image, size_px: int) -> Tensor:
    """Protocol `image-grounding`: as `image-square`; boxes go along by `BoxScale`."""
    return image_square(picture, size_px)


TRANSFORMS: Final[Mapping[str, ImageTransform]] = MappingProxyType(
    {"image-square": image_square, "image-center": image_center, "image-grounding": image_grounding}
)
"""By protocol name, what turns a picture into (3, size_px, size_px) float32."""


@dataclass(frozen=True)
class BoxScale:
    """Boxes between a picture's own pixels and the unit square of protocol `image-grounding`."""

    width_px: int
    height_px: int
    size_px: int
    """Side of the model's square input."""

    @property
    def ratios(self) -> Tensor:
        """(2,) float32: by how much width and height grow when the picture is squashed to the square."""
        return torch.tensor([self.size_px / self.width_px, self.size_px / self.height_px], dtype=torch.float32)

    def to_target(self, corners: Tensor) -> Tensor:
        """Map corners in the picture's pixels to what the model predicts.

        Args:
            corners: (..., 4) x0, y0, x1, y1.

        Returns:
            (..., 4) as shares of width and height.
        """
        return corners * self.ratios.repeat(2).to(corners) / self.size_px

    def to_pixels(self, boxes: Tensor) -> Tensor:
        """Map predicted boxes, (..., 4) as shares of width and height, to corners in the picture's pixels."""
        return boxes * self.size_px / self.ratios.repeat(2).to(boxes)


def _resize(picture: Image.Image, width: int, height: int) -> Image.Image:
    if picture.mode != "RGB":
        raise ValueError(f"a picture of mode {picture.mode!r}, expected 'RGB'; open it with read_image")
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _normalise(picture: Image.Image) -> Tensor:
    """Turn 8-bit RGB into (3, height, width) float32 of CLIP's mean and deviation."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().to(torch.float32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return pixels.div_(255).sub_(mean).div_(std)


def collate(pictures: Sequence[Tensor]) -> Tensor:
    """Batch pictures of one size into (batch, 3, height, width).

    Raises:
        ValueError: no picture, or several sizes.
    """
    shapes = {tuple(picture.shape) for picture in pictures}
    if len(shapes) != 1:
        raise ValueError(f"pictures of shapes {sorted(shapes)} to batch, expected one or more of one shape")
    return torch.stack(list(pictures))


def _build_stem(dim: int, kind: Literal["hmlp", "patch"]) -> nn.Module:
    """Build what turns pictures into patches of 16 px that do not see each other."""
    if kind == "patch":
        return nn.Conv2d(3, dim, kernel_size=PATCH_SIZE_PX, stride=PATCH_SIZE_PX, bias=False)
    narrow = dim // 4
    return nn.Sequential(
        nn.Conv2d(3, narrow, kernel_size=4, stride=4),
        ChannelNorm(narrow),
        nn.GELU(),
        nn.Conv2d(narrow, narrow, kernel_size=2, stride=2),
        ChannelNorm(narrow),
        nn.GELU(),
        nn.Conv2d(narrow, dim, kernel_size=2, stride=2),
    )


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


class ImageModality:
    """Pictures."""

    name = "image"
    transforms = TRANSFORMS

    def read(self, source: ImageSource) -> Image.Image:
        """Decode a picture; see `read_image`."""
        return read_image(source)

    def collate(self, examples: Sequence[Tensor], options: Mapping[str, Any]) -> Tensor:  # noqa: ARG002
        """Batch pictures; see `collate`."""
        return collate(examples)

    def find_units(self, inputs: Tensor, options: Mapping[str, Any]) -> Units:
        """Every patch may be hidden."""
        real = torch.ones(len(inputs), options["bias_grid_size"] ** 2 + 1, dtype=torch.bool, device=inputs.device)
        maskable = real.clone()
        maskable[:, 0] = False
        return Units(real, maskable)

    def count_positions(self, options: Mapping[str, Any]) -> int:
        """One for each patch and one for the class."""
        return int(options["bias_grid_size"]) ** 2 + 1

    def build_adapter(self, options: Mapping[str, Any], config: ModelConfig) -> ImageAdapter:
        """Build the adapter of one size."""
        return ImageAdapter(
            config.embed_dim,
            num_heads=config.num_heads,
            num_tables=config.num_bias_tables,
            options=ImageOptions.parse(options, where=f"size {config.name!r}, modality 'image'"),
        )

    def resize(self, name: str, stored: Tensor, shape: torch.Size) -> Tensor | None:
        """Bring positions and relative tables of another grid to this one's."""
        if stored.ndim != 2 or stored.shape[1:] != shape[1:]:
            return None
        if name == "positions" and _is_square(len(stored) - 1):
            return resize_positions(stored, math.isqrt(shape[0] - 1))
        if name.startswith("bias.tables.") and _is_square(len(stored) - NUM_CLASS_ROWS):
            return resize_grid_table(stored, (math.isqrt(shape[0]) + 1) // 2)
        return None


MODALITY: Modality = ImageModality()
