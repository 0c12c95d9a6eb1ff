"""Heads: what turns encoder output into answers."""

from typing import Literal

from torch import Tensor, nn

from models.onepeace import OnePeace

Pooling = Literal["mean", "cls"]


class ImageClassifier(nn.Module):
    """The ImageNet classifier of the vision release.

    Args:
        model: a model with the image modality; without final norm for `mean`, with it for `cls`.
        num_classes: logits.
        pooling: `mean` over the patch tokens, then a norm; `cls` takes the class token after the final norm.

    Source: reference one_peace_vision/classification/models/one_peace.py.
    """

    def __init__(self, model: OnePeace, *, num_classes: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        dim = model.config.embed_dim
        self.model = model
        self.pooling = pooling
        self.fc_norm = nn.LayerNorm(dim) if pooling == "mean" else nn.Identity()
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify pictures (batch, 3, side, side); returns logits (batch, num_classes)."""
        features = self.model.encode({"image": images})["image"].features
        pooled = features[:, 1:].mean(dim=1) if self.pooling == "mean" else features[:, 0]
        logits: Tensor = self.head(self.fc_norm(pooled))
        return logits
