"""A benchmark as tables for a terminal, and the cells that its Markdown page shares with them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from reports.benchmark import Benchmark, Comparison, Growth, Timing
from reports.table import DASH, render_text

COMPARISON_HEADER: Final = (
    "name",
    "shape",
    "ours ms",
    "plain ms",
    "ratio [low, high]",
    "bound",
    "tokens/s",
    "GFLOP/s",
    "% peak",
    "MiB ours/plain",
)
GROWTH_HEADER: Final = ("growth", "quantity", "by", "exponent", "expected", "points")
FACT_HEADER: Final = ("fact", "value")
NUMBERS: Final = frozenset({"ours ms", "plain ms", "tokens/s", "bound", "GFLOP/s", "% peak", "exponent", "value"})
WRAPPED: Final = frozenset({"name", "shape", "growth", "expected", "points", "fact"})
DIGITS: Final = 3


def render_table(benchmark: Benchmark) -> str:
    """Print a benchmark for a terminal: its head, a row a comparison, growths with their exponents, facts."""
    head = "".join(f"{line}\n" for line in (benchmark.name, *list_head(benchmark)))
    return "\n".join([head, *_tables(benchmark)])


def list_head(benchmark: Benchmark) -> tuple[str, ...]:
    """Say by which command and code it was measured, when, and on what."""
    machine = benchmark.machine
    versions = ", ".join(f"{package} {version}" for package, version in machine.versions.items())
    threads = "" if machine.threads is None else f", {machine.threads} thread{'s' if machine.threads > 1 else ''}"
    return (
        benchmark.command,
        f"code at {show_commit(benchmark)}, {benchmark.start:%Y-%m-%d %H:%M} UTC",
        f"{machine.device}{threads}, {machine.dtype}, a large matrix product: {giga(machine.peak_flops_per_s)} GFLOP/s",
        *([versions] if versions else []),
    )


def show_commit(benchmark: Benchmark) -> str:
    """Name the code, and say where it was not just that."""
    return benchmark.commit[:7] + (" with changes" if benchmark.is_dirty else "")


def show_verdict(comparison: Comparison) -> str:
    """Say how a ratio stands against its bound."""
    return DASH if comparison.is_met is None else "met" if comparison.is_met else "not met"


def show_ratio(comparison: Comparison, *, digits: int) -> str:
    """Write a ratio with its quartiles, with so many digits after the point."""
    ratios = (comparison.ratio, comparison.ratio_low, comparison.ratio_high)
    value, low, high = (f"{one:.{digits}f}" if one >= 0.1 else show(one, digits) for one in ratios)
    return f"{value} [{low}, {high}]"


def count_bounds(compared: Iterable[Comparison]) -> str:
    """Say how many bounds are met."""
    verdicts = [one.is_met for one in compared]
    return f"bounds: {verdicts.count(True)} met, {verdicts.count(False)} not met"


def show(value: float | None, digits: int = DIGITS) -> str:
    """Write a number with so many significant digits, a large one with all before its point; a dash for None."""
    if value is None:
        return DASH
    is_whole = 10**digits - 0.5 <= abs(value) < 1e15
    return f"{value:.0f}" if is_whole else f"{value:.{digits}g}"


def giga(value: float | None, digits: int = DIGITS) -> str:
    """Write a number in thousands of millions."""
    return show(None if value is None else value / 1e9, digits)


def milli(seconds: float, digits: int = DIGITS) -> str:
    """Write a time in milliseconds."""
    return show(seconds * 1e3, digits)


def mib(num_bytes: int | None, digits: int = DIGITS) -> str:
    """Write a size in MiB."""
    return show(None if num_bytes is None else num_bytes / 2**20, digits)


def percent_of_peak(benchmark: Benchmark, timing: Timing, digits: int = DIGITS) -> str:
    """Write how much of the machine's measured peak a timing reaches."""
    share = benchmark.share_of_peak(timing)
    return show(None if share is None else 100 * share, digits)


def growth_cells(growth: Growth, digits: int = DIGITS) -> list[str]:
    """Give the cells of a growth under `GROWTH_HEADER`."""
    points = ", ".join(f"{show(variable, digits)}: {show(value, digits)}" for variable, value in growth.points)
    return [growth.name, growth.quantity, growth.variable, show(growth.exponent), growth.expected, points]


def _tables(benchmark: Benchmark) -> Iterator[str]:
    if compared := benchmark.comparisons:
        yield _table(COMPARISON_HEADER, [_comparison_cells(benchmark, one) for one in compared])
        over = [one.name for one in compared if one.is_met is False]
        yield f"{count_bounds(compared)}{': ' if over else ''}{', '.join(over)}\n"
    if benchmark.growths:
        yield _table(GROWTH_HEADER, [growth_cells(one) for one in benchmark.growths])
    if benchmark.facts:
        yield _table(FACT_HEADER, [[name, show(value)] for name, value in benchmark.facts.items()])


def _table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    return render_text(cells, header=header, wrapped=WRAPPED, numbers=NUMBERS)


def _comparison_cells(benchmark: Benchmark, one: Comparison) -> list[str]:
    memory = (one.ours.peak_memory_bytes, one.plain.peak_memory_bytes)
    return [
        one.name,
        one.shape,
        milli(one.ours.median_s),
        milli(one.plain.median_s),
        show_ratio(one, digits=2),
        show(one.bound),
        show(one.ours.tokens_per_s),
        giga(one.ours.flops_per_s),
        percent_of_peak(benchmark, one.ours),
        DASH if memory == (None, None) else " / ".join(map(mib, memory)),
    ]
