"""One step of pretraining: which passes are run, who teaches whom, and what it all adds up to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.batch import Embedded, Tokens, Units
from models.contrast import align, read_scale
from models.encoder import FusionEncoder, Sequenced
from models.modalities.base import Adapter
from models.onepeace import OnePeace
from models.world import Negatives
from pretrain.config import ObjectiveConfig, PassName
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
class Encoded:
    """What the passes of the encoder gave."""

    alone: Mapping[str, Tokens]
    """By modality, the whole sequences, each modality for itself."""
    teachers: Mapping[tuple[PassName, str], Tensor]
    """By pass and modality, (batch, tokens, dim) without gradient: what students are compared with."""
    students: Sequence[Mapping[str, KeptTokens]]
    """By masked pass and term."""


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
        if gather is None:
            return self.model.embed(batch.inputs)
        encoded = self.encode(batch)
        vectors = self.model.project({name: tokens.features[:, 0] for name, tokens in encoded.alone.items()})
        scale = read_scale(self.model.logit_scale)
        alignment = align(vectors, gather(vectors), scale=scale)
        students = self.decode(encoded.students)
        total, terms = alignment.loss, {"contrast": alignment.loss.detach()}
        for name, term in self.config.terms.items():
            loss = self.denoise(
                students[name],
                encoded.teachers[term.teacher, term.modality],
                masked=batch.masks[name].masked,
                real=batch.units[term.modality].real,
            )
            total = total + term.weight * loss
            terms[name] = loss.detach()
        return StepLosses(total, terms, alignment.hits, scale.detach())

    def encode(self, batch: PairBatch) -> Encoded:
        """Run every stem once, and every pass of the encoder: those that learn all together, and the others."""
        embedded = {name: self._adapter(name).embed(value) for name, value in batch.inputs.items()}
        # Drop path draws as passes are joined: these first, so that they drop the same as in `OnePeace.embed`.
        alone = {name: self._join({name: self._place(name, value)}) for name, value in embedded.items()}
        masked = [self._join(self._mask(terms, embedded, batch)) for terms in self._by_pass()]
        is_taught = any(term.teacher == "fused" for term in self.config.terms.values())
        fused = self._join({name: self._place(name, value) for name, value in embedded.items()}) if is_taught else None
        learning = [name for name in alone if self._learns(name)]
        found = self._run([*(alone[name] for name in learning), *masked])
        with torch.no_grad():
            others = [name for name in alone if name not in learning]
            fixed = self._run([*(alone[name] for name in others), *([] if fused is None else [fused])])
        tokens = {name: found[number][name] for number, name in enumerate(learning)}
        tokens |= {name: fixed[number][name] for number, name in enumerate(others)}
        teachers: dict[tuple[PassName, str], Tensor] = {
            ("alone", name): part.features.detach() for name, part in tokens.items()
        }
        if fused is not None:
            teachers |= {("fused", name): part.features for name, part in fixed[-1].items()}
        students = [
            {term: self._seen(term, part[self.config.terms[term].modality], batch) for term in terms}
            for terms, part in zip(self._by_pass(), found[len(learning) :], strict=False)
        ]
        return Encoded({name: tokens[name] for name in alone}, teachers, students)

    def decode(self, students: Sequence[Mapping[str, KeptTokens]]) -> dict[str, Tensor]:
        """Fill in what the masked passes did not see; (batch, tokens, dim) by term."""
        if not students:
            return {}
        assert self.decoder is not None, "terms need a decoder"
        modalities = {name: term.modality for name, term in self.config.terms.items()}
        decoded = self.decoder([{modalities[term]: part for term, part in seen.items()} for seen in students])
        return {term: part[modalities[term]] for seen, part in zip(students, decoded, strict=True) for term in seen}

    def _mask(self, terms: Sequence[str], embedded: Mapping[str, Embedded], batch: PairBatch) -> dict[str, Tokens]:
        """Give what one masked pass sees."""
        names = {self.config.terms[term].modality: term for term in terms}
        return {name: self._place(name, embedded[name], batch.masks[term].kept) for name, term in names.items()}

    def _seen(self, term: str, tokens: Tokens, batch: PairBatch) -> KeptTokens:
        units = batch.units[self.config.terms[term].modality]
        return KeptTokens(tokens.features, batch.masks[term].kept, units.real)

    def _learns(self, name: str) -> bool:
        """Tell whether a pass over one modality alone has anything to train."""
        others = {key for other in self.model.adapters if other != name for key in self.model.own_parameters(other)}
        used = (value for key, value in self.model.encoder.named_parameters() if f"encoder.{key}" not in others)
        return any(value.requires_grad for value in (*used, *self.model.own_parameters(name).values()))

    def _by_pass(self) -> list[list[str]]:
        """Group the terms by the masked pass that serves them: one for each modality alone, one for the fused pair."""
        groups: dict[str, list[str]] = {}
        for name, term in self.config.terms.items():
            groups.setdefault(term.modality if term.student == "alone" else "", []).append(name)
        return list(groups.values())

    def _adapter(self, name: str) -> Adapter:
        return cast("Adapter", self.model.adapters[name])

    def _place(self, name: str, embedded: Embedded, kept: Tensor | None = None) -> Tokens:
        return self._adapter(name).place(embedded, kept)

    def _join(self, tokens: Mapping[str, Tokens]) -> Sequenced:
        return self.model.encoder.join(tokens)

    def _run(self, passes: Sequence[Sequenced]) -> list[dict[str, Tokens]]:
        return self.model.encoder.encode(passes) if passes else []
