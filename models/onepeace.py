"""OnePeace: one adapter for each modality and the encoder they share."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.batch import Embedded, Shared, Tokens
from models.config import ModelConfig, unknown_name
from models.encoder import FusionEncoder
from models.layers.linear import Linear
from models.modalities import load_modality
from models.modalities.base import Adapter

INITIAL_TEMPERATURE = 0.07
MAX_LOGIT_SCALE = 100.0


class OnePeace(nn.Module):
    """The model of one size, with the modalities its config lists.

    Source: arXiv 2305.11172.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.adapters = nn.ModuleDict(
            {name: load_modality(name).build_adapter(options, config) for name, options in config.modalities.items()}
        )
        self.encoder = FusionEncoder(config)
        dim = config.embed_dim
        names = config.modalities if config.has_projection else ()
        self.projections = nn.ModuleDict({name: Linear(dim, dim) for name in names})
        if config.has_projection:
            self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / INITIAL_TEMPERATURE)))

    def encode(self, inputs: Mapping[str, Any]) -> dict[str, Tokens]:
        """Give features by modality for one batch, all its modalities fused in one sequence.

        Args:
            inputs: by modality, what its adapter takes; as `Shared` where sequences have parts of it in common.
        """
        encoded: dict[str, Tokens] = self.encoder({name: self._adapt(name, value) for name, value in inputs.items()})
        return encoded

    def embed(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Give (batch, dim) unit vectors by modality, comparable across modalities; each is encoded for itself."""
        return self.project({name: self._encode_class(name, value) for name, value in inputs.items()})

    def project(self, classes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bring class tokens by modality, (batch, dim), to where modalities are compared: unit vectors."""
        return {name: functional.normalize(self.projections[name](value), dim=1) for name, value in classes.items()}

    def own_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Give the parameters that only one modality uses: its adapter, feed-forwards, final norm and projection.

        Training these alone teaches the model a new modality and leaves the others as they were.

        Args:
            name: one of this model's modalities.

        Returns:
            Parameters by their name in the model.

        Raises:
            ValueError: the model has no such modality.
        """
        if name not in self.adapters:
            raise ValueError(unknown_name("modality", name, self.adapters))
        own = (f"adapters.{name}.", f"encoder.norms.{name}.", f"projections.{name}.")
        return {
            key: parameter
            for key, parameter in self.named_parameters()
            if key.startswith(own) or f".ffn.{name}." in key
        }

    def _encode_class(self, name: str, value: Any) -> Tensor:
        """Encode one modality for itself, and give its class tokens, (batch, dim)."""
        return self.encoder.encode_classes([self.encoder.join({name: self._adapt(name, value)})])[0][name]

    def _adapt(self, name: str, value: Any) -> Tokens:
        """Turn one modality's input into tokens; what sequences share goes through the stem once."""
        adapter = cast("Adapter", self.adapters[name])
        if not isinstance(value, Shared):
            tokens: Tokens = adapter(value)
            return tokens
        embedded = adapter.embed(value.inputs)
        padding = embedded.padding_mask
        return adapter.place(Embedded(embedded.units[value.rows], None if padding is None else padding[value.rows]))


def build_model(config: ModelConfig, *, seed: int) -> OnePeace:
    """Build a model with fresh weights that depend on the seed alone; the caller's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OnePeace(config)
        model.apply(initialise)
    return model


def initialise(module: nn.Module) -> None:
    """Start linear maps and embeddings as the published code does: normal, deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
