"""The light decoder of pretraining: the same encoder with other numbers, mask tokens, and a way in and out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from models.batch import Tokens
from models.config import ModelConfig
from models.encoder import FusionEncoder
from models.layers.linear import Linear
from models.modalities import load_modality
from pretrain.config import DecoderConfig

WITH_MASK_EMBEDDING: Final = ("audio",)  # the published decoder has one for these, and uses it nowhere


@dataclass(frozen=True)
class KeptTokens:
    """What a masked pass of the encoder gives for one modality, and where it belongs."""

    features: Tensor
    """(batch, kept, dim) after the encoder's final norm; the class first."""
    kept: Tensor
    """(batch, kept) int64, their numbers in the full sequence, padded with -1."""
    real: Tensor
    """(batch, tokens) bool: which positions of the full sequence are no padding."""


class Decoder(nn.Module):
    """Fills in what a masked pass did not see.

    Args:
        config: sizes.
        model: of the encoder whose tokens it reads and gives back.

    Source: paper, appendix; reference one_peace/models/one_peace/one_peace_pretrain.py. The class and mask embeddings
    stand in the published weights and are used by nothing.
    """

    def __init__(self, config: DecoderConfig, model: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim, width, names = model.embed_dim, config.embed_dim, tuple(model.modalities)
        self.inputs = nn.ModuleDict({name: Linear(dim, width) for name in names})
        self.mask_tokens = nn.ParameterDict({name: _draw(1, width) for name in names})
        self.cls_embeddings = nn.ParameterDict({name: _draw(1, 1, width) for name in names})
        self.mask_embeddings = nn.ParameterDict(
            {name: _draw(1, width) for name in names if name in WITH_MASK_EMBEDDING}
        )
        self.positions = nn.ParameterDict(
            {
                name: _draw(load_modality(name).count_positions(options), width)
                for name, options in model.modalities.items()
            }
        )
        self.encoder = FusionEncoder(_encoder_config(config, names))
        self.outputs = nn.ModuleDict({name: Linear(width, dim) for name in names})

    def forward(self, passes: Sequence[Mapping[str, KeptTokens]]) -> list[dict[str, Tensor]]:
        """Fill in several masked passes, which go through a layer together.

        Args:
            passes: by masked pass and modality, what was seen.

        Returns:
            By pass and modality, (batch, tokens, dim) for every position of the full sequences; padding means nothing.
        """
        filled = [{name: self._fill_in(name, tokens) for name, tokens in seen.items()} for seen in passes]
        decoded = self.encoder.encode([self.encoder.join(tokens) for tokens in filled])
        return [{name: self.outputs[name](tokens.features) for name, tokens in part.items()} for part in decoded]

    def _fill_in(self, name: str, seen: KeptTokens) -> Tokens:
        """Put what was seen at its place and the mask token everywhere else, and add the positions."""
        batch, length = seen.real.shape
        features = self.inputs[name](seen.features)
        full = self.mask_tokens[name].to(features.dtype).expand(batch, length + 1, -1)
        place = seen.kept.masked_fill(seen.kept < 0, length)  # empty slots go to one more position, which is cut off
        full = full.scatter(1, place[..., None].expand_as(features), features)[:, :length]
        x = (full + self.positions[name][:length]).masked_fill(~seen.real[..., None], 0)
        is_hidden = self.config.padding_mode == "masked" and not bool(seen.real.all())
        return Tokens(features=x, padding_mask=~seen.real if is_hidden else None)


def _draw(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.02)


def _encoder_config(config: DecoderConfig, names: tuple[str, ...]) -> ModelConfig:
    return ModelConfig(
        name="decoder",
        embed_dim=config.embed_dim,
        ffn_dim=config.ffn_dim,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        modalities={name: {} for name in names},
        layer_scale_init=None,  # the published decoder has none
        drop_path_rate=config.drop_path_rate,
        has_inner_norm=config.has_inner_norm,
        has_projection=False,
    )
