"""Plans a stage of pretraining on given devices: what fits, how long it takes, and with which settings.

From formulas alone: no weights, no device, and torch is not imported.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import yaml
from pydantic import Field

from models.config import ModelConfig, Settings, load_config, unknown_name
from models.inference import longest_tokens
from models.training import Recompute
from pretrain.cost import contrast_flops, count_layer, count_trained, stage_passes, step_flops
from pretrain.memory import BYTES, GIB, Layout, Workload, count_all, estimate_memory, term_sizes

if TYPE_CHECKING:
    from pretrain.config import StageConfig

GPU_FILE: Final = Path(__file__).resolve().parent / "gpus.yaml"
GB: Final = 1e9
SECONDS_PER_DAY: Final = 86_400
REDUCED_BYTES: Final = 4  # gradients are summed in float32

_RECOMPUTED: Final[Mapping[Recompute, str]] = {
    "none": "nothing",
    "cheap": "what lies between products, whose operations are not counted",
    "layer": "every layer",
}

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class Gpu(Settings):
    """One kind of device, as its vendor describes it; see `gpus.yaml` for the units."""

    memory_gb: Positive
    peak_tflops: Positive
    link_gb_per_s: Positive
    source: str


class Assumptions(Settings):
    """What no data sheet tells."""

    efficiency: Share = 0.40
    """Of the peak, reached by what is executed, recomputation included."""
    link_efficiency: Share = 0.70
    """Of every link's bandwidth."""
    network_gb_per_s: Positive = 25.0
    """Between machines, for each device, one direction; 25 GB/s is one 200 Gb/s adapter a device, as in a DGX A100."""
    gpus_per_machine: Annotated[int, Field(gt=0)] = 8
    reserve: Annotated[float, Field(ge=0, lt=1)] = 0.08
    """Of the memory, left for the driver, the exchanges' buffers and fragmentation."""


@dataclass(frozen=True)
class Plan:
    """One way to run a stage on given devices."""

    config: "StageConfig"
    gpu_name: str
    gpu: Gpu
    gpus: int
    assumptions: Assumptions
    layout: Layout
    tokens: Mapping[str, int]
    num_parameters: int
    num_trained: int
    micro_batch_size: int
    """The config's, or the largest below it that fits: the denoising contrast compares within a micro-batch."""
    largest_micro_batch: int
    """That fits, whatever the config says."""
    memory: Mapping[str, int]
    """Bytes on one device by part."""
    flops_per_sample: int
    """Of the model, recomputation left out."""
    compute_s: float
    """Of one step."""
    communication_s: float
    """Of one step; it runs beside the computation."""

    @property
    def step_s(self) -> float:
        """Seconds of one step."""
        return max(self.compute_s, self.communication_s)

    @property
    def days(self) -> float:
        """Days of the whole stage."""
        return self.config.steps * self.step_s / SECONDS_PER_DAY

    @property
    def mfu(self) -> float:
        """Share of the peak that the model's own operations reach."""
        peak = self.gpus * self.gpu.peak_tflops * 1e12
        return self.flops_per_sample * self.config.batch.batch_size / (peak * self.step_s)

    @property
    def micro_batches(self) -> int:
        """Micro-batches of each device in one step."""
        return self.config.batch.batch_size // (self.gpus * self.micro_batch_size)


