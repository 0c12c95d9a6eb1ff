"""One step of pretraining: which passes are run, who teaches whom, and what it all adds up to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.batch import Embedded, Tokens, Units
from models.contrast import align, read_scale
from models.encoder import FusionEncoder
from models.modalities.base import Adapter
from models.onepeace import OnePeace
from models.world import Negatives
from pretrain.config import ObjectiveConfig, PassName, TermConfig
from pretrain.decoder import Decoder, KeptTokens
from pretrain.losses import denoising_loss
from pretrain.masking import UnitMask


@dataclass(frozen=True)
class PairBatch:
    """Samples of one pair of modalities, as the objective takes them."""

    inputs: Mapping[str, Any]
    """By modality, what its adapter takes."""
    units: Mapping[str, Units]
    """By modality."""
    masks: Mapping[str, UnitMask]
    """By term."""


@dataclass(frozen=True)
class StepLosses:
    """What one batch of a pair costs."""

    total: Tensor
    """Scalar with gradient: the contrast and the weighted terms."""
    terms: Mapping[str, Tensor]
    """`contrast` and every denoising term, unweighted scalars without gradient."""
    hits: Mapping[str, Tensor]
    """By the modality that asks, how many own rows found their partner in the whole batch."""
    scale: Tensor
    """What the contrast's cosines were multiplied by."""


Gather = Callable[[Mapping[str, Tensor]], Negatives]
"""Own features by modality to those of the whole batch."""


def own_rows(vectors: Mapping[str, Tensor]) -> Negatives:
    """Gather in a single process: the own rows are the whole batch."""
    return Negatives({name: value.detach() for name, value in vectors.items()}, first_row=0)


class Objective(nn.Module):
    """The model, the decoder, and the losses that train them.

    Every use goes through `forward`, so that sharding by FSDP sees each one.

    Args:
        model: with the pair's modalities.
        decoder: of the same modalities; None where there is no term.
        config: the pair, the terms and their weights.

    Source: paper, Pretraining; reference one_peace/criterions/{image_text,audio_text}_pretrain_loss.py.
    """

    def __init__(self, model: OnePeace, decoder: Decoder | None, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model = model
        self.decoder = decoder
        self.config = config
        self.denoise = denoising_loss(config.loss, scale=config.dcl_scale, label_smoothing=config.label_smoothing)

    @property
    def encoders(self) -> list[FusionEncoder]:
        """The model's, and the decoder's where there is one."""
        return [part.encoder for part in (self.model, self.decoder) if part is not None]

    def forward(self, batch: PairBatch, gather: Gather | None = own_rows) -> StepLosses | dict[str, Tensor]:
        """Compute the losses of a batch; with `gather=None` only its features, (batch, dim) unit vectors.

        Args:
            batch: samples of this process.
            gather: gives the features of the whole batch for the own ones.
        """
        embedded = self.embed(batch)
        alone = self.encode_alone(embedded)
        vectors = self._project(alone)
        if gather is None:
            return vectors
        scale = read_scale(self.model.logit_scale)
        alignment = align(vectors, gather(vectors), scale=scale)
        teachers = self.teach(embedded, alone)
        students = self.study(embedded, batch)
        total, terms = alignment.loss, {"contrast": alignment.loss.detach()}
        for name, term in self.config.terms.items():
            loss = self.denoise(
                students[name],
                teachers[term.teacher, term.modality],
                masked=batch.masks[name].masked,
                real=batch.units[term.modality].real,
            )
            total = total + term.weight * loss
            terms[name] = loss.detach()
        return StepLosses(total, terms, alignment.hits, scale.detach())

    def embed(self, batch: PairBatch) -> dict[str, Embedded]:
        """Run the stems once; every pass goes on from here."""
        return {name: self._adapter(name).embed(value) for name, value in batch.inputs.items()}

    def encode_alone(self, embedded: Mapping[str, Embedded]) -> dict[str, Tokens]:
        """Run the whole sequences, each modality alone."""
        return {name: self._encode({name: self._place(name, value)})[name] for name, value in embedded.items()}

    def teach(
        self, embedded: Mapping[str, Embedded], alone: Mapping[str, Tokens]
    ) -> dict[tuple[PassName, str], Tensor]:
        """Give what students are compared with, (batch, tokens, dim) by pass and modality, without gradient."""
        teachers: dict[tuple[PassName, str], Tensor] = {
            ("alone", name): tokens.features.detach() for name, tokens in alone.items()
        }
        if any(term.teacher == "fused" for term in self.config.terms.values()):
            with torch.no_grad():
                fused = self._encode({name: self._place(name, value) for name, value in embedded.items()})
            teachers |= {("fused", name): tokens.features for name, tokens in fused.items()}
        return teachers

    def study(self, embedded: Mapping[str, Embedded], batch: PairBatch) -> dict[str, Tensor]:
        """Run the masked passes and the decoder; (batch, tokens, dim) by term."""
        found: dict[str, Tensor] = {}
        for terms in _by_pass(self.config.terms):
            names = {self.config.terms[term].modality: term for term in terms}
            kept = {name: batch.masks[term].kept for name, term in names.items()}
            encoded = self._encode({name: self._place(name, embedded[name], kept[name]) for name in names})
            seen = {
                name: KeptTokens(tokens.features, kept[name], batch.units[name].real)
                for name, tokens in encoded.items()
            }
            assert self.decoder is not None, "terms need a decoder"
            found |= {names[name]: decoded for name, decoded in self.decoder(seen).items()}
        return found

    def _adapter(self, name: str) -> Adapter:
        return cast("Adapter", self.model.adapters[name])

    def _place(self, name: str, embedded: Embedded, kept: Tensor | None = None) -> Tokens:
        return self._adapter(name).place(embedded, kept)

    def _encode(self, tokens: Mapping[str, Tokens]) -> dict[str, Tokens]:
        encoded: dict[str, Tokens] = self.model.encoder(tokens)
        return encoded

    def _project(self, alone: Mapping[str, Tokens]) -> dict[str, Tensor]:
        return {
            name: functional.normalize(self.model.projections[name](tokens.features[:, 0]), dim=1)
            for name, tokens in alone.items()
        }


def _by_pass(terms: Mapping[str, TermConfig]) -> list[list[str]]:
    """Group the terms by the masked pass that serves them: one for each modality alone, one for the fused pair."""
    groups: dict[str, list[str]] = {}
    for name, term in terms.items():
        groups.setdefault(term.modality if term.student == "alone" else "", []).append(name)
    return list(groups.values())
