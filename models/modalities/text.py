"""The text modality: dictionary ids, learned absolute positions, 1-D relative bias."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from models.batch import Embedded, Tokens, Units
from models.config import ModelConfig, PositiveInt, Settings
from models.layers.position_bias import RelativeTables, num_token_rows, token_buckets
from models.modalities.base import Adapter, Modality, keep_tokens
from models.tokenizer import EOS_ID, PAD_ID, Tokenizer


class TextOptions(Settings):
    """The text block of a size."""

    vocabulary_size: PositiveInt
    max_positions: PositiveInt
    """Absolute positions, the class's at 0 included; the paper's model has 514 of which 72 are used."""
    bucket_size: Annotated[int, Field(ge=2)]
    """Relative distances on either side, zero included."""
    has_embedding_norm: bool = False
    """A norm on class and embeddings before the positions; off in every released config."""
    has_type_embedding: bool = False
    """One vector added to every position; on for pairs of pictures (NLVR2)."""


class TextAdapter(Adapter):
    """Dictionary ids to tokens.

    Args:
        dim: width of a token.
        num_heads: attention heads, for the relative table.
        num_tables: 1 for a relative table that all layers share, else the number of layers.
        options: vocabulary and positions.

    Source: reference one_peace/models/adapter/text.py.
    """

    def __init__(self, dim: int, *, num_heads: int, num_tables: int, options: TextOptions) -> None:
        super().__init__()
        self.bucket_size = options.bucket_size
        self.embed_tokens = nn.Embedding(options.vocabulary_size, dim, padding_idx=PAD_ID)
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(options.max_positions, dim) * 0.02)
        self.embedding_norm = nn.LayerNorm(dim) if options.has_embedding_norm else nn.Identity()
        self.type_embedding = nn.Parameter(torch.zeros(1, 1, dim)) if options.has_type_embedding else None
        self.bias = RelativeTables(num_tables, num_token_rows(options.bucket_size), num_heads)

    def embed(self, inputs: Tensor) -> Embedded:
        """Look a batch of texts up, the class in front.

        Args:
            inputs: (batch, length) int64, padded with 1.

        Raises:
            ValueError: a text longer than the model has positions for.
        """
        ids = inputs
        if ids.shape[1] + 1 > len(self.positions):
            raise ValueError(
                f"a text of {ids.shape[1]} tokens, expected at most {len(self.positions) - 1}; cut it when tokenising"
            )
        padding = torch.cat([ids.new_zeros(len(ids), 1, dtype=torch.bool), ids == PAD_ID], dim=1)
        x = torch.cat([self.cls_embedding.expand(len(ids), -1, -1), self.embed_tokens(ids)], dim=1)
        return Embedded(self.embedding_norm(x), padding if padding.any() else None)

    def place(self, embedded: Embedded, kept: Tensor | None = None) -> Tokens:
        """Add positions and bias; see `Adapter`."""
        length = embedded.units.shape[1]
        x = embedded.units + self.positions[:length]
        if self.type_embedding is not None:
            x = x + self.type_embedding
        if embedded.padding_mask is not None:
            x = x.masked_fill(embedded.padding_mask[..., None], 0)
        bias = self.bias(token_buckets(length, self.bucket_size, x.device))
        return keep_tokens(Tokens(x, embedded.padding_mask, bias), kept)


MAX_TOKENS: Final = 70  # without EOS; reference one_peace/data/base_dataset.py
MAX_WORDS: Final = 70  # reference one_peace/data/vl_data/refcoco_dataset.py
TextTransform = Callable[[str, Tokenizer], Tensor]


def read_text(source: str) -> str:
    """Take a text as it is.

    Raises:
        ValueError: no text.
    """
    if not isinstance(source, str):
        raise ValueError(f"a {type(source).__name__}, expected a text (str)")
    return source


def clean_text(text: str) -> str:
    """Clean a caption as the authors' data sets do.

    Lower case; leading punctuation dropped; each tab and each run of white space one blank, though not a single line
    end or no-break space; trailing line ends and then outer blanks dropped.

    Source: reference one_peace/data/base_dataset.py, process_text.
    """
    text = re.sub(r"\s{2,}|\t", " ", text.lower().lstrip(",.!?*#:;~"))
    return text.rstrip("\n").strip(" ")


def tokenize_text(text: str, tokenizer: Tokenizer) -> Tensor:
    """Protocol `text`: cleaned, at most 70 tokens.

    Returns:
        (tokens + 1,) int64, EOS last; so for every protocol.
    """
    return _to_ids(clean_text(text), tokenizer, max_tokens=MAX_TOKENS)


def tokenize_text_api(text: str, tokenizer: Tokenizer) -> Tensor:
    """Protocol `text-api` of the authors' Python API: lower case, at most 70 tokens, nothing else cleaned.

    Source: reference one_peace/models/one_peace/hub_interface.py, process_text.
    """
    return _to_ids(text.lower(), tokenizer, max_tokens=MAX_TOKENS)


def tokenize_text_grounding(text: str, tokenizer: Tokenizer) -> Tensor:
    """Protocol `text-grounding`: cleaned, at most 70 words, whatever number of tokens they make."""
    return _to_ids(" ".join(clean_text(text).split(" ")[:MAX_WORDS]), tokenizer)


def tokenize_text_raw(text: str, tokenizer: Tokenizer) -> Tensor:
    """Protocol `text-raw` of audio question answering: nothing cleaned, nothing cut."""
    return _to_ids(text, tokenizer)


TRANSFORMS: Final[Mapping[str, TextTransform]] = MappingProxyType(
    {
        "text": tokenize_text,
        "text-api": tokenize_text_api,
        "text-grounding": tokenize_text_grounding,
        "text-raw": tokenize_text_raw,
    }
)
"""By protocol name, what turns a text into ids, (tokens + 1,) int64 with EOS last."""


def _to_ids(text: str, tokenizer: Tokenizer, *, max_tokens: int | None = None) -> Tensor:
    """Tokenise with one blank in front, cut, and end with EOS."""
    return torch.tensor([*tokenizer.encode(f" {text}")[:max_tokens], EOS_ID], dtype=torch.int64)


def collate(texts: Sequence[Tensor]) -> Tensor:
    """Batch texts, each (length,) int64.

    Returns:
        (batch, longest length) int64, padded with 1 at the end.

    Raises:
        ValueError: no text.
    """
    if not texts:
        raise ValueError("no texts to batch, expected at least one")
    return pad_sequence(list(texts), batch_first=True, padding_value=PAD_ID)


class TextModality:
    """Sentences."""

    name = "text"
    transforms = TRANSFORMS

    def read(self, source: str) -> str:
        """Take a text as it is; see `read_text`."""
        return read_text(source)

    def collate(self, examples: Sequence[Tensor], options: Mapping[str, Any]) -> Tensor:  # noqa: ARG002
        """Batch texts; see `collate`."""
        return collate(examples)

    def find_units(self, inputs: Tensor, options: Mapping[str, Any]) -> Units:  # noqa: ARG002
        """Every token but class, end mark and padding may be hidden."""
        is_class = torch.ones(len(inputs), 1, dtype=torch.bool, device=inputs.device)
        real = torch.cat([is_class, inputs != PAD_ID], dim=1)
        return Units(real, real & torch.cat([~is_class, inputs != EOS_ID], dim=1))

    def count_positions(self, options: Mapping[str, Any]) -> int:
        """As many as the encoder has."""
        return int(options["max_positions"])

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
