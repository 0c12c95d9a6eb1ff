"""The settings of any training: its optimiser, its schedule, and how a step is spread. Imports no torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.config import PositiveInt, Rate, Settings

PositiveFloat = Annotated[float, Field(gt=0)]

MomentType = Literal["float32", "bfloat16", "int8"]
"""How AdamW's two moments are kept; see `models/adamw.py`."""

Recompute = Literal["none", "cheap", "layer"]
"""What of a layer is computed again in the backward pass instead of being kept; see `models/layers/recompute.py`."""


class OptimConfig(Settings):
    """AdamW and its schedule. The defaults are those of both published pretraining stages."""

    lr: PositiveFloat
    """At the end of the warm-up. Published: 5e-4 in stage 1, 2e-4 in stage 2."""
    betas: tuple[Rate, Rate] = (0.9, 0.98)
    eps: PositiveFloat = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Published: 3000 in stage 1."""
    warmup_share: Rate | None = None
    """The warm-up as a part of all steps. Published: 0.1 in stage 2."""
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    """Where the warm-up starts and the cosine ends."""
    clip: PositiveFloat | None = 3.0
    """Largest norm of the gradient of all parameters together; None clips nothing."""
    state: MomentType = "float32"
    """How the optimiser keeps its two moments. float32: torch's own AdamW, whose moments have the weights' type.
    bfloat16 halves them, int8 quarters them; both round at random, and take longer for an update."""

    @model_validator(mode="after")
    def _has_one_warmup(self) -> Self:
        if (self.warmup_steps is None) == (self.warmup_share is None):
            raise ValueError(
                f"warmup_steps {self.warmup_steps} and warmup_share {self.warmup_share}: expected one of the two;"
                " set the other to null"
            )
        return self

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.min_lr >= self.lr:
            raise ValueError(f"min_lr {self.min_lr} is not below lr {self.lr}; lower min_lr or raise lr")
        return self


class ParallelConfig(Settings):
    """How a step is spread over devices."""

    shard: Literal["full", "hybrid"] = "full"
    """FSDP2 over all ranks, or within groups of `shard_size` ranks that hold copies of each other. A single process
    shards nothing."""
    shard_size: PositiveInt = 8
    """Ranks of a group of `hybrid`; usually those of one machine."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the computation; weights and optimiser stay float32."""
    state_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights, gradients and, unless `optim.state` says otherwise, the optimiser's moments. bfloat16 halves them for
    trials of the large model on one card; small updates are lost to rounding unless `optim.state` is bfloat16 or int8,
    whose updates round weights at random, too."""
    recompute: Recompute = "layer"
    """What the backward pass computes again instead of keeping it: `layer` all of a layer, `cheap` all but products
    with weights and attention, `none` nothing."""
    has_compile: bool = False
    """torch.compile each layer; wants a C++ compiler, and gains nothing on a CPU."""

    @model_validator(mode="after")
    def _sees_products(self) -> Self:
        if self.has_compile and self.recompute == "cheap":
            raise ValueError(
                "recompute 'cheap' with has_compile true: products cannot be told apart in a compiled layer; set "
                "recompute to layer or none, or has_compile to false"
            )
        return self
