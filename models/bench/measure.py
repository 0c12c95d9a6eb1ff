"""Times two formulations by turns, and measures what else they cost."""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from models.allocator import give_back_memory, keep_freed_memory
from models.layers.linear import ONEDNN, linear
from reports.benchmark import Comparison, Machine, Timing
from reports.provenance import describe_processor, read_versions

Run = Callable[[], Mapping[str, Tensor]]
"""Does the work and gives what it computed, by name."""

SETTLING_S: Final = 8.0
"""Runs shorter than this are repeated untimed at each turn, so that each finds memory as it leaves it itself."""
PRODUCT_RUNS: Final = 3
PEAK_SIDES: Final = {"cpu": 2048, "cuda": 8192}
TOLERANCES: Final = {torch.float32: 1e-4, torch.float64: 1e-9, torch.bfloat16: 0.1}


def _count_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _count_attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


def _count_linear(x: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return int(2 * math.prod(x) * out_shape[-1])


_UNKNOWN: Final = {  # to the counter
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _count_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _count_attention_backward,
    ONEDNN: _count_linear,
}
_PRODUCTS: Final = {
    *flop_registry,
    *_UNKNOWN,
    torch.ops.aten.linear,
    torch.ops.aten.matmul,
    torch.ops.aten.conv1d,
    torch.ops.aten.conv2d,
    torch.ops.aten.scaled_dot_product_attention,
}
"""What does the bulk of the arithmetic; the last ones stand for others where no gradient is asked for."""


@dataclass(frozen=True)
class Workload:
    """The same work in two formulations."""

    name: str
    shape: str
    """What goes in, in words."""
    ours: Run
    plain: Run
    tokens: int | None
    """Of the batch without padding."""
    bound: float | None = None
    """What the ratio is wished to stay under on a CPU in float32."""


def compare(workload: Workload, *, device: torch.device, dtype: torch.dtype, repeats: int) -> Comparison:
    """Compare the outputs of a workload first, then run it by turns.

    Ours runs as our commands do, with freed memory kept; the plain formulation as any program does.

    Raises:
        ArithmeticError: the outputs differ by more than rounding.
    """
    difference, tolerance = _differ(workload), TOLERANCES[dtype]
    if not difference <= tolerance:
        raise ArithmeticError(f"{workload.name}: the outputs differ by {difference:.1e}, expected {tolerance:.0e}")
    sides = {"ours": (workload.ours, keep_freed_memory), "plain": (workload.plain, give_back_memory)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, (run, prepare) in sides.items():
            prepare()
            if seconds[name] and seconds[name][0] < SETTLING_S:
                run()  # memory and caches are the other one's
            seconds[name].append(time_once(run, device))
    kept = {name: values[1:] for name, values in seconds.items()}  # the first round warms up
    ratios = [ours / plain for ours, plain in zip(kept["ours"], kept["plain"], strict=True)]
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    timings = {
        name: _summarise(kept[name], run=run, device=device, tokens=workload.tokens) for name, (run, _) in sides.items()
    }
    keep_freed_memory()
    products = [measure_products(workload.ours) for _ in range(PRODUCT_RUNS)] if device.type == "cpu" else []
    return Comparison(
        name=workload.name,
        shape=workload.shape,
        ours=timings["ours"],
        plain=timings["plain"],
        ratio=timings["ours"].median_s / timings["plain"].median_s,
        ratio_low=low,
        ratio_high=high,
        difference=difference,
        tolerance=tolerance,
        bound=workload.bound if device.type == "cpu" and dtype == torch.float32 else None,
        products_s=median(products) if products else None,
    )


def time_once(run: Callable[[], Any], device: torch.device) -> float:
    """Time one run in seconds, until the device is done."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def measure_peak_memory(run: Callable[[], Any], device: torch.device) -> int | None:
    """Measure in bytes what a run needs at most beyond what stands before it; None where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        _wait(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    give_back_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        before = _read_status("VmRSS")
        run()
        return max(0, _read_status("VmHWM") - before)
    except (OSError, KeyError):
        return None


class _ProductClock(TorchDispatchMode):
    """Adds up what matrix products, convolutions and attention take on a CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in _PRODUCTS:
            self.seconds += time.perf_counter() - start
        return result


def measure_products(run: Callable[[], Any]) -> float:
    """Measure in seconds what matrix products, convolutions and attention take of a run on a CPU."""
    clock = _ProductClock()
    with clock:
        run()
    return clock.seconds


def count_flops(run: Callable[[], Any]) -> float:
    """Count the floating-point operations of matrix products and convolutions that a run executes."""
    with FlopCounterMode(display=False, custom_mapping=_UNKNOWN) as counter:
        run()
    return float(counter.get_total_flops())


def measure_peak_flops(device: torch.device, dtype: torch.dtype, *, repeats: int = 7) -> float:
    """Measure the operations a second of a large matrix product, by the library that is the faster at it."""
    side = PEAK_SIDES[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    runs = (lambda: torch.mm(a, b), lambda: linear(a, b))
    seconds = [time_once(run, device) for run in runs for _ in range(repeats)]
    return 2 * side**3 / min(seconds)


def describe_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    """Say what a benchmark runs on."""
    is_cpu = device.type == "cpu"
    return Machine(
        device=_name_processor() if is_cpu else torch.cuda.get_device_name(device),
        threads=torch.get_num_threads() if is_cpu else None,
        dtype=str(dtype).removeprefix("torch."),
        peak_flops_per_s=measure_peak_flops(device, dtype),
        versions=read_versions(),
    )


def _name_processor() -> str:
    """Give the processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return describe_processor().replace("/", " ")
    return f"{name}, {describe_processor()}"


def _summarise(seconds: Sequence[float], *, run: Run, device: torch.device, tokens: int | None) -> Timing:
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    middle = median(seconds)
    return Timing(
        median_s=middle,
        low_s=low,
        high_s=high,
        repeats=len(seconds),
        tokens_per_s=None if tokens is None else tokens / middle,
        flops=count_flops(run),
        peak_memory_bytes=measure_peak_memory(run, device),
    )


def _differ(workload: Workload) -> float:
    """Give the largest difference of the outputs, relative to the largest output of the same name."""
    ours, plain = workload.ours(), workload.plain()
    if ours.keys() != plain.keys():
        raise ArithmeticError(f"{workload.name}: outputs {list(ours)} and {list(plain)}, expected the same")
    gaps = [float((ours[name] - plain[name]).abs().max() / plain[name].abs().max().clamp(min=1e-30)) for name in ours]
    return max(gaps)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _read_status(key: str) -> int:
    """Read one of this process's sizes in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
