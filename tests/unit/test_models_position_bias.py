"""Relative position buckets and tables say what the formulas say, and resizing keeps what has no place."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.layers.position_bias import (
    PositionBias,
    RelativeTables,
    grid_buckets,
    num_grid_rows,
    num_token_rows,
    resize_grid_table,
    resize_positions,
    token_buckets,
)

CPU = torch.device("cpu")
STORED = {"text_16": 16, "text_256": 256, "audio_24": 24, "audio_512": 512, "image_4": 4, "image_8": 8, "image_16": 16}


def slow_token_bucket(query: int, key: int, bucket_size: int) -> int:
    """The published formula, one pair at a time, in double precision."""
    if query == 0 or key == 0:
        return 2 * bucket_size - 1 + (2 if query == key else 0 if query == 0 else 1)
    distance, mid = query - key, bucket_size // 2
    if abs(distance) <= mid:
        return distance + bucket_size - 1
    share = math.log(abs(distance) / mid) / math.log(1023 / mid)
    return int(math.copysign(mid + math.ceil(share * (mid - 1)), distance)) + bucket_size - 1


def slow_grid_bucket(query: int, key: int, side: int) -> int:
    span = 2 * side - 1
    if query == 0 or key == 0:
        return span**2 + (2 if query == key else 0 if query == 0 else 1)
    (y, x), (other_y, other_x) = divmod(query - 1, side), divmod(key - 1, side)
    return (y - other_y + side - 1) * span + (x - other_x + side - 1)


@settings(max_examples=25, deadline=None)
@given(
    bucket_size=st.sampled_from([2, 3, 8, 16, 37, 256, 512]),
    pairs=st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 1023)), min_size=1, max_size=60),
)
def test_token_buckets_equal_the_formula(bucket_size: int, pairs: list[tuple[int, int]]) -> None:
    buckets = token_buckets(1024, bucket_size, CPU)
    for query, key in pairs:
        assert buckets[query, key] == slow_token_bucket(query, key, bucket_size), (query, key)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_grid_buckets_equal_the_formula(side: int) -> None:
    tokens = side**2 + 1
    expected = [[slow_grid_bucket(query, key, side) for key in range(tokens)] for query in range(tokens)]
    assert grid_buckets(side, CPU).tolist() == expected


@pytest.mark.parametrize("bucket_size", [2, 8, 33, 256])
def test_every_token_bucket_is_a_row_of_the_table(bucket_size: int) -> None:
    buckets = token_buckets(1024, bucket_size, CPU)
    assert int(buckets.min()) >= 0
    assert int(buckets.max()) == num_token_rows(bucket_size) - 1
    assert int(buckets[1:, 1:].max()) <= 2 * bucket_size - 2  # only the class token reads the class rows


@pytest.mark.parametrize("side", [1, 4, 7])
def test_a_grid_uses_every_row_of_its_table(side: int) -> None:
    used = grid_buckets(side, CPU).unique()
    assert used.tolist() == list(range(num_grid_rows(side)))


def test_a_shorter_sequence_has_the_corner_of_a_longer_one() -> None:
    long, short = token_buckets(40, 6, CPU), token_buckets(11, 6, CPU)
    assert torch.equal(long[:11, :11], short)


def test_opposite_distances_have_mirrored_buckets() -> None:
    inner = token_buckets(200, 12, CPU)[1:, 1:] - 11
    assert torch.equal(inner, -inner.t())


def test_a_sequence_beyond_the_published_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="1025 positions, expected at most 1024"):
        token_buckets(1025, 8, CPU)


@pytest.mark.golden
@pytest.mark.parametrize("name", STORED)
def test_buckets_equal_the_stored_ones(golden_dir, name: str) -> None:
    with np.load(golden_dir / "00_rel_pos_buckets.npz") as file:
        stored = torch.from_numpy(file[name].astype(np.int64))
    size = STORED[name]
    ours = grid_buckets(size, CPU) if name.startswith("image") else token_buckets(len(stored), size, CPU)
    assert torch.equal(ours, stored)


def test_the_bias_of_a_pair_is_its_row_of_the_table() -> None:
    table, buckets = torch.randn(7, 3), torch.randint(0, 7, (4, 5))
    bias = PositionBias(tables=(table,), buckets=buckets).at_layer(9)[0]
    assert bias.shape == (3, 4, 5)
    for query in range(4):
        for key in range(5):
            assert torch.equal(bias[:, query, key], table[buckets[query, key]])


def test_one_table_serves_every_layer_and_several_serve_one_each() -> None:
    buckets = torch.zeros(1, 1, dtype=torch.long)
    shared = PositionBias(tables=(torch.full((1, 2), 5.0),), buckets=buckets)
    owned = PositionBias(tables=tuple(torch.full((1, 2), float(n)) for n in range(3)), buckets=buckets)
    assert [float(shared.at_layer(n)[0, 0]) for n in range(3)] == [5.0, 5.0, 5.0]
    assert [float(owned.at_layer(n)[0, 0]) for n in range(3)] == [0.0, 1.0, 2.0]
    assert (shared.is_shared, owned.is_shared) == (True, False)


def test_gradient_flows_to_the_rows_in_use_only() -> None:
    tables = RelativeTables(1, 6, 2)
    tables(torch.tensor([[0, 2], [2, 5]])).at_layer(0).sum().backward()
    gradient = tables.tables[0].grad
    assert gradient is not None
    assert gradient[:, 0].tolist() == [1.0, 0.0, 2.0, 0.0, 0.0, 1.0]


def test_tables_start_at_zero() -> None:
    assert not any(table.any() for table in RelativeTables(3, 5, 2).tables)


def test_buckets_first_made_in_inference_mode_still_serve_training() -> None:
    with torch.inference_mode():
        token_buckets(5, 19, CPU), grid_buckets(6, CPU)
    tables = RelativeTables(1, num_token_rows(19), 2)
    tables(token_buckets(5, 19, CPU)).at_layer(0).sum().backward()
    assert tables.tables[0].grad is not None


def random_rows(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=15, deadline=None)
@given(source=st.integers(1, 6), target=st.integers(1, 9), seed=st.integers(0, 99))
def test_resizing_positions_keeps_the_class_row(source: int, target: int, seed: int) -> None:
    positions = random_rows(source**2 + 1, 3, seed)
    resized = resize_positions(positions, target)
    assert resized.shape == (target**2 + 1, 3)
    assert torch.equal(resized[0], positions[0])


def test_resizing_constant_positions_keeps_them() -> None:
    positions = torch.tensor([[9.0, 8.0], *[[1.5, -2.0]] * 9])
    torch.testing.assert_close(resize_positions(positions, 7)[1:], torch.tensor([[1.5, -2.0]]).expand(49, -1))


def test_resizing_positions_keeps_rows_rows_and_columns_columns() -> None:
    side = torch.arange(4.0)
    y, x = torch.meshgrid(side, side, indexing="ij")
    positions = torch.cat([torch.zeros(1, 2), torch.stack([y.flatten(), x.flatten()], dim=1)])
    resized = resize_positions(positions, 8)[1:].view(8, 8, 2)
    torch.testing.assert_close(resized[..., 0], resized[..., 1].t())
    assert (resized[1:, :, 0] > resized[:-1, :, 0]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_resizing_keeps_the_type(dtype: torch.dtype) -> None:
    assert resize_positions(torch.randn(10, 3, dtype=dtype), 5).dtype == dtype
    assert resize_grid_table(torch.randn(28, 2, dtype=dtype), 4).dtype == dtype


def test_the_same_grid_is_left_as_it_is() -> None:
    positions, table = torch.randn(17, 3), torch.randn(52, 2)
    assert resize_positions(positions, 4) is positions
    assert resize_grid_table(table, 4) is table


@settings(max_examples=10, deadline=None)
@given(source=st.integers(3, 5), growth=st.integers(1, 4), seed=st.integers(0, 99))
def test_enlarging_a_table_keeps_class_rows_and_the_centre(source: int, growth: int, seed: int) -> None:
    table = random_rows(num_grid_rows(source), 2, seed)
    resized = resize_grid_table(table, source + growth)
    assert resized.shape == (num_grid_rows(source + growth), 2)
    assert torch.equal(resized[-3:], table[-3:])
    centre, old_centre = ((2 * side - 1) ** 2 // 2 for side in (source + growth, source))
    torch.testing.assert_close(resized[centre], table[old_centre], rtol=0, atol=1e-5)


def test_each_head_is_enlarged_for_itself() -> None:
    table = torch.randn(28, 3)
    whole = resize_grid_table(table, 6)
    for head in range(3):
        assert torch.equal(whole[:, head : head + 1], resize_grid_table(table[:, head : head + 1], 6))


@pytest.mark.parametrize(("source", "target"), [(4, 3), (2, 4), (1, 3)])
def test_a_table_neither_shrinks_nor_grows_from_next_to_nothing(source: int, target: int) -> None:
    with pytest.raises(ValueError, match=f"a {source} x {source} grid cannot become one of {target} x {target}"):
        resize_grid_table(torch.zeros(num_grid_rows(source), 2), target)
