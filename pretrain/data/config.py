"""The settings of pretraining's data: where samples lie, which are kept, how they are decoded and batched."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.config import PositiveInt, Settings

Share = Annotated[float, Field(ge=0, le=1)]
SourceKind = Literal["shards", "table", "karpathy", "csv"]


class SourceConfig(Settings):
    """Where the samples of one data set lie.

    A setting that a kind has no use for is an error.
    """

    kind: SourceKind
    """`shards`: tar files as webdataset writes them; `table`: the authors' tab-separated ones; `karpathy`: Karpathy's
    json of MSCOCO or Flickr30K; `csv`: comma-separated with quotes."""
    path: str
    """A file; for shards a brace pattern such as `pictures-{000000..000123}.tar`."""
    fields: dict[str, str]
    """By modality, where its content is: extensions in order of preference (`jpg;jpeg;png`) in shards, a column of a
    table or csv, `filename` or a key of a sentence (`raw`) in Karpathy's json. Text is content, all else a path."""
    root: str | None = None
    """Folder that the paths in a table, csv or json start from; None: the one it lies in."""
    split: tuple[str, ...] = ()
    """Karpathy's json: the splits to take, such as `train` and `restval`."""
    key: str | None = None
    """Column of a table or csv that names a sample; None: the number of its row, from 0."""
    facts: Mapping[str, str] = Field(default_factory=dict)
    """What filters may ask about a sample (`score`, `width`, `height`), by the key of a shard's json or the column
    that tells it. Without width and height the picture's own header is read."""
    rows_per_shard: PositiveInt = 1024
    """How many rows of a table or csv, or pictures of a json, are read and shuffled together."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if not self.fields:
            raise ValueError("fields {}: expected one or more, such as {image: jpg, text: txt}")
        idle = {"shards": ("root", "split", "key"), "karpathy": ("key", "facts")}.get(self.kind, ("split",))
        for name in idle:
            if getattr(self, name):
                raise ValueError(
                    f"{name} {getattr(self, name)!r}: a source of kind {self.kind!r} has none; leave it out"
                )
        if self.kind == "karpathy" and not self.split:
            raise ValueError("split (): expected one or more, such as [train, restval]")
        unknown = set(self.facts) - {"score", "width", "height"}
        if unknown or len({"width", "height"} & set(self.facts)) == 1:
            raise ValueError(f"facts {self.facts!r}: expected score, or width and height, or all three")
        return self


class FilterConfig(Settings):
    """Which samples are kept; None switches a filter off. The defaults are stage 1's.

    Source: paper, appendix, pretraining data.
    """

    max_aspect: Annotated[float, Field(ge=1)] | None = 3.5
    """Long side by short side; for samples with a picture."""
    min_side_px: PositiveInt | None = 128
    """Short side; for samples with a picture."""
    min_score: float | None = 0.3
    """Similarity of picture and caption as the source tells it (`facts`)."""
    min_characters: PositiveInt | None = 3
    """Of a caption without its outer blanks."""
    max_characters: PositiveInt | None = 512
    english_only: bool | None = True
    """By `filters.seems_english`, a rule of thumb."""
    no_emoji: bool | None = True


class DecodingConfig(Settings):
    """How a sample's content becomes tensors."""

    protocols: Mapping[str, str] = Field(
        default_factory=lambda: {"text": "text", "image": "image-square", "audio": "audio"}
    )
    """By modality, the name of its transform; one that is not listed here is an error."""
    crop_scale: tuple[Share, Share] | None = (0.9, 1.0)
    """Share of a picture's area that a random crop keeps, least and most; None: the whole picture.

    Source: the reference's stage 1, torchvision's RandomResizedCrop.
    """
    max_duration_s: Annotated[float, Field(ge=1)] = 15.0
    """What a clip is cut to. Paper, appendix."""

    @model_validator(mode="after")
    def _scale_ascends(self) -> Self:
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1]:
            raise ValueError(f"crop_scale {self.crop_scale}: expected the smaller share first, above 0")
        return self


class BatchConfig(Settings):
    """How a step's samples are spread over lanes, whatever the number of ranks and processes.

    A step has `num_micro_batches`, numbered from 0; each is filled by `lanes_per_micro_batch` lanes of its own.
    """

    batch_size: PositiveInt
    """Samples of one step on all ranks together."""
    micro_batch_size: PositiveInt
    lanes_per_micro_batch: PositiveInt = 1
    """More lanes let more processes decode one micro-batch; another number is another order."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        for whole, part in (("batch_size", "micro_batch_size"), ("micro_batch_size", "lanes_per_micro_batch")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(f"{whole} {getattr(self, whole)} is not a multiple of {part} {getattr(self, part)}")
        return self

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of one step on all ranks together."""
        return self.batch_size // self.micro_batch_size

    @property
    def num_lanes(self) -> int:
        """Lanes on all ranks together."""
        return self.num_micro_batches * self.lanes_per_micro_batch

    @property
    def samples_per_lane(self) -> int:
        """What each lane gives in one step."""
        return self.micro_batch_size // self.lanes_per_micro_batch

    def lanes_of(self, rank: int, world_size: int) -> range:
        """Name the lanes of one rank: those of its equal share of the micro-batches.

        Raises:
            ValueError: the micro-batches cannot be shared out equally.
        """
        if self.num_micro_batches % world_size or not 0 <= rank < world_size:
            raise ValueError(
                f"{self.num_micro_batches} micro-batches for rank {rank} of {world_size}; expected a rank below the "
                "world size, which divides them; change batch_size or micro_batch_size"
            )
        share = self.num_lanes // world_size
        return range(rank * share, (rank + 1) * share)


class DataConfig(Settings):
    """The whole data side of one stage."""

    sources: Annotated[list[SourceConfig], Field(min_length=1)]
    """Of the same modalities; one after the other."""
    filters: FilterConfig = FilterConfig()
    decoding: DecodingConfig = DecodingConfig()
    seed: Annotated[int, Field(ge=0)] = 0
    """Of order and crops."""
    max_corrupt_share: Share = 0.01
    """Of the samples seen; beyond it the run stops."""
    min_corrupt_allowed: Annotated[int, Field(ge=0)] = 20
    """So many corrupt samples are passed over, however few were seen. Counted for each rank."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        first = set(self.sources[0].fields)
        for source in self.sources:
            if set(source.fields) != first:
                raise ValueError(
                    f"sources of {sorted(first)} and {sorted(source.fields)}; expected the same modalities"
                )
            self._check_filters(source)
        return self

    def _check_filters(self, source: SourceConfig) -> None:
        if self.filters.min_score is not None and "score" not in source.facts:
            raise ValueError(
                f"min_score {self.filters.min_score}, but {source.path} names no score in `facts`; "
                "name it, or set filters.min_score to null"
            )
