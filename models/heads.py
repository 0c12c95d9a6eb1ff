"""Heads: what turns encoder output into answers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.batch import Tokens
from models.config import PositiveInt, Settings
from models.onepeace import OnePeace

Pooling = Literal["mean", "cls"]


class ImageHeadConfig(Settings):
    """The head of the ImageNet classifier."""

    num_classes: PositiveInt
    pooling: Pooling = "mean"
    """`mean` over the patch tokens, then a norm; `cls` takes the class token after the final norm."""


class ImageClassifier(nn.Module):
    """The ImageNet classifier of the vision release.

    Args:
        model: a model with the image modality; without final norm for `mean`, with it for `cls`.
        config: the head.

    Source: reference one_peace_vision/classification.
    """

    def __init__(self, model: OnePeace, config: ImageHeadConfig) -> None:
        super().__init__()
        dim = model.config.embed_dim
        self.model = model
        self.config = config
        self.fc_norm = nn.LayerNorm(dim) if config.pooling == "mean" else nn.Identity()
        self.head = nn.Linear(dim, config.num_classes)

    def forward(self, inputs: Mapping[str, Any]) -> Tensor:
        """Classify the pictures of `inputs`, (batch, 3, side, side); returns logits (batch, num_classes)."""
        features = self.model.encode(inputs)["image"].features
        pooled = features[:, 1:].mean(dim=1) if self.config.pooling == "mean" else features[:, 0]
        logits: Tensor = self.head(self.fc_norm(pooled))
        return logits


class AttentionPooling(nn.Module):
    """Pool a sequence by one learned query for each head.

    Args:
        dim: width of a token.
        num_heads: as many as the encoder has.

    Source: reference one_peace/models/one_peace/one_peace_classify.py. The query is not scaled.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Parameter(torch.randn(1, 1, num_heads, dim // num_heads) * 0.02)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Pool (batch, tokens, dim) to (batch, dim); padded tokens, True in the mask, do not count."""
        k, v = (self._heads(project(x)) for project in (self.k_proj, self.v_proj))
        query = self.q.transpose(1, 2).expand(len(x), -1, -1, -1)
        hidden = None
        if padding_mask is not None:
            hidden = torch.zeros_like(padding_mask, dtype=x.dtype).masked_fill(padding_mask, float("-inf"))
            hidden = hidden[:, None, None]
        pooled = functional.scaled_dot_product_attention(query, k, v, attn_mask=hidden, scale=1.0)
        out: Tensor = self.out_proj(pooled.transpose(1, 2).flatten(1))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """Cut (batch, tokens, dim) into (batch, heads, tokens, dim / heads)."""
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


class HeadConfig(Settings):
    """The head of a fine-tuned model; which values a checkpoint has stands in its own config."""

    num_classes: PositiveInt
    """Outputs: classes, answers, box corners, or one score for each choice."""
    pooled_modality: str
    """Whose tokens are pooled."""
    hidden_ratio: PositiveInt = 2
    """Width of the hidden layer relative to the model's; 2 in every released config."""
    has_attention_pooling: bool = True
    """Else the class token is taken, without the norm."""
    has_pooler: bool = False
    num_passes: PositiveInt = 1
    """Sequences that are pooled side by side: 2 for a pair of pictures."""


class ClassifyHead(nn.Module):
    """Pooling, optional pooler, and a classifier of two layers.

    Source: reference one_peace/models/one_peace/one_peace_classify.py.
    """

    def __init__(self, dim: int, num_heads: int, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.pooling = AttentionPooling(dim, num_heads) if config.has_attention_pooling else None
        self.norm = nn.LayerNorm(dim)
        self.pooler = nn.Sequential(nn.Linear(dim, dim), nn.Tanh()) if config.has_pooler else nn.Identity()
        hidden = config.hidden_ratio * dim
        self.classifier = nn.Sequential(
            nn.Linear(config.num_passes * dim, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, config.num_classes),
        )

    def forward(self, passes: Sequence[Tokens]) -> Tensor:
        """Turn the pooled modality's tokens of each pass into logits (batch, num_classes)."""
        logits: Tensor = self.classifier(torch.cat([self.pooler(self._pool(tokens)) for tokens in passes], dim=1))
        return logits

    def _pool(self, tokens: Tokens) -> Tensor:
        """Pool everything but the class token, or take the class token."""
        if self.pooling is None:
            return tokens.features[:, 0]
        mask = None if tokens.padding_mask is None else tokens.padding_mask[:, 1:]
        pooled: Tensor = self.norm(self.pooling(tokens.features[:, 1:], mask))
        return pooled


class Classifier(nn.Module):
    """A model with a fine-tuned head: classification, grounding, answering.

    Args:
        model: with the modalities of the task.
        config: the head.

    Raises:
        ValueError: the model lacks the pooled modality.
    """

    def __init__(self, model: OnePeace, config: HeadConfig) -> None:
        super().__init__()
        if config.pooled_modality not in model.config.modalities:
            raise ValueError(
                f"the head pools {config.pooled_modality!r}, the model has only {', '.join(model.config.modalities)}"
            )
        self.model = model
        self.head = ClassifyHead(model.config.embed_dim, model.config.num_heads, config)

    def forward(self, *passes: Mapping[str, Any]) -> Tensor:
        """Encode each pass, inputs by modality, and give logits (batch, num_classes).

        Raises:
            ValueError: another number of passes than the head was built for.
        """
        config = self.head.config
        if len(passes) != config.num_passes:
            raise ValueError(f"{len(passes)} passes, expected {config.num_passes}")
        logits: Tensor = self.head([self.model.encode(inputs)[config.pooled_modality] for inputs in passes])
        return logits
