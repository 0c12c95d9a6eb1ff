"""Pictures become patches row by row, the class first."""

import pytest
import torch

from models.config import load_config
from models.modalities.image import MODALITY, ImageAdapter, ImageOptions

DIM, HEADS = 8, 2


def make_adapter(grid: int = 3, positions: int = 3) -> ImageAdapter:
    options = ImageOptions(grid_size=positions, bias_grid_size=grid)
    return ImageAdapter(DIM, num_heads=HEADS, num_tables=1, options=options).eval()


def test_each_patch_depends_on_its_own_pixels_only() -> None:
    adapter, images = make_adapter(), torch.randn(2, 3, 48, 48)
    changed = images.clone()
    changed[:, :, 16:32, 32:48] += 1
    with torch.no_grad():
        moved = (adapter(images).features - adapter(changed).features).abs().sum(-1) > 0
    assert moved.tolist() == [[False] * 6 + [True] + [False] * 3] * 2  # class, three of row 0, then the sixth patch


def test_the_class_token_stands_first_with_the_first_position() -> None:
    adapter = make_adapter()
    first = adapter(torch.randn(2, 3, 48, 48)).features[:, 0]
    assert torch.equal(first, (adapter.cls_embedding[0] + adapter.positions[:1]).expand(2, -1))


def test_no_picture_is_padded() -> None:
    assert make_adapter()(torch.randn(1, 3, 48, 48)).padding_mask is None


def test_positions_of_another_grid_are_resized_on_the_way() -> None:
    adapter = make_adapter(grid=5, positions=3)
    tokens = adapter(torch.randn(2, 3, 80, 80))
    assert tokens.features.shape == (2, 26, DIM)
    (gradient,) = torch.autograd.grad(tokens.features.sum(), adapter.positions)
    assert (gradient != 0).any(dim=1).all()


@pytest.mark.parametrize("shape", [(3, 48, 64), (3, 32, 32), (1, 48, 48)])
def test_pictures_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(3, 48, 48\); resize them"):
        make_adapter()(torch.zeros(2, *shape))


def test_resize_brings_positions_and_tables_to_the_wanted_grid() -> None:
    assert MODALITY.resize("positions", torch.randn(10, 4), torch.Size([26, 4])).shape == (26, 4)
    assert MODALITY.resize("bias.tables.3", torch.randn(28, 2), torch.Size([84, 2])).shape == (84, 2)
    assert MODALITY.resize("stem.0.weight", torch.randn(2, 3), torch.Size([4, 3])) is None


def test_the_paper_takes_pictures_of_256() -> None:
    config = load_config("4b")
    with torch.device("meta"):
        adapter = MODALITY.build_adapter(config.modalities["image"], config)
    assert adapter.image_size_px == 256
