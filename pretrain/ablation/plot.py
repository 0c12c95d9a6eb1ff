"""The plot of an ablation: ours with intervals on the left, the paper's on the right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pretrain.ablation.config import RECALLS
from pretrain.ablation.effects import Interval
from pretrain.ablation.report import AblationReport, name_metric
from pretrain.ablation.tables import TIMES_CHANCE, AblationRow, AblationTable

COLOURS: Final = ("#0072B2", "#D55E00")  # told apart with any colour vision; Okabe and Ito
MARKERS: Final = ("o", "s")
OFFSET: Final = 0.14  # of a metric from the middle of its line
LINE_INCH, HEAD_INCH, WIDTH_INCH = 0.42, 1.35, 10.0


def draw(report: AblationReport, path: Path) -> None:
    """Draw every table of a report into one PNG file."""
    heights = [HEAD_INCH + LINE_INCH * len(table.labels) for table in report.tables]
    figure = Figure(figsize=(WIDTH_INCH, sum(heights) + HEAD_INCH), layout="constrained")
    grid = figure.subplots(len(report.tables), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
    for table, (ours, paper) in zip(report.tables, grid, strict=True):
        if table.rows[0].paper is None:
            _draw_against_chance(ours, table)
            _say_nothing_published(paper)
        else:
            _draw_ours(ours, table)
            _draw_paper(paper, table)
        ours.set_title(f"{table.title}: size {report.size}, n = {len(table.seeds)}", loc="left", fontsize=9)
    figure.suptitle("A small model on a small world: compare directions, not values", fontsize=11)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)


def _draw_ours(axes: Axes, table: AblationTable) -> None:
    for number, metric in enumerate(RECALLS):
        rows = _rows_of(table, metric)
        _draw_points(axes, [row.ours for row in rows], number=number, label=name_metric(metric))
    _name_lines(axes, table.labels)
    axes.set_xlabel("R@1 on held-out pictures (%), mean and 95 % interval", fontsize=9)


def _draw_paper(axes: Axes, table: AblationTable) -> None:
    for number, metric in enumerate(RECALLS):
        values = [row.paper for row in _rows_of(table, metric) if row.paper is not None]
        lines = _lines(len(values), number)
        axes.plot(values, lines, MARKERS[number], color=COLOURS[number], label=name_metric(metric))
    _name_lines(axes, [""] * len(table.labels))
    axes.set_xlabel("R@1 on MSCOCO 5k (%), as published", fontsize=9)
    axes.set_title(table.source, loc="left", fontsize=9)


def _draw_against_chance(axes: Axes, table: AblationTable) -> None:
    rows = [row for row in table.rows if row.metric.startswith(TIMES_CHANCE)]
    _draw_points(axes, [row.ours for row in rows], number=0, label="R@1", is_alone=True)
    axes.axvline(1, color="0.6", linewidth=1, linestyle="--")
    axes.annotate("chance", (1, -0.45), color="0.4", fontsize=8, xytext=(3, 0), textcoords="offset points", va="top")
    _name_lines(axes, [row.label for row in rows])
    axes.set_xlabel("R@1 in multiples of chance, with 95 % interval", fontsize=9)


def _draw_points(axes: Axes, intervals: Sequence[Interval], *, number: int, label: str, is_alone: bool = False) -> None:
    lines = [float(line) for line in range(len(intervals))] if is_alone else _lines(len(intervals), number)
    means = [interval.mean for interval in intervals]
    below = [0.0 if one.low is None else max(0.0, one.mean - one.low) for one in intervals]
    above = [0.0 if one.high is None else max(0.0, one.high - one.mean) for one in intervals]
    axes.errorbar(means, lines, xerr=[below, above], fmt=MARKERS[number], color=COLOURS[number], label=label, capsize=3)


def _lines(count: int, number: int) -> list[float]:
    return [line + OFFSET * (2 * number - 1) for line in range(count)]


def _name_lines(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels=labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _say_nothing_published(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no published number", ha="center", va="center", color="0.4", transform=axes.transAxes)


def _rows_of(table: AblationTable, metric: str) -> list[AblationRow]:
    return [row for row in table.rows if row.metric == metric]
