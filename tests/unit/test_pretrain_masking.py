"""Masks hide exactly what they promise, nothing that is not theirs, and depend on nothing but their sample."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import Units
from pretrain.config import MaskConfig
from pretrain.masking import count_units, count_words, draw_masks, mask_spans, mask_units, mask_words

quick = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 2**32 - 1)
ratios = st.floats(0.05, 0.95)
flags = st.lists(st.booleans(), min_size=1, max_size=60)

PICTURE = {
    "image": MaskConfig(kind="units", ratio=0.75),
    "image_in_pair": MaskConfig(kind="units", ratio=0.6875, complements="image"),
}
PAIR = {
    "text": MaskConfig(kind="words", ratio=0.15),
    "image": MaskConfig(kind="units", ratio=0.75),
    "text_in_pair": MaskConfig(kind="units", ratio=0.4, complements="text"),
    "image_in_pair": MaskConfig(kind="units", ratio=0.6875, complements="image"),
    "audio": MaskConfig(kind="spans", ratio=0.55),
}
MODALITIES = {"text": "text", "image": "image", "text_in_pair": "text", "image_in_pair": "image", "audio": "audio"}


def generators(*sample_seeds):
    return [np.random.default_rng(seed) for seed in sample_seeds]


def units_of(lengths, *, width=None, has_end=False):
    """A class, so many units, perhaps an end mark, and padding."""
    width = width or 1 + max(lengths) + has_end
    place, length = torch.arange(width)[None], torch.tensor(lengths)[:, None]
    return Units(real=place <= length + has_end, maskable=(place > 0) & (place <= length))


def starts_of(width, batch, *, every=3):
    """Every third token starts a word; the class, end mark and padding may count as starts too, as published."""
    starts = torch.arange(width) % every == 1
    starts[0] = True
    return starts.expand(batch, width)


def draw_batch(lengths, sample_seeds, *, configs=PAIR, extra=0):
    """Every kind of term over samples of these lengths."""
    units = {
        "text": units_of(lengths, width=max(lengths) + 2 + extra, has_end=True),
        "image": units_of([36] * len(lengths)),
        "audio": units_of([2 * length for length in lengths], width=2 * max(lengths) + 1 + extra),
    }
    starts = {"text": starts_of(units["text"].real.shape[1], len(lengths))}
    masks = draw_masks(configs, MODALITIES, units, word_starts=starts, rngs=generators(*sample_seeds))
    return units, starts, masks


@quick
@given(flags, seeds, st.floats(0, 1))
def test_units_are_masked_in_the_exact_number_and_among_candidates(row, seed, share):
    candidates = np.array(row)
    count = int(candidates.sum() * share)
    masked = mask_units(candidates, count, np.random.default_rng(seed))
    assert masked.sum() == count
    assert not (masked & ~candidates).any()


@quick
@given(flags, st.data(), seeds, st.floats(0, 1))
def test_none_of_the_first_is_spared_while_others_are_masked(row, data, seed, share):
    candidates = np.array(row)
    first = np.array(data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))))
    masked = mask_units(candidates, int(candidates.sum() * share), np.random.default_rng(seed), first=first)
    assert not ((candidates & first & ~masked).any() and (masked & ~first).any())


def test_every_unit_is_masked_equally_often():
    rng = np.random.default_rng(3)
    hits = sum(mask_units(np.ones(8, dtype=bool), 2, rng).astype(int) for _ in range(2000))
    assert np.abs(hits - 500).max() < 100  # more than five standard deviations


@pytest.mark.parametrize("count", [-1, 3])
def test_more_units_than_there_are_cannot_be_masked(count):
    with pytest.raises(ValueError, match=f"{count} units to mask, expected 0 to 2, .*; lower it"):
        mask_units(np.array([True, False, True]), count, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("number", "ratio", "expected"), [(256, 0.75, 192), (256, 0.6875, 176), (1, 0.4, 0), (2, 0.4, 0), (3, 0.4, 1)]
)
def test_units_are_counted_down(number, ratio, expected):
    assert count_units(number, ratio) == expected


@pytest.mark.parametrize(("number", "ratio", "expected"), [(50, 0.3, 16), (1, 0.15, 1), (20, 0.15, 3), (0, 0.4, 0)])
def test_words_are_counted_up_in_single_precision(number, ratio, expected):
    assert count_words(number, ratio) == expected


@quick
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), seeds, ratios)
def test_a_continuation_is_masked_when_its_start_is_and_only_then(row, seed, ratio):
    candidates, starts = np.array([pair[0] for pair in row]), np.array([pair[1] for pair in row])
    masked = mask_words(candidates, starts, np.random.default_rng(seed), ratio=ratio)
    state = False
    for is_candidate, is_start, is_masked in zip(candidates, starts, masked, strict=True):
        state = is_masked if is_candidate and is_start else state
        assert is_masked == (is_candidate and state)
    assert (masked & starts).sum() == count_words(int((starts & candidates).sum()), ratio)


@quick
@given(st.integers(0, 200), st.integers(0, 5), seeds, ratios, st.integers(1, 8), st.floats(0, 0.5))
def test_spans_mask_the_exact_number_of_frames(length, padding, seed, ratio, span, adjust):
    candidates = np.array([False] + [True] * length + [False] * padding)
    masked = mask_spans(candidates, ratio, np.random.default_rng(seed), span=span, adjust=adjust)
    assert masked.sum() == int(length * ratio)
    assert not (masked & ~candidates).any()


def test_spans_hide_frames_that_are_neighbours():
    def borders(span):
        rng = np.random.default_rng(5)
        masked = mask_spans(np.ones(4000, dtype=bool), 0.5, rng, span=span, adjust=0.1)
        return np.count_nonzero(np.diff(masked.astype(int)))

    assert borders(1) > 2 * borders(5)


def test_a_span_lies_around_its_centre_and_ends_at_the_edge():
    # One run only: 0.3 of 10 frames in runs of 3, so nothing is added or taken away unless an edge cuts the run.
    for seed in range(20):
        centre = np.random.default_rng(seed).integers(0, 10, size=1)[0]
        masked = mask_spans(np.ones(10, dtype=bool), 0.3, np.random.default_rng(seed), span=3, adjust=0.01)
        expected = set(range(centre - 1, centre + 2)) & set(range(10))
        assert expected <= set(np.flatnonzero(masked))


@quick
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(0, 3), seeds)
def test_class_end_mark_and_padding_are_kept_out_of_every_mask(lengths, extra, seed):
    units, _, masks = draw_batch(lengths, range(seed, seed + len(lengths)), extra=extra)
    for term, mask in masks.items():
        assert not (mask.masked & ~units[MODALITIES[term]].maskable).any()


@quick
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), seeds)
def test_kept_are_the_real_units_that_are_not_masked(lengths, seed):
    units, _, masks = draw_batch(lengths, range(seed, seed + len(lengths)))
    for term, mask in masks.items():
        visible = units[MODALITIES[term]].real & ~mask.masked
        assert mask.kept.dtype == torch.int64
        assert mask.kept.shape[1] == visible.sum(1).max()
        for row, kept in zip(visible, mask.kept.tolist(), strict=True):
            expected = row.nonzero()[:, 0].tolist()
            assert kept == expected + [-1] * (len(kept) - len(expected))
            assert kept[0] == 0


@quick
@given(seeds)
def test_the_fused_picture_hides_all_that_the_picture_alone_kept(seed):
    units = {"image": units_of([256, 256])}
    masks = draw_masks(PICTURE, MODALITIES, units, word_starts={}, rngs=generators(seed, seed + 1))
    alone, fused = masks["image"].masked, masks["image_in_pair"].masked
    assert alone.sum(1).tolist() == [192, 192]
    assert fused.sum(1).tolist() == [176, 176]
    assert not (units["image"].maskable & ~alone & ~fused).any()


@quick
@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), seeds)
def test_the_fused_text_hides_first_what_the_text_alone_kept(lengths, seed):
    units, _, masks = draw_batch(lengths, range(seed, seed + len(lengths)))
    alone, fused = masks["text"].masked, masks["text_in_pair"].masked
    for row, length in enumerate(lengths):
        count = int(length * 0.4)
        open_units = int((units["text"].maskable[row] & ~alone[row]).sum())
        assert int(fused[row].sum()) == count
        assert int((fused[row] & alone[row]).sum()) == max(0, count - open_units)


def test_a_sample_too_short_to_mask_has_an_empty_mask():
    config = {"text": MaskConfig(kind="units", ratio=0.4)}
    units = {"text": units_of([2, 5], has_end=True)}
    mask = draw_masks(config, MODALITIES, units, word_starts={}, rngs=generators(0, 1))["text"]
    assert mask.masked.sum(1).tolist() == [0, 2]
    assert mask.kept[0].tolist() == [0, 1, 2, 3, -1]


@quick
@given(seeds)
def test_the_same_seed_gives_the_same_masks(seed):
    first, second = (draw_batch([9, 21], (seed, seed + 1))[2] for _ in range(2))
    for term in PAIR:
        assert torch.equal(first[term].masked, second[term].masked)
        assert torch.equal(first[term].kept, second[term].kept)


def test_another_seed_gives_other_masks():
    first, second = (draw_batch([30], (seed,))[2] for seed in (0, 1))
    assert all(not torch.equal(first[term].masked, second[term].masked) for term in PAIR)


@quick
@given(st.integers(0, 30), st.integers(0, 40), seeds)
def test_batch_mates_and_padding_do_not_move_a_mask(length, other, seed):
    alone = draw_batch([length], [seed])[2]
    together = draw_batch([other, length], [seed + 7, seed], extra=2)[2]
    for term in PAIR:
        width = alone[term].masked.shape[1]
        assert torch.equal(together[term].masked[1, :width], alone[term].masked[0])
        assert not together[term].masked[1, width:].any()


def test_a_complement_may_stand_before_what_it_complements():
    turned = dict(reversed(PICTURE.items()))
    units = {"image": units_of([256])}
    masks = draw_masks(turned, MODALITIES, units, word_starts={}, rngs=generators(4))
    assert list(masks) == list(turned)
    straight = draw_masks(PICTURE, MODALITIES, units, word_starts={}, rngs=generators(4))
    for term in PICTURE:
        assert torch.equal(masks[term].masked, straight[term].masked)


def units_config(complements):
    return MaskConfig(kind="units", ratio=0.5, complements=complements)


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"a": units_config("c"), "b": units_config(None)}, "mask of 'a' complements an unknown term 'c'"),
        ({"a": units_config("a")}, "in a circle: a -> a; leave"),
        ({"a": units_config("b"), "b": units_config("d"), "d": units_config("a")}, "circle: a -> b -> d -> a"),
        ({"a": units_config("t"), "t": units_config(None)}, "'a', image, complements 't', text; expected one"),
        ({"x": units_config(None)}, "mask of 'x' without a modality"),
        ({"s": units_config(None)}, "no units to mask for 's'"),
        ({"t": MaskConfig(kind="words", ratio=0.5)}, r"word starts of 't' of shape None, expected \(1, 6\)"),
    ],
)
def test_terms_that_do_not_fit_are_one_clear_error(configs, message):
    modalities = {"a": "image", "b": "image", "d": "image", "t": "text", "s": "audio"}
    units = {"image": units_of([4]), "text": units_of([4], has_end=True)}
    with pytest.raises(ValueError, match=message) as error:
        draw_masks(configs, modalities, units, word_starts={}, rngs=generators(0))
    assert "\n" not in str(error.value)


def test_every_sample_needs_its_generator():
    with pytest.raises(ValueError, match=r"\(2, 5\).* 1 generators; expected one shape and one generator a sample"):
        draw_masks(PICTURE, MODALITIES, {"image": units_of([4, 4])}, word_starts={}, rngs=generators(0))


@pytest.mark.parametrize("fault", ["class", "padding"])
def test_units_that_may_hide_the_class_or_padding_are_refused(fault):
    good = units_of([4, 2])
    maskable = good.maskable.clone()
    maskable[(0, 0) if fault == "class" else (1, 4)] = True
    with pytest.raises(ValueError, match="the class, first, must be real, and it and padding never maskable"):
        draw_masks(PICTURE, MODALITIES, {"image": Units(good.real, maskable)}, word_starts={}, rngs=generators(0, 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "units", "ratio": 0.5, "span": 3}, "span 3 with kind 'units', expected kind 'spans'; leave span out"),
        ({"kind": "words", "ratio": 0.5, "adjust": 0.2}, "adjust 0.2 with kind 'words'"),
        (
            {"kind": "words", "ratio": 0.5, "complements": "x"},
            "complements 'x' with kind 'words', expected kind 'units'",
        ),
        ({"kind": "units", "ratio": 0.0}, "ratio 0.0: Input should be greater than 0"),
    ],
)
def test_a_setting_that_would_be_ignored_is_an_error(values, message):
    with pytest.raises(ValueError, match=message):
        MaskConfig.parse(values, where="test")


@pytest.mark.parametrize("config", PAIR.values(), ids=PAIR)
def test_a_resolved_config_reads_back(config):
    assert MaskConfig.parse(config.model_dump(), where="test") == config