def load_gpus() -> dict[str, Gpu]:
    """Read the kinds of devices by name."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(GPU_FILE.read_text(encoding="utf-8"))
    return {name: Gpu.parse(values, where=f"{GPU_FILE.name}, {name}") for name, values in entries.items()}


@dataclass(frozen=True)
class _Request:
    """What is asked for."""

    config: "StageConfig"
    model: ModelConfig
    tokens: Mapping[str, int]
    gpu_name: str
    gpu: Gpu
    gpus: int
    assumptions: Assumptions

    @property
    def room(self) -> float:
        """Bytes that a device has for the training."""
        return self.gpu.memory_gb * GB * (1 - self.assumptions.reserve)


def build_plan(
    config: "StageConfig",
    *,
    gpu: str,
    gpus: int,
    assumptions: Assumptions | None = None,
    text_tokens: int | None = None,
) -> Plan:
    """Find the fastest way to run a stage on given devices.

    Sharding over all devices, over those of one machine and none at all are tried, each with every choice of what the
    backward pass recomputes. Those that fit the config's micro-batch come first, for another one is another loss.

    Args:
        config: the stage at its size.
        gpu: a name of `gpus.yaml`.
        gpus: how many.
        assumptions: default: those of `Assumptions`.
        text_tokens: of the longest text in a micro-batch; default: the most there are, which is an upper bound.

    Raises:
        ValueError: an unknown device, a number of them that does not divide the batch, or too little memory; one line.
    """
    kinds = load_gpus()
    if gpu not in kinds:
        raise ValueError(unknown_name("gpu", gpu, kinds))
    batch = config.batch.batch_size
    if gpus < 1 or batch % gpus:
        raise ValueError(f"{gpus} devices for a batch of {batch}; expected a number that divides it")
    model = load_config(config.size).branch(*config.objective.pair)
    tokens = longest_tokens(model, max_duration_s=config.data.decoding.max_duration_s, text_tokens=text_tokens)
    request = _Request(config, model, tokens, gpu, kinds[gpu], gpus, assumptions or Assumptions())
    plans = [plan for layout in _layouts(request) if (plan := _try(request, layout))]
    if not plans:
        raise ValueError(_too_large(request))
    return min(plans, key=lambda plan: (-plan.micro_batch_size, plan.step_s, plan.communication_s))


def _layouts(request: _Request) -> Iterator[Layout]:
    """List the ways to shard, each with every choice of what is recomputed, the least work first."""
    parallel, per_machine = request.config.parallel, request.assumptions.gpus_per_machine
    shards = {1, request.gpus}
    if request.gpus % per_machine == 0:
        shards.add(per_machine)
    choices = [choice for choice in get_args(Recompute) if choice != "cheap" or not parallel.has_compile]
    for shard_size in sorted(shards):
        for choice in choices:
            yield Layout(shard_size, choice, parallel.dtype, parallel.state_dtype, request.config.optim.state)


def _workload(request: _Request, *, is_split: bool) -> Workload:
    config = request.config
    return Workload(
        config=request.model,
        decoder=config.decoder if config.objective.terms else None,
        objective=config.objective,
        trained=config.trained,
        passes=stage_passes(config.objective, request.tokens, trained=config.trained, has_feature_pass=is_split),
        tokens=request.tokens,
        batch_size=config.batch.batch_size,
    )


def _try(request: _Request, layout: Layout) -> Plan | None:
    """Plan one layout; None where not even one sample fits."""
    config, share = request.config, request.config.batch.batch_size // request.gpus
    work = _workload(request, is_split=False)
    sizes = [size for size in range(1, share + 1) if share % size == 0]
    fitting = [
        size for size in sizes if sum(estimate_memory(work, layout, micro_batch_size=size).values()) <= request.room
    ]
    if not fitting:
        return None
    micro = max((size for size in fitting if size <= config.batch.micro_batch_size), default=fitting[0])
    work = _workload(request, is_split=share > micro)
    executed = _sample_flops(work, micro, recomputed=layout.recompute == "layer") * share
    return Plan(
        config=config,
        gpu_name=request.gpu_name,
        gpu=request.gpu,
        gpus=request.gpus,
        assumptions=request.assumptions,
        layout=layout,
        tokens=request.tokens,
        num_parameters=count_all(work),
        num_trained=count_trained(work.config, work.decoder, work.trained),
        micro_batch_size=micro,
        largest_micro_batch=max(fitting),
        memory=estimate_memory(work, layout, micro_batch_size=micro),
        flops_per_sample=_sample_flops(work, micro, recomputed=False),
        compute_s=executed / (request.gpu.peak_tflops * 1e12 * request.assumptions.efficiency),
        communication_s=_communication_s(request, work, layout, micro_batches=share // micro),
    )


def _sample_flops(work: Workload, micro_batch_size: int, *, recomputed: bool) -> int:
    """Count the operations of one sample, its share of the contrasts included."""
    passes = step_flops(work.passes, work.config, decoder=work.decoder, batch=1, recomputed=recomputed)
    pairs = (term_sizes(work, name, micro_batch_size) for name in work.objective.terms)
    contrasts = sum(contrast_flops(work.config.embed_dim, queries, candidates) for queries, candidates in pairs)
    return passes + (contrasts // micro_batch_size if work.objective.loss == "contrast" else 0)


def _communication_s(request: _Request, work: Workload, layout: Layout, *, micro_batches: int) -> float:
    """Estimate the exchanges of one step on one device.

    Each pass gathers every layer, a pass with gradient gathers it again and reduces its gradient; copies of a shard
    sum their gradients once a step.
    """
    assumed, shard = request.assumptions, layout.shard_size
    encoder = [one for one in work.passes if not one.is_decoder]
    with_gradient = sum(one.has_gradient for one in encoder)
    layers = work.config.num_layers * count_layer(work.config)
    trained = count_trained(work.config, work.decoder, work.trained)
    gathered = (len(encoder) + with_gradient) * layers * BYTES[layout.dtype]
    reduced = with_gradient * min(layers, trained) * REDUCED_BYTES
    sharding = micro_batches * (gathered + reduced) * (shard - 1) / shard
    copies = request.gpus // shard
    summing = 2 * (copies - 1) / copies * trained * REDUCED_BYTES / shard
    fast = request.gpu.link_gb_per_s
    slow = min(fast, assumed.network_gb_per_s)
    within = fast if shard <= assumed.gpus_per_machine else slow
    between = fast if request.gpus <= assumed.gpus_per_machine else slow
    return (sharding / within + summing / between) / (GB * assumed.link_efficiency)


def _too_large(request: _Request) -> str:
    """Say by how much one sample does not fit."""
    config, parallel = request.config, request.config.parallel
    least = Layout(request.gpus, "layer", parallel.dtype, parallel.state_dtype, config.optim.state)
    need = sum(estimate_memory(_workload(request, is_split=False), least, micro_batch_size=1).values()) / GB
    return (
        f"{config.stage} of size {config.size} does not fit {request.gpus} x {request.gpu_name}: one sample needs "
        f"{need:.1f} GB a device, {request.room / GB:.1f} GB are there; take more devices or larger ones, or "
        "optim.state=int8, or besides parallel.state_dtype=bfloat16 for a trial"
    )


def launch_command(plan: Plan) -> str:
    """Give the command that runs a plan, one for each machine; the first machine's name is left to the user."""
    per_machine = min(plan.gpus, plan.assumptions.gpus_per_machine)
    machines = math.ceil(plan.gpus / per_machine)
    where = "--standalone" if machines == 1 else f"--nnodes={machines} --rdzv-backend=c10d --rdzv-endpoint=HOST:29500"
    shard = plan.layout.shard_size
    kind = "full" if shard == plan.gpus else "hybrid"
    lanes = math.gcd(plan.micro_batch_size, plan.config.batch.lanes_per_micro_batch)
    settings = {
        "parallel.shard": kind,
        **({"parallel.shard_size": shard} if kind == "hybrid" else {}),
        "parallel.recompute": plan.layout.recompute,
        **{key: value for key, value in _narrow(plan.layout).items() if value != "float32"},
        "batch.micro_batch_size": plan.micro_batch_size,
        "batch.lanes_per_micro_batch": lanes,
    }
    flags = " ".join(f"--set {key}={value}" for key, value in settings.items())
    config = plan.config
    return (
        f"torchrun {where} --nproc-per-node={per_machine} pretrain/run.py {config.stage} --size {config.size} {flags}"
    )


