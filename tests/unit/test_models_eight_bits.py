"""Eight bits a number: every code is found, rounding loses nothing on average, and blocks keep to their row."""

import pytest
import torch
from torch import Tensor

from models.eight_bits import CodeTable, count_blocks, dequantize, quantize, signed_values, unsigned_values

TABLES = {"signed": signed_values(), "unsigned": unsigned_values(), "squares": unsigned_values().square()}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(kind: str, *shape: int, seed: int = 0) -> Tensor:
    """Numbers over several powers of ten, as moments are; of both signs where the table has both."""
    values = torch.randn(shape, generator=seeded(seed)) * 10 ** -(3 * torch.rand(shape, generator=seeded(seed + 1)))
    return values if kind == "signed" else values.square()


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_has_256_rising_values_and_exact_ends(kind: str) -> None:
    values = TABLES[kind]
    assert values.shape == (256,)
    assert bool((values.diff() > 0).all())
    assert (values[0].item(), values[-1].item()) == (-1.0 if kind == "signed" else 0.0, 1.0)
    assert bool((values == 0).any())


@pytest.mark.parametrize("kind", TABLES)
def test_the_code_below_a_number_is_the_one_a_search_finds(kind: str) -> None:
    values = TABLES[kind]
    beside = [torch.nextafter(values, torch.full((), end)).clamp(values[0].item(), 1.0) for end in (-2.0, 2.0)]
    unit = torch.cat([values, *beside, draw(kind, 50_000).clamp(-1, 1), torch.zeros(1)])
    expected = (torch.searchsorted(values, unit, right=True) - 1).clamp(max=254)
    assert torch.equal(CodeTable.of(values).below(unit), expected)


@pytest.mark.parametrize("kind", TABLES)
def test_a_number_becomes_one_of_its_two_neighbours(kind: str) -> None:
    values, numbers = TABLES[kind], draw(kind, 6, 256)
    codes, scales = quantize(numbers, CodeTable.of(values), seeded())
    unit = numbers / scales
    place = torch.searchsorted(values, unit.contiguous())
    assert bool(((codes == place) | (codes == (place - 1).clamp(min=0))).all())
    assert torch.equal(scales[:, 0], numbers.abs().amax(dim=1))


@pytest.mark.parametrize("kind", TABLES)
def test_on_average_rounding_loses_nothing(kind: str) -> None:
    table, numbers, generator = CodeTable.of(TABLES[kind]), draw(kind, 3, 256), seeded()
    repeats = 400
    mean = sum(dequantize(*quantize(numbers, table, generator), table) for _ in range(repeats)) / repeats
    scales = numbers.abs().amax(dim=1, keepdim=True)
    code = table.below((numbers / scales).contiguous())
    steps = (table.values[code + 1] - table.values[code]) * scales
    error = ((mean - numbers) / steps)[code > 0]  # below the first code nothing becomes zero
    assert error.abs().max().item() < 5 * 0.5 / repeats**0.5
    assert abs(error.mean().item()) < 5 * 0.5 / (repeats * len(error)) ** 0.5


def test_zero_stays_zero_and_without_a_sign_nothing_else_becomes_zero() -> None:
    tiny = torch.tensor([[1.0, 0.0, 1e-30, 1e-9, 3e-14]])
    table = CodeTable.of(TABLES["squares"])
    back = dequantize(*quantize(tiny, table, seeded()), table)
    assert (back == 0).tolist() == [[False, True, False, False, False]]
    nothing = torch.zeros(2, 300)
    for values in TABLES.values():
        assert torch.equal(
            dequantize(*quantize(nothing, CodeTable.of(values), seeded()), CodeTable.of(values)), nothing
        )


@pytest.mark.parametrize("kind", TABLES)
def test_what_came_out_of_codes_goes_back_into_the_same(kind: str) -> None:
    table = CodeTable.of(TABLES[kind])
    codes, scales = quantize(draw(kind, 5, 300), table, seeded())
    again, same_scales = quantize(dequantize(codes, scales, table), table, seeded(9))
    assert torch.equal(scales, same_scales)
    assert torch.equal(codes, again)


@pytest.mark.parametrize(("width", "blocks"), [(1, 1), (256, 1), (257, 2), (600, 3), (1536, 6)])
def test_blocks_are_even_and_an_outlier_harms_its_own_alone(width: int, blocks: int) -> None:
    table = CodeTable.of(TABLES["signed"])
    numbers = draw("signed", 3, width)
    before, scales = quantize(numbers, table, seeded())
    assert scales.shape == (3, blocks)
    assert count_blocks(width) == blocks
    numbers[1, 0] = 1e6
    after, other = quantize(numbers, table, seeded())
    changed = (before != after).nonzero()
    size = -(-width // blocks)
    assert {tuple(place) for place in changed.tolist()} <= {(1, column) for column in range(size)}
    assert (other != scales).nonzero().tolist() == [[1, 0]]
