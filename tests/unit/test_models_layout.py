"""Rows stand modality by modality without padding, and find back to their sequences."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.layout import Layout, lay_out

Passes = list[dict[str, tuple[Tensor, Tensor | None]]]
NAMES = ("first", "second")


@st.composite
def pass_sets(draw: st.DrawFn) -> Passes:
    """One to three passes over one or two modalities, each token a number of its own, padded or not."""
    made: Passes = []
    for number in range(draw(st.integers(1, 3))):
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True))
        batch = draw(st.integers(1, 3))
        blocks: dict[str, tuple[Tensor, Tensor | None]] = {}
        for name in sorted(names):
            length = draw(st.integers(1, 4))
            tokens = torch.arange(batch * length).view(batch, length, 1) + 100.0 * (number * 2 + NAMES.index(name) + 1)
            lengths = torch.tensor(draw(st.lists(st.integers(1, length), min_size=batch, max_size=batch)))
            mask = torch.arange(length) >= lengths[:, None] if draw(st.booleans()) else None
            blocks[name] = (tokens, mask)
        made.append(blocks)
    return made


def make_layout(passes: Passes) -> tuple[Layout, Tensor]:
    shapes = [{name: (x.shape[0], x.shape[1]) for name, (x, _) in blocks.items()} for blocks in passes]
    layout = lay_out(shapes, [{name: mask for name, (_, mask) in blocks.items()} for blocks in passes])
    rows = torch.cat([layout.passes[number][name].pack(passes[number][name][0]) for number, name in layout.ordered()])
    return layout, rows


def real(tokens: Tensor, mask: Tensor | None) -> Tensor:
    return tokens if mask is None else tokens.masked_fill(mask[..., None], 0)


@settings(max_examples=60, deadline=None)
@given(passes=pass_sets())
def test_what_is_packed_is_unpacked_with_zeros_for_padding(passes: Passes) -> None:
    layout, rows = make_layout(passes)
    count = sum(int(x[..., 0].numel() if mask is None else (~mask).sum()) for b in passes for x, mask in b.values())
    assert len(rows) == count, "padding is no row"
    for number, blocks in enumerate(passes):
        for name, (tokens, mask) in blocks.items():
            assert torch.equal(layout.unpack(rows)[number][name], real(tokens, mask))


@settings(max_examples=60, deadline=None)
@given(passes=pass_sets())
def test_each_modality_is_one_unbroken_block(passes: Passes) -> None:
    layout, rows = make_layout(passes)
    parts = rows[:, 0].split(list(layout.counts.values()))
    for name, part in zip(layout.counts, parts, strict=True):
        assert {int(value) // 100 % 2 for value in part} <= {(NAMES.index(name) + 1) % 2}


@settings(max_examples=60, deadline=None)
@given(passes=pass_sets(), seed=st.integers(0, 99))
def test_samples_are_left_out_with_all_their_rows(passes: Passes, seed: int) -> None:
    layout, rows = make_layout(passes)
    generator = torch.Generator().manual_seed(seed)
    kept = [torch.rand(len(next(iter(blocks.values()))[0]), generator=generator) < 0.5 for blocks in passes]
    smaller, index = layout.keep(kept)
    assert torch.equal(index, index.sort()[0])
    for number, blocks in enumerate(passes):
        for name, (tokens, mask) in blocks.items():
            found = smaller.unpack(rows[index])[number][name]
            assert torch.equal(found, real(tokens, mask)[kept[number]])


@settings(max_examples=60, deadline=None)
@given(passes=pass_sets(), seed=st.integers(0, 99))
def test_the_classes_are_the_first_token_of_every_sample_that_is_left(passes: Passes, seed: int) -> None:
    layout, rows = make_layout(passes)
    generator = torch.Generator().manual_seed(seed)
    kept = [torch.rand(len(next(iter(blocks.values()))[0]), generator=generator) < 0.5 for blocks in passes]
    smaller, index = layout.keep(kept)
    classes, numbers = smaller.take_classes()
    assert torch.equal(numbers, numbers.sort()[0])
    for number, blocks in enumerate(passes):
        for name, (tokens, _) in blocks.items():
            found = classes.unpack(rows[index][numbers])[number][name]
            assert torch.equal(found, tokens[kept[number], :1])