def _narrow(layout: Layout) -> dict[str, str]:
    """Give the settings that make a training smaller, which are float32 unless something is said."""
    return {"parallel.state_dtype": layout.state_dtype, "optim.state": layout.optimizer_state}


def render_plan(plan: Plan) -> str:
    """Write a plan for people: what fits, how long it takes, the command, and everything that was assumed."""
    config, gpu = plan.config, plan.gpu
    used = sum(plan.memory.values())
    lengths = ", ".join(f"{name} {count}" for name, count in plan.tokens.items())
    lines = [
        f"{config.stage} ({config.title}), size {config.size}, on {plan.gpus} x {plan.gpu_name}",
        "",
        f"{'parameters':<28}{plan.num_parameters:>16,}",
        f"{'of these trained':<28}{plan.num_trained:>16,}",
        "",
        "memory on one device, GiB",
        *(f"  {name:<26}{size / GIB:>16.2f}" for name, size in plan.memory.items()),
        f"  {'together':<26}{used / GIB:>16.2f}  of {gpu.memory_gb * GB / GIB:.2f} GiB",
        "",
        f"{'micro-batch':<28}{plan.micro_batch_size:>16,}  x {plan.micro_batches} for each device and step",
        f"{'largest that fits':<28}{plan.largest_micro_batch:>16,}",
        f"{'operations a sample, TFLOP':<28}{plan.flops_per_sample / 1e12:>16.3g}",
        f"{'step, s':<28}{plan.step_s:>16.3g}  computing {plan.compute_s:.3g}, exchanges {plan.communication_s:.3g}",
        f"{'utilisation (MFU), %':<28}{100 * plan.mfu:>16.1f}",
        f"{'whole stage, days':<28}{plan.days:>16.3g}  {config.steps:,} steps of {config.batch.batch_size:,}",
        "",
        launch_command(plan),
        "",
        "assumed:",
        *(f"  {line}" for line in _assumed_lines(plan, lengths)),
    ]
    return "\n".join(lines)


def _assumed_lines(plan: Plan, lengths: str) -> list[str]:
    assumed, gpu, asked = plan.assumptions, plan.gpu, plan.config.batch.micro_batch_size
    layout = plan.layout
    moments = layout.state_dtype if layout.optimizer_state == "float32" else layout.optimizer_state
    lines = [
        f"{gpu.peak_tflops:g} TFLOP/s, {gpu.memory_gb:g} GB, {gpu.link_gb_per_s:g} GB/s one way ({gpu.source})",
        f"what is executed reaches {assumed.efficiency:.0%} of the peak; exchanges run beside it",
        f"{assumed.gpus_per_machine} devices a machine, between machines {assumed.network_gb_per_s:g} GB/s each",
        f"links reach {assumed.link_efficiency:.0%}",
        f"{assumed.reserve:.0%} of the memory stays free",
        f"every sequence at its longest, tokens: {lengths}",
        f"computing in {layout.dtype}, weights in {layout.state_dtype}, AdamW's moments in {moments}",
        f"the backward pass recomputes {_RECOMPUTED[layout.recompute]}",
        "a pass with gradient costs three forwards; frozen weights count as trained ones",
    ]
    if layout.dtype != "bfloat16":
        lines.append(f"the peak is that of bfloat16; {layout.dtype} takes 2 to 15 times as long")
    if plan.micro_batch_size != asked:
        lines.append(
            f"micro-batches of {plan.micro_batch_size} instead of the config's {asked}: the denoising contrast has "
            "fewer candidates, so the loss is another one"
        )
    return lines
