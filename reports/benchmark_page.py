"""The page of all benchmarks: every figure in Markdown, and a plot of how times and sizes grow.

Both are made from the JSON files beside them alone, so that whether they still say the same can be asked.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from reports.benchmark import Benchmark, Comparison, Timing, read_benchmarks
from reports.benchmark_table import (
    FACT_HEADER,
    GROWTH_HEADER,
    count_bounds,
    giga,
    growth_cells,
    list_head,
    mib,
    milli,
    percent_of_peak,
    show,
    show_commit,
    show_ratio,
    show_verdict,
)
from reports.page.text import safe_line
from reports.provenance import digest
from reports.table import DASH, render_markdown
from reports.whole_file import write_whole

PAGE_FILE, PLOT_FILE = "README.md", "growth.svg"
COMMAND: Final = "python reports/run.py benchmarks"
DIGITS: Final = 4
EXPLAINED: Final = (
    "A ratio is the median time of ours by that of a plain formulation with the same weights and inputs, run by turns; "
    "below 1 ours is the faster. In brackets are quartiles: of a time those of its repeats, of a ratio those of "
    "neighbours in time. A bound is what a ratio is wished to stay under. Products is what it would be if matrix "
    "products, convolutions and attention took what they take in ours and nothing else took time; a floor, if they "
    "took place at the peak, besides. The peak is that of a large matrix product, measured in the same run. Memory is "
    "what stands above what stood before. A difference is the largest one of the outputs, relative to the largest "
    "output. An exponent is that of a power law through the points.\n"
)

_OVERVIEW_HEADER: Final = (
    "benchmark",
    "device",
    "threads",
    "dtype",
    "bounds met",
    "bounds not met",
    "ratios, lowest to highest",
    "commit",
    "date, UTC",
    "command",
)
_TIME_HEADER: Final = (
    "name",
    "shape",
    "ours, ms",
    "plain, ms",
    "repeats",
    "ratio [quartiles]",
    "bound",
    "verdict",
    "products",
    "floor",
    "difference",
    "tolerance",
)
_WORK_HEADER: Final = ("name", "formulation", "tokens/s", "GFLOP", "GFLOP/s", "% of peak", "peak memory, MiB")
_NUMBERS: Final = frozenset(
    {*_WORK_HEADER[2:], "threads", "bounds met", "bounds not met", "repeats", "bound", "products", "floor"}
    | {"difference", "tolerance", "exponent", "value"}
)


def write_page(folder: Path) -> str:
    """Write the page of a folder's benchmarks beside them; gives what to print.

    Raises:
        FileNotFoundError: no such folder, or nothing in it.
        ValueError: one of the files is no benchmark.
        OSError: the page could not be written.
    """
    benchmarks = _read(folder)
    plot = folder / PLOT_FILE
    if _has_growths(benchmarks):
        from reports.benchmark_plot import render_plot

        write_whole(plot, render_plot(benchmarks, description=_describe_growths(benchmarks)))
    else:
        plot.unlink(missing_ok=True)
    write_whole(folder / PAGE_FILE, render_page(benchmarks))
    compared = [one for benchmark in benchmarks for one in benchmark.comparisons]
    counts = f"{len(benchmarks)} benchmarks, {len(compared)} comparisons, {count_bounds(compared)}"
    return f"{folder / PAGE_FILE}: {counts}\n"


def find_drift(folder: Path) -> str | None:
    """Say in one line what of a folder's page is not what its benchmarks give; None where all of it is.

    The plot is known by the growths that it was drawn from, so that another version of the drawing is no difference.

    Raises:
        FileNotFoundError: no such folder, or nothing in it.
        ValueError: one of the files is no benchmark.
    """
    benchmarks = _read(folder)
    plot = _read_text(folder / PLOT_FILE)
    is_drawn = _describe_growths(benchmarks) in plot if _has_growths(benchmarks) else not plot
    stale = [] if _read_text(folder / PAGE_FILE) == render_page(benchmarks) else [PAGE_FILE]
    stale += [] if is_drawn else [PLOT_FILE]
    if not stale:
        return None
    return f"{' and '.join(stale)} in {folder}: not what the JSON files there give. `{COMMAND}` writes them anew."


def render_page(benchmarks: Sequence[Benchmark]) -> str:
    """Write benchmarks as Markdown, every figure of theirs; what comes from the files cannot become HTML."""
    parts = [
        "# Benchmarks\n",
        f"Made by `{COMMAND}` from the JSON files in this folder, which hold every digit.\n",
        EXPLAINED,
        _table(_OVERVIEW_HEADER, map(_overview_cells, benchmarks)),
        *([f"![Times and sizes over what grows]({PLOT_FILE})\n"] if _has_growths(benchmarks) else []),
        *(part for benchmark in benchmarks for part in _sections(benchmark)),
    ]
    return "\n".join(parts)


def render_times(benchmark: Benchmark) -> str:
    """Write the times and ratios of a benchmark as one Markdown table."""
    return _table(_TIME_HEADER, (_time_cells(benchmark, one) for one in benchmark.comparisons))


def _read(folder: Path) -> tuple[Benchmark, ...]:
    benchmarks = read_benchmarks(folder)
    if not benchmarks:
        raise FileNotFoundError(f"no benchmark in {folder}. `python models/run.py bench` makes one.")
    return benchmarks


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _has_growths(benchmarks: Iterable[Benchmark]) -> bool:
    return any(benchmark.growths for benchmark in benchmarks)


def _describe_growths(benchmarks: Iterable[Benchmark]) -> str:
    """Name what a plot is drawn from."""
    growths = {benchmark.name: [one.model_dump(mode="json") for one in benchmark.growths] for benchmark in benchmarks}
    return f"growths {digest(growths)}"


def _sections(benchmark: Benchmark) -> Iterator[str]:
    yield f"## {benchmark.name}\n"
    yield "".join(f"* {safe_line(line)}\n" for line in list_head(benchmark))
    if benchmark.comparisons:
        yield render_times(benchmark)
        yield _table(_WORK_HEADER, _work_rows(benchmark))
    if benchmark.growths:
        yield _table(GROWTH_HEADER, (growth_cells(one, DIGITS) for one in benchmark.growths))
    if benchmark.facts:
        yield _table(FACT_HEADER, ([name, show(value, DIGITS)] for name, value in benchmark.facts.items()))


def _overview_cells(benchmark: Benchmark) -> list[str]:
    machine, compared = benchmark.machine, benchmark.comparisons
    ratios = sorted(one.ratio for one in compared)
    return [
        benchmark.name,
        machine.device,
        DASH if machine.threads is None else str(machine.threads),
        machine.dtype,
        str(_count(compared, is_met=True)),
        str(_count(compared, is_met=False)),
        f"{show(ratios[0])} to {show(ratios[-1])}" if ratios else DASH,
        show_commit(benchmark),
        f"{benchmark.start:%Y-%m-%d %H:%M}",
        f"`{benchmark.command}`",
    ]


def _time_cells(benchmark: Benchmark, one: Comparison) -> list[str]:
    repeats = dict.fromkeys((one.ours.repeats, one.plain.repeats))
    return [
        one.name,
        one.shape,
        _time(one.ours),
        _time(one.plain),
        " / ".join(map(str, repeats)),
        show_ratio(one, digits=3),
        show(one.bound, DIGITS),
        show_verdict(one),
        show(one.products_ratio),
        show(benchmark.floor(one)),
        show(one.difference),
        show(one.tolerance),
    ]


def _time(timing: Timing) -> str:
    median, low, high = (milli(one, DIGITS) for one in (timing.median_s, timing.low_s, timing.high_s))
    return f"{median} [{low}, {high}]"


def _work_rows(benchmark: Benchmark) -> Iterator[list[str]]:
    for one in benchmark.comparisons:
        for formulation, timing in (("ours", one.ours), ("plain", one.plain)):
            yield [
                one.name,
                formulation,
                show(timing.tokens_per_s, DIGITS),
                giga(timing.flops, DIGITS),
                giga(timing.flops_per_s, DIGITS),
                percent_of_peak(benchmark, timing, DIGITS),
                mib(timing.peak_memory_bytes, DIGITS),
            ]


def _count(compared: Iterable[Comparison], *, is_met: bool) -> int:
    return sum(one.is_met is is_met for one in compared)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[safe_line(cell) for cell in row] for row in rows]
    return render_markdown(cells, header=header, numbers=_NUMBERS)
