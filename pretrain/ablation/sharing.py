"""What two modalities have in common: the encoder of the model, and the ones that the paper compares it with."""

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from models.batch import Tokens
from models.config import ModelConfig
from models.encoder import FusionEncoder, FusionLayer, Sequenced
from models.onepeace import OnePeace
from models.training import Recompute
from pretrain.ablation.config import Sharing
from pretrain.config import StageConfig
from pretrain.objective import Objective
from pretrain.stages import build_objective


class SeparateEncoders(nn.Module):
    """One encoder for each modality, called like a `FusionEncoder` with one modality at a time.

    Args:
        encoders: by modality.
    """

    def __init__(self, encoders: Mapping[str, FusionEncoder]) -> None:
        super().__init__()
        self.by_modality = nn.ModuleDict(dict(encoders))

    def forward(self, tokens: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """Encode one modality; keys, shapes and errors as of `join` and `FusionEncoder.forward`."""
        return self.encode([self.join(tokens)])[0]

    def join(self, tokens: Mapping[str, Tokens]) -> Sequenced:
        """Prepare one modality; see `FusionEncoder.join`.

        Raises:
            ValueError: several modalities, which have no attention in common, or an unknown one.
        """
        if len(tokens) != 1:
            raise ValueError(f"{', '.join(tokens)} in one pass, expected one modality: attention is not shared here")
        (name,) = tokens
        if name not in self.by_modality:
            raise ValueError(f"this model has no modality {name!r}, only {', '.join(self.by_modality)}")
        return self._own(name).join(tokens)

    def encode(self, passes: Sequence[Sequenced]) -> list[dict[str, Tokens]]:
        """Encode each pass by the encoder of its modality; see `FusionEncoder.encode`."""
        return [self._own(next(iter(sequence.spans))).encode([sequence])[0] for sequence in passes]

    def encode_classes(self, passes: Sequence[Sequenced]) -> list[dict[str, Tensor]]:
        """Encode the class of each pass; see `FusionEncoder.encode_classes`."""
        return [self._own(next(iter(sequence.spans))).encode_classes([sequence])[0] for sequence in passes]

    def _own(self, name: str) -> FusionEncoder:
        return cast("FusionEncoder", self.by_modality[name])

    @property
    def encoders(self) -> tuple[FusionEncoder, ...]:
        """In the order of the modalities."""
        return tuple(cast("FusionEncoder", encoder) for encoder in self.by_modality.values())

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """Of all modalities, one after the other."""
        return tuple(layer for encoder in self.encoders for layer in encoder.layers)

    @property
    def recompute(self) -> Recompute:
        """What of a layer is computed again in the backward pass."""
        return self.encoders[0].recompute

    @recompute.setter
    def recompute(self, value: Recompute) -> None:
        for encoder in self.encoders:
            encoder.recompute = value


def build_variant(config: StageConfig, *, base: StageConfig, sharing: Sharing) -> Objective:
    """Build the objective of a variant with the weights that all variants of its seed start from.

    Weights are drawn for the whole stage, decoder included, and a variant takes the part that it has. What it has
    several of, such as an attention for each modality, starts from equal copies.

    Args:
        config: of the variant.
        base: of the whole stage; its seed is not looked at.
        sharing: what the modalities have in common.
    """
    whole = build_objective(base.model_copy(update={"seed": config.seed}))
    share(whole.model, sharing)
    return Objective(whole.model, whole.decoder if config.objective.terms else None, config.objective)


def share(model: OnePeace, sharing: Sharing) -> None:
    """Change in place what the modalities of a model have in common; weights stay, where they stay in use.

    Every modality keeps its adapter, its final norm and its projection. Beside its attention, an encoder of its own has
    norms and layer scales of its own.

    Args:
        model: with the shared attention of the paper.
        sharing: `attention` changes nothing; `attention_and_ffn` gives all modalities the first one's feed-forwards;
            `nothing` gives each an encoder of its own; `ffn` does that, with the first one's feed-forwards for all.

    Source: paper, ablation of the structure.
    """
    if sharing == "attention_and_ffn":
        for layer in model.encoder.layers:
            _tie(cast("FusionLayer", layer), cast("FusionLayer", layer))
    if sharing in ("ffn", "nothing"):
        encoders = {name: _copy_branch(model.encoder, model.config, name) for name in model.config.modalities}
        if sharing == "ffn":
            first, *others = encoders.values()
            for other in others:
                for source, layer in zip(first.layers, other.layers, strict=True):
                    _tie(cast("FusionLayer", layer), cast("FusionLayer", source))
        # Not an assignment: the attribute is declared as the encoder of the paper.
        model.add_module("encoder", SeparateEncoders(encoders))


def _tie(layer: FusionLayer, source: FusionLayer) -> None:
    """Let all modalities of a layer use the first feed-forward of `source`."""
    shared = next(iter(source.ffn.values()))
    for name in list(layer.ffn):
        layer.ffn[name] = shared


def _copy_branch(encoder: FusionEncoder, config: ModelConfig, name: str) -> FusionEncoder:
    """Build an encoder of one modality with the weights that the shared one has for it."""
    branch, state = FusionEncoder(config.branch(name)), encoder.state_dict()
    branch.load_state_dict({key: state[key] for key in branch.state_dict()})
    return branch


def count_parameters(model: OnePeace) -> int:
    """Count a model's parameters, each once however many modalities use it; the decoder is not in it."""
    return sum(parameter.numel() for parameter in model.parameters())
