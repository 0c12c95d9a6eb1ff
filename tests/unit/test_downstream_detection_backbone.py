"""The windowed branch is the encoder where windows are as large as the picture, and keeps to its windows elsewhere."""

from typing import Any

import pytest
import torch
from torch import Tensor

from downstream.config import load_task_config
from downstream.engines.openmmlab.detection_settings import DetectionProfile
from models.config import override

SMALL = ("size=tiny", "picture.side_px=128", "picture.window=4", "picture.global_layers=[1,3]")


def read_profile(*assignments: str) -> DetectionProfile:
    values = override(load_task_config("coco_det").profiles["mini"], [*SMALL, *assignments])
    return DetectionProfile.parse(values, where="test")


@pytest.fixture(scope="module")
def backbone() -> Any:
    from downstream.engines.openmmlab import detection_backbone

    return detection_backbone


def build(*assignments: str) -> Any:
    from downstream.engines.openmmlab.detection_model import build_detector

    detector = build_detector(read_profile(*assignments), num_classes=3, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in detector.backbone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return detector.eval()


def test_windows_come_back_together_and_hold_neighbours(backbone: Any) -> None:
    x = torch.arange(2 * 36 * 5, dtype=torch.float32).view(2, 36, 5)
    windows = backbone.cut_windows(x, grid=6, side=3)
    assert windows.shape == (8, 9, 5)
    assert torch.equal(backbone.join_windows(windows, grid=6, side=3), x)
    square = x.view(2, 6, 6, 5)
    assert torch.equal(windows[1].view(3, 3, 5), square[0, :3, 3:])
    assert torch.equal(windows[6].view(3, 3, 5), square[1, 3:, :3])


def test_split_positions_are_rows_and_columns_read_by_the_query(backbone: Any) -> None:
    side, heads, dim = 3, 2, 8
    positions = backbone.SplitPositions(side, heads, dim)
    torch.nn.init.normal_(positions.height)
    torch.nn.init.normal_(positions.width)
    queries = torch.randn(4, side**2, dim)
    bias = positions(queries)
    assert bias.shape == (4, heads, side**2, side**2)
    q = queries.view(4, side, side, heads, dim // heads)
    for (y, x), (v, u), head in (((0, 2), (2, 1), 0), ((1, 1), (1, 1), 1), ((2, 0), (0, 2), 1)):
        own = q[:, y, x, head]
        expected = own @ positions.height[y - v + side - 1] + own @ positions.width[x - u + side - 1]
        torch.testing.assert_close(bias[:, head, y * side + x, v * side + u], expected)


def test_without_windows_it_is_the_encoder_without_class_token() -> None:
    """Each layer then attends as the encoder's own, under the table's bias and what the split positions add."""
    from models.batch import Tokens
    from models.layers.position_bias import PositionBias, grid_buckets

    detector = build("picture.side_px=64", "picture.window=4", "picture.global_layers=[0,1,2,3]")
    branch = detector.backbone
    with torch.no_grad():
        for relative in branch.relative:
            relative.height.zero_()
            relative.width.zero_()
    images = torch.randn(2, 3, 64, 64)
    adapter, encoder = branch.model.adapters["image"], branch.model.encoder
    tokens = adapter.stem(images).flatten(2).transpose(1, 2) + adapter.positions[1:]
    bias = PositionBias(tuple(adapter.bias.tables), grid_buckets(4, torch.device("cpu"))[1:, 1:])
    expected = encoder.run_layers(encoder.join({"image": Tokens(tokens, None, bias)}), range(4))
    (got,) = branch(images)
    torch.testing.assert_close(got, expected.transpose(1, 2).unflatten(2, (4, 4)), atol=1e-5, rtol=1e-4)


def test_what_happens_in_one_window_stays_there_until_a_layer_sees_all() -> None:
    images = torch.randn(1, 3, 128, 128)
    other = images.clone()
    other[..., :64, :64] += 1.0  # the first of four windows
    for layers, stays in (("[]", True), ("[2]", False)):
        branch = build(f"picture.global_layers={layers}").backbone
        with torch.no_grad():
            change = (branch(images)[0] - branch(other)[0]).abs().amax(dim=1)[0]
        assert change[:4, :4].min() > 0
        assert bool((change[4:] == 0).all() and (change[:, 4:] == 0).all()) is stays


def test_a_table_of_another_grid_is_stretched_and_one_of_its_own_is_not() -> None:
    branch = build().backbone
    own = branch.spell_table(4)
    table = branch.adapter.bias.tables[0]
    assert torch.equal(own[0, 1, 0, 0], table[3 * 7 + 3, 1])
    wide = branch.spell_table(8)
    assert wide.shape == (1, 2, 64, 64)
    torch.testing.assert_close(wide[0, :, 9, 9], wide[0, :, 40, 40])
    assert not torch.allclose(wide[0, 0], torch.zeros(64, 64))


def test_recomputing_activations_changes_no_gradient() -> None:
    def gradients(*assignments: str) -> dict[str, Tensor]:
        branch = build(*assignments).backbone
        branch(torch.ones(1, 3, 128, 128))[0].sum().backward()
        return {name: parameter.grad for name, parameter in branch.named_parameters()}

    kept, dropped = gradients(), gradients("training.drop_activations=true")
    assert all(value is not None for value in kept.values())
    for name, value in kept.items():
        torch.testing.assert_close(value, dropped[name])


def test_pictures_of_another_size_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"\(64, 64\) pixels"):
        build().backbone(torch.zeros(1, 3, 64, 64))


def test_the_pyramid_has_five_maps_and_the_last_is_every_second_pixel() -> None:
    detector = build()
    maps = detector.neck(detector.backbone(torch.randn(2, 3, 128, 128)))
    assert [tuple(each.shape[1:]) for each in maps] == [(32, side, side) for side in (32, 16, 8, 4, 2)]
    assert torch.equal(maps[4], maps[3][..., ::2, ::2])
