"""The plot of how times and sizes grow: logarithmic both ways, so that a power law is a straight line."""

import io
from collections.abc import Sequence
from typing import Final, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from reports.benchmark import Benchmark, Growth, fit_power
from reports.benchmark_table import show

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
MARKERS: Final = ("o", "s", "^", "D", "v")  # five, so that a pair with six colours comes again after thirty
WIDTH_INCH, PLOT_INCH, LINE_INCH = 10.0, 3.6, 0.22
SALT: Final = "benchmarks"
"""Of the names inside the drawing, which are drawn by chance otherwise."""


class Line(NamedTuple):
    """One growth, and the benchmark that it is of."""

    benchmark: str
    growth: Growth


def render_plot(benchmarks: Sequence[Benchmark], *, description: str) -> str:
    """Draw every growth, one plot a quantity and variable; gives SVG, the same for the same growths.

    Args:
        benchmarks: at least one of them with a growth.
        description: kept in the drawing's metadata.
    """
    plots: dict[tuple[str, str], list[Line]] = {}
    for benchmark in benchmarks:
        for growth in benchmark.growths:
            plots.setdefault((growth.quantity, growth.variable), []).append(Line(benchmark.name, growth))
    buffer = io.StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # the user's own settings have no say in it
        mpl.rcParams.update({"svg.hashsalt": SALT, "svg.fonttype": "path"})
        figure = _draw(plots)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Description": description})
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def name_line(line: Line) -> str:
    """Say which growth a line is, and its exponent."""
    return f"{line.benchmark}: {line.growth.name}, exponent {line.growth.exponent:.2f}"


def _draw(plots: dict[tuple[str, str], list[Line]]) -> Figure:
    heights = [max(PLOT_INCH, 1 + LINE_INCH * len(lines)) for lines in plots.values()]
    figure = Figure(figsize=(WIDTH_INCH, sum(heights)), layout="constrained")
    grid = figure.subplots(len(plots), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, ((quantity, variable), lines) in zip(grid[:, 0], plots.items(), strict=True):
        for number, line in enumerate(lines):
            _draw_line(axes, line, number=number)
        axes.set(xscale="log", yscale="log", xlabel=_plain(variable), ylabel=quantity)
        ticks = sorted({place for line in lines for place, _ in line.growth.points})
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, labels=[show(tick) for tick in ticks])
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return figure


def _draw_line(axes: Axes, line: Line, *, number: int) -> None:
    """Draw the points of a growth and the power law through them."""
    points = line.growth.points
    variables, values = [list(each) for each in zip(*points, strict=True)]
    factor, exponent = fit_power(points)
    fitted = [factor * variable**exponent for variable in variables]
    colour = COLOURS[number % len(COLOURS)]
    axes.plot(variables, fitted, color=colour, linewidth=1)
    marker = MARKERS[number % len(MARKERS)]
    axes.plot(variables, values, marker, color=colour, markersize=4, label=_plain(name_line(line)))


def _plain(text: str) -> str:
    """Keep a text from being read as a formula."""
    return text.replace("$", r"\$")
