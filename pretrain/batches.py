"""Samples to what the objective takes: batched, masked, and on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.batch import Units
from models.config import ModelConfig
from models.modalities import load_modality
from models.tokenizer import Tokenizer
from pretrain.config import ObjectiveConfig
from pretrain.data.lane import Sample
from pretrain.masking import UnitMask, draw_masks
from pretrain.objective import PairBatch


@dataclass(frozen=True)
class Batcher:
    """Makes micro-batches. A sample's masks depend on the seed, the step and its row, not on ranks or batch mates."""

    model: ModelConfig
    objective: ObjectiveConfig
    tokenizer: Tokenizer | None
    seed: int

    def make(self, samples: Sequence[Sample], *, step: int, first_row: int) -> PairBatch:
        """Batch and mask samples, on the CPU.

        Args:
            samples: of one micro-batch.
            step: of the training.
            first_row: of these samples in the whole batch.
        """
        inputs, units = {}, {}
        for name in self.objective.pair:
            options = self.model.modalities[name]
            modality = load_modality(name)
            inputs[name] = modality.collate([sample.tensors[name] for sample in samples], options)
            units[name] = modality.find_units(inputs[name], options)
        rngs = [np.random.default_rng((self.seed, step, first_row + row)) for row in range(len(samples))]
        return PairBatch(inputs=inputs, units=units, masks=self._draw_masks(inputs, units, rngs))

    def _draw_masks(
        self, inputs: Mapping[str, Any], units: Mapping[str, Units], rngs: Sequence[np.random.Generator]
    ) -> dict[str, UnitMask]:
        terms = self.objective.terms
        modalities = {name: term.modality for name, term in terms.items()}
        with_words = {term.modality for term in terms.values() if term.mask.kind == "words"}
        starts = {name: self._word_starts(name, inputs[name]) for name in with_words}
        return draw_masks(self.objective.masks, modalities, units, word_starts=starts, rngs=rngs)

    def _word_starts(self, name: str, ids: Tensor) -> Tensor:
        """Mark where words begin, (batch, tokens) bool with the class column first."""
        if self.tokenizer is None or name != "text":
            raise ValueError(f"a mask of kind 'words' for {name!r}, expected 'text' and a vocabulary")
        starts = torch.from_numpy(self.tokenizer.word_starts.copy())[ids]
        return torch.cat([starts.new_zeros(len(ids), 1), starts], dim=1)
