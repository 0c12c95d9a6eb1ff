"""The losses of a step, formulated plainly: every pass embeds its input anew, and spells its attention out."""

import torch
from torch import Tensor
from torch.nn import functional

from models.bench import plain
from models.bench.plain import Part
from pretrain.decoder import Decoder
from pretrain.objective import Objective, PairBatch


def total_loss(objective: Objective, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute what `Objective` computes in a single process, with its weights.

    Returns:
        The total, with gradient, and the contrast and every term, unweighted.
    """
    model, terms = objective.model, objective.config.terms
    alone = {name: _without_gradient_where_frozen(objective, name, value) for name, value in batch.inputs.items()}
    losses = {"contrast": _align(objective, {name: plain.project(model, name, x) for name, x in alone.items()})}
    found: dict[str, Tensor] = {}
    by_student = {term.modality: name for name, term in terms.items() if term.student == "alone"}
    for modality, name in by_student.items():
        found |= _study(objective, batch, {modality: name})
    together = {term.modality: name for name, term in terms.items() if term.student == "fused"}
    if together:
        found |= _study(objective, batch, together)
    with torch.no_grad():
        fused = plain.encode(model, batch.inputs)
    teachers = {"alone": alone, "fused": fused}
    for name, term in terms.items():
        losses[name] = _contrast(
            found[name],
            teachers[term.teacher][term.modality].detach(),
            masked=batch.masks[name].masked,
            real=batch.units[term.modality].real,
            scale=objective.config.dcl_scale,
            smoothing=objective.config.label_smoothing,
        )
    total = losses["contrast"] + sum(term.weight * losses[name] for name, term in terms.items())
    return total, losses


def _without_gradient_where_frozen(objective: Objective, name: str, value: object) -> Tensor:
    """Run one modality alone; the published second stage keeps no gradient of the frozen one."""
    own = objective.model.own_parameters(name).values()
    with torch.set_grad_enabled(torch.is_grad_enabled() and any(each.requires_grad for each in own)):
        return plain.encode(objective.model, {name: value})[name]


def _align(objective: Objective, vectors: dict[str, Tensor]) -> Tensor:
    first, second = vectors.values()
    scale = objective.model.logit_scale.exp()
    target = torch.arange(len(first))
    there = functional.cross_entropy(scale * first @ second.detach().t(), target)
    back = functional.cross_entropy(scale * second @ first.detach().t(), target)
    return (there + back) / 2


def _study(objective: Objective, batch: PairBatch, names: dict[str, str]) -> dict[str, Tensor]:
    """Run one masked pass and the decoder; by term."""
    inputs = {modality: batch.inputs[modality] for modality in names}
    kept = {modality: batch.masks[name].kept for modality, name in names.items()}
    encoded = plain.encode(objective.model, inputs, kept)
    decoder = objective.decoder
    assert decoder is not None, "terms need a decoder"
    parts = {
        modality: _fill_in(decoder, modality, encoded[modality], kept[modality], batch.units[modality].real)
        for modality in names
    }
    decoded = plain.run_encoder(decoder.encoder, parts)
    return {name: plain.run_linear(decoder.outputs[modality], decoded[modality]) for modality, name in names.items()}


def _fill_in(decoder: Decoder, name: str, features: Tensor, kept: Tensor, real: Tensor) -> Part:
    projected = plain.run_linear(decoder.inputs[name], features)
    full = decoder.mask_tokens[name].expand(*real.shape, -1).clone()
    rows, slots = (kept >= 0).nonzero(as_tuple=True)
    full[rows, kept[rows, slots]] = projected[rows, slots]
    full = full + decoder.positions[name][: real.shape[1]]
    return Part(full.masked_fill(~real[..., None], 0), ~real)


def _contrast(
    student: Tensor, teacher: Tensor, *, masked: Tensor, real: Tensor, scale: float, smoothing: float
) -> Tensor:
    places = torch.full(real.shape, -1)
    candidates = real.clone()
    candidates[:, 0] = False
    places[candidates] = torch.arange(int(candidates.sum()))
    queries, keys = (functional.normalize(x, dim=1) for x in (student[masked], teacher[candidates]))
    log_probabilities = functional.log_softmax(scale * queries @ keys.t(), dim=1)
    wrong = smoothing / (len(keys) - 1)
    hit = -log_probabilities.gather(1, places[masked][:, None])[:, 0]
    return ((1 - smoothing - wrong) * hit - wrong * log_probabilities.sum(dim=1)).mean()
