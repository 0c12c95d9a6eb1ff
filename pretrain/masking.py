"""Which units each student pass hides and which it keeps.

A term is one pass over one modality, with a mask of its own. All randomness of a sample comes from its own generator,
so neither the batch around it nor the number of processes moves its masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.batch import Units
from models.config import unknown_name
from pretrain.config import MaskConfig

BoolArray = NDArray[np.bool_]

NOT_KEPT = -1
"""Fills up the kept positions of a sample that keeps fewer than the longest of its batch."""


@dataclass(frozen=True)
class UnitMask:
    """What one term hides in a batch of one modality, and what it keeps."""

    masked: Tensor
    """(batch, tokens), bool; the class first, which is never masked."""
    kept: Tensor
    """(batch, most kept of a sample), int64: positions of the real units that are not masked, ascending, the class's 0
    first, filled up with -1."""


def count_units(num_units: int, ratio: float) -> int:
    """Count the units that a mask hides, rounding down.

    Source: reference one_peace/data/pretrain_data/image_text_pretrain_dataset.py.
    """
    return int(num_units * ratio)


def count_words(num_words: int, ratio: float) -> int:
    """Count the words that a mask hides, rounding up; in float32, where 0.3 of 50 words is 16.

    Source: reference one_peace/data/pretrain_data/image_text_pretrain_dataset.py.
    """
    return int(np.ceil(np.float32(num_words) * np.float32(ratio)))


def mask_units(
    candidates: BoolArray, count: int, rng: np.random.Generator, *, first: BoolArray | None = None
) -> BoolArray:
    """Mask exactly `count` of one sample's candidates, all equally likely.

    Args:
        candidates: (tokens,), what may be masked.
        count: how many are.
        rng: the sample's generator.
        first: (tokens,), candidates of which none is spared while others are masked.

    Returns:
        (tokens,), True is masked.

    Raises:
        ValueError: there are not that many candidates.
    """
    positions = np.flatnonzero(candidates)
    if not 0 <= count <= len(positions):
        raise ValueError(f"{count} units to mask, expected 0 to {len(positions)}, the number of candidates; lower it")
    order = rng.permutation(positions)
    if first is not None:
        order = order[np.argsort(~first[order], kind="stable")]
    masked = np.zeros_like(candidates)
    masked[order[:count]] = True
    return masked


def mask_words(candidates: BoolArray, starts: BoolArray, rng: np.random.Generator, *, ratio: float) -> BoolArray:
    """Mask whole words of one sample.

    Args:
        candidates: (tokens,), what may be masked.
        starts: (tokens,), where a word begins; candidates before the first start belong to no word and stay.
        rng: the sample's generator.
        ratio: masked part of the words.

    Returns:
        (tokens,), True is masked.
    """
    word_of = np.cumsum(starts & candidates)
    num_words = int((starts & candidates).sum())
    chosen = rng.permutation(num_words)[: count_words(num_words, ratio)] + 1
    return candidates & np.isin(word_of, chosen)


def mask_spans(candidates: BoolArray, ratio: float, rng: np.random.Generator, *, span: int, adjust: float) -> BoolArray:
    """Mask runs of one sample's frames, then single frames more or fewer until the count is exact.

    Args:
        candidates: (tokens,), frames that may be masked; taken as one unbroken row.
        ratio: masked part of the frames.
        rng: the sample's generator.
        span: frames in a run; runs may overlap and are cut off at the ends.
        adjust: added to `ratio` for the number of runs.

    Returns:
        (tokens,), True is masked.

    Source: reference one_peace/utils/data_utils.py.
    """
    positions = np.flatnonzero(candidates)
    length = len(positions)
    hidden = np.zeros(length, dtype=bool)
    if length:
        centres = rng.integers(0, length, size=int(length * ((ratio + adjust) / span)))
        runs = centres[:, None] + np.arange(span) - span // 2
        hidden[np.clip(runs, 0, length - 1)] = True
    surplus = int(hidden.sum()) - count_units(length, ratio)
    pool = np.flatnonzero(hidden if surplus > 0 else ~hidden)
    flipped = rng.choice(pool, size=abs(surplus), replace=False)
    hidden[flipped] = ~hidden[flipped]
    masked = np.zeros_like(candidates)
    masked[positions[hidden]] = True
    return masked


def draw_masks(
    configs: Mapping[str, MaskConfig],
    modalities: Mapping[str, str],
    units: Mapping[str, Units],
    *,
    word_starts: Mapping[str, Tensor],
    rngs: Sequence[np.random.Generator],
) -> dict[str, UnitMask]:
    """Draw the masks of every term for a batch, in config order; a complement waits for what it complements.

    A sample too short for any unit to be masked has an empty mask.

    Args:
        configs: by term.
        modalities: by term, the modality that it masks.
        units: by modality.
        word_starts: by modality, (batch, tokens), bool; needed only where words are masked.
        rngs: one a sample; each is drawn from, term after term.

    Raises:
        ValueError: a term complements one that is unknown, of another modality, or, by way of others, itself;
            units or word starts are missing or of other sizes.
    """
    drawn: dict[str, BoolArray] = {}
    for term in _drawing_order(configs, modalities):
        config, modality = configs[term], modalities[term]
        candidates = _candidates(term, units.get(modality), num_samples=len(rngs))
        starts = _starts(term, word_starts.get(modality), candidates) if config.kind == "words" else None
        other = None if config.complements is None else drawn[config.complements]
        rows = [
            _draw_row(
                config,
                candidates[row],
                rng=rng,
                starts=None if starts is None else starts[row],
                first=None if other is None else ~other[row],
            )
            for row, rng in enumerate(rngs)
        ]
        drawn[term] = np.stack(rows)
    return {term: _as_unit_mask(drawn[term], units[modalities[term]].real) for term in configs}


def _draw_row(
    config: MaskConfig,
    candidates: BoolArray,
    *,
    rng: np.random.Generator,
    starts: BoolArray | None,
    first: BoolArray | None,
) -> BoolArray:
    """Mask one sample as its config says."""
    if config.kind == "spans":
        return mask_spans(candidates, config.ratio, rng, span=config.span, adjust=config.adjust)
    if config.kind == "words":
        assert starts is not None  # the caller has looked them up
        return mask_words(candidates, starts, rng, ratio=config.ratio)
    count = count_units(int(candidates.sum()), config.ratio)
    return mask_units(candidates, count, rng, first=first)


def _as_unit_mask(masked: BoolArray, real: Tensor) -> UnitMask:
    """Add the kept positions to a mask, on the device of its units."""
    on_device = torch.from_numpy(masked).to(real.device)
    kept = [row.nonzero()[:, 0] for row in real & ~on_device]
    return UnitMask(on_device, pad_sequence(kept, batch_first=True, padding_value=NOT_KEPT))


def _drawing_order(configs: Mapping[str, MaskConfig], modalities: Mapping[str, str]) -> list[str]:
    """Order terms as in the config, but each after the one that it complements."""
    order: list[str] = []
    known = {term: modalities[term] for term in configs if term in modalities}
    for term in configs:
        if term not in known:
            raise ValueError(f"mask of {term!r} without a modality, expected one for each term; name it")
        chain = [term]
        while chain[-1] not in order and (other := configs[chain[-1]].complements) is not None:
            _check_complement(chain, other, modalities=known)
            chain.append(other)
        order.extend(name for name in reversed(chain) if name not in order)
    return order


def _check_complement(chain: Sequence[str], other: str, *, modalities: Mapping[str, str]) -> None:
    """Say what is wrong with the term that the last one of a chain complements."""
    term = chain[-1]
    if other not in modalities:
        raise ValueError(f"mask of {term!r} complements an {unknown_name('term', other, modalities)}")
    if other in chain:
        circle = " -> ".join([*chain, other])
        raise ValueError(f"masks complement each other in a circle: {circle}; leave one `complements` out")
    if modalities[other] != modalities[term]:
        raise ValueError(
            f"mask of {term!r}, {modalities[term]}, complements {other!r}, {modalities[other]}; expected one modality"
        )


def _candidates(term: str, units: Units | None, *, num_samples: int) -> BoolArray:
    """Give what a term may mask, once it has been checked."""
    if units is None:
        raise ValueError(f"no units to mask for {term!r}; give those of its modality")
    real, maskable = units.real.cpu().numpy(), units.maskable.cpu().numpy()
    if real.shape != maskable.shape or len(real) != num_samples:
        raise ValueError(
            f"units of {term!r}: real {real.shape}, maskable {maskable.shape}, {num_samples} generators;"
            " expected one shape and one generator a sample"
        )
    if not real[:, 0].all() or maskable[:, 0].any() or (maskable & ~real).any():
        raise ValueError(f"units of {term!r}: the class, first, must be real, and it and padding never maskable")
    return maskable


def _starts(term: str, starts: Tensor | None, candidates: BoolArray) -> BoolArray:
    """Give where a term's words begin, once it has been checked."""
    shape = None if starts is None else tuple(starts.shape)
    if starts is None or shape != candidates.shape:
        raise ValueError(
            f"word starts of {term!r} of shape {shape}, expected {candidates.shape}; give them in word_starts"
        )
    return starts.cpu().numpy()
