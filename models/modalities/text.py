"""The text modality: dictionary ids, learned absolute positions, 1-D relative bias."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.batch import Tokens
from models.config import ModelConfig, PositiveInt, Settings
from models.layers.position_bias import RelativeTables, num_token_rows, token_buckets
from models.modalities.base import Modality

PAD_ID = 1  # of the published dictionary: 0 <s>, 1 <pad>, 2 </s>, 3 <unk>


class TextOptions(Settings):
    """The text block of a size."""

    vocabulary_size: PositiveInt
    max_positions: PositiveInt
    """Absolute positions, the class's at 0 included; the paper's model has 514 of which 72 are used."""
    bucket_size: PositiveInt
    """Relative distances on either side, zero included."""


class TextAdapter(nn.Module):
    """Dictionary ids to tokens.

    Args:
        dim: width of a token.
        num_heads: attention heads, for the relative table.
        num_tables: 1 for a relative table that all layers share, else the number of layers.
        options: vocabulary and positions.

    Source: reference one_peace/models/adapter/text_adapter.py.
    """

    def __init__(self, dim: int, *, num_heads: int, num_tables: int, options: TextOptions) -> None:
        super().__init__()
        self.bucket_size = options.bucket_size
        self.embed_tokens = nn.Embedding(options.vocabulary_size, dim, padding_idx=PAD_ID)
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(options.max_positions, dim) * 0.02)
        self.bias = RelativeTables(num_tables, num_token_rows(options.bucket_size), num_heads)

    def forward(self, ids: Tensor) -> Tokens:
        """Embed a batch of texts.

        Args:
            ids: (batch, length) int64, padded with 1.

        Returns:
            length + 1 tokens, the class first; padding is masked and zero.

        Raises:
            ValueError: a text longer than the model has positions for.
        """
        length = ids.shape[1] + 1
        if length > len(self.positions):
            raise ValueError(
                f"a text of {length - 1} tokens, expected at most {len(self.positions) - 1}; cut it when tokenising"
            )
        padding = torch.cat([ids.new_zeros(len(ids), 1, dtype=torch.bool), ids == PAD_ID], dim=1)
        x = torch.cat([self.cls_embedding.expand(len(ids), -1, -1), self.embed_tokens(ids)], dim=1)
        x = (x + self.positions[:length]).masked_fill(padding[..., None], 0)
        bias = self.bias(token_buckets(length, self.bucket_size, x.device))
        return Tokens(features=x, padding_mask=padding if padding.any() else None, bias=bias)


class TextModality:
    """Sentences."""

    name = "text"

    def build_adapter(self, options: Mapping[str, Any], config: ModelConfig) -> TextAdapter:
        """Build the adapter of one size."""
        return TextAdapter(
            config.embed_dim,
            num_heads=config.num_heads,
            num_tables=config.num_bias_tables,
            options=TextOptions.parse(options, where=f"size {config.name!r}, modality 'text'"),
        )

    def resize(self, name: str, stored: Tensor, shape: torch.Size) -> None:
        """Nothing of this modality depends on the length of its input."""


MODALITY: Modality = TextModality()
