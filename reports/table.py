"""One table of results: the same rows and columns, in the same order, as text, Markdown or CSV."""

import csv
import io
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from reports.record import Comparison, MetricValue, Profile, Record, Verdict

Style = Literal["text", "markdown", "csv"]

STYLES: tuple[Style, ...] = ("text", "markdown", "csv")
MAX_WIDTH = 120
GAP_WIDTH = 2
DASH = "\N{EM DASH}"
NUMBER_COLUMNS = frozenset({"n", "paper", "accepted", "gap", "tolerance"})
WRAPPED_COLUMNS = frozenset({"task", "split", "metric", "verdict"})
MIN_WRAPPED = 6


@dataclass(frozen=True)
class Row:
    """One metric of one record beside one published number, or beside none."""

    task: str
    split: str
    protocol: str
    variant: str
    metric: str
    unit: str
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int | None
    paper: str | None
    gap: float | None
    verdict: Verdict | None
    profile: Profile
    model_size: str
    setting: str
    run_id: str


def latest_records(records: Iterable[Record]) -> tuple[Record, ...]:
    """Keep the newest record of each task, data set, split, profile, size, setting and protocol."""
    newest: dict[tuple[str, ...], Record] = {}
    for record in sorted(records, key=lambda r: (r.start, r.run_id)):
        newest[identity_of(record)] = record
    return tuple(newest.values())


def comparison_rows(records: Iterable[Record]) -> tuple[Row, ...]:
    """Lay out records as rows: by task, split, profile, size, setting, protocol, time; metrics in their own order."""
    ordered = sorted(records, key=lambda r: (*identity_of(r), r.start, r.run_id))
    return tuple(
        _row(record, metric, comparison=comparison)
        for record in ordered
        for metric in record.metrics
        for comparison in _paper_comparisons(record, metric.name)
    )


def render_table(records: Iterable[Record], *, style: Style = "text") -> str:
    """Print records as one table, ending in a line break.

    "text" is aligned and never wider than 120 columns; "csv" has every digit and every column.
    """
    rows = comparison_rows(records)
    if style == "csv":
        return _render_csv(rows)
    if style == "markdown":
        return render_markdown([_markdown_cells(row) for row in rows], header=list(_MARKDOWN_HEADER))
    if style == "text":
        return render_text([_text_cells(row) for row in rows], header=list(_TEXT_HEADER))
    raise ValueError(f"unknown style {style!r}, expected one of {', '.join(STYLES)}.")


def render_text(
    cells: Sequence[Sequence[str]],
    *,
    header: Sequence[str],
    wrapped: frozenset[str] = WRAPPED_COLUMNS,
    numbers: frozenset[str] = NUMBER_COLUMNS,
) -> str:
    """Align cells under their header, those of the columns named in `numbers` to the right.

    The columns named in `wrapped` are broken over lines where 120 are not enough.
    """
    table = [list(header), *map(list, cells)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    flexible = [i for i, name in enumerate(header) if name in wrapped]
    while sum(widths) + GAP_WIDTH * (len(widths) - 1) > MAX_WIDTH:
        widest = max(flexible, key=lambda i: widths[i], default=None)
        if widest is None or widths[widest] <= MIN_WRAPPED:
            break
        widths[widest] -= 1
    rule = ["-" * width for width in widths]
    is_number = [name in numbers for name in header]
    rows = (table[0], rule, *table[1:])
    lines = [line for row in rows for line in _text_lines(row, widths=widths, is_number=is_number)]
    return "".join(f"{line}\n" for line in lines)


def render_markdown(
    cells: Sequence[Sequence[str]], *, header: Sequence[str], numbers: frozenset[str] = NUMBER_COLUMNS
) -> str:
    """Set cells under their header as a Markdown table, one line a row; `numbers` as in `render_text`."""
    rule = ["---:" if name in numbers else "---" for name in header]
    lines = [header, rule, *([cell.replace("|", "\\|") for cell in row] for row in cells)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_TEXT_HEADER = ("task", "split", "metric", "ours [95 %]", "n", "paper", "gap", "verdict")
_MARKDOWN_HEADER = (
    "task",
    "split",
    "protocol",
    "metric",
    "ours [95 % interval]",
    "n",
    "paper",
    "gap",
    "profile",
    "size",
    "setting",
    "verdict",
)
_CSV_HEADER = (
    "task",
    "split",
    "protocol",
    "metric",
    "ours",
    "ci_low",
    "ci_high",
    "n",
    "paper",
    "gap",
    "verdict",
    "profile",
    "size",
    "setting",
    "run_id",
)


def identity_of(record: Record) -> tuple[str, ...]:
    """Give what makes two records results of the same thing: task, data, split, profile, size, setting, protocol."""
    return (
        record.task,
        record.dataset,
        record.split,
        record.profile,
        record.model_size,
        record.setting,
        record.protocol,
    )


def _paper_comparisons(record: Record, metric: str) -> Sequence[Comparison | None]:
    return [c for c in record.comparisons if c.metric == metric and c.against == "paper"] or [None]


def _row(record: Record, metric: MetricValue, *, comparison: Comparison | None) -> Row:
    return Row(
        task=record.task,
        split=record.split,
        protocol=record.protocol,
        variant=record.variant,
        metric=metric.name,
        unit=metric.unit,
        value=metric.value,
        ci_low=metric.ci_low,
        ci_high=metric.ci_high,
        n=metric.n,
        paper=comparison.printed if comparison else None,
        gap=comparison.gap if comparison else None,
        verdict=comparison.verdict if comparison else None,
        profile=record.profile,
        model_size=record.model_size,
        setting=record.setting,
        run_id=record.run_id,
    )


def _ours(row: Row) -> str:
    value = show_value(row.value, row.unit)
    if row.ci_low is None or row.ci_high is None:
        return value
    return f"{value} [{show_value(row.ci_low, row.unit)}, {show_value(row.ci_high, row.unit)}]"


def show_value(value: float, unit: str) -> str:
    """Write per cent with two digits after the point, and a number of any other unit with four in all."""
    return f"{value:{'.2f' if unit == '%' else '.4g'}}" if math.isfinite(value) else str(value)


def show_gap(gap: float | None, unit: str) -> str:
    """Write the distance of two numbers of a unit with its sign; a dash where there is none."""
    return DASH if gap is None else f"{gap:{'+.2f' if unit == '%' else '+.3g'}}"


def name_metric(metric: str) -> str:
    """Say recall as people do: "R@1 image to text"."""
    found = re.fullmatch(r"recall_at_(\d+)_(.+)", metric)
    return metric if found is None else f"R@{found[1]} {found[2].replace('_', ' ')}"


def _verdict(row: Row) -> str:
    """Say the verdict, and of a small model that it is one."""
    told = "no published number" if row.verdict is None else str(row.verdict)
    if row.profile == "paper":
        return told
    size = "" if row.model_size == row.profile else f", {row.model_size}"
    return f"{told} ({row.profile}{size})"


def _standing(row: Row) -> tuple[str, str, str]:
    n = DASH if row.n is None else str(row.n)
    return n, row.paper or DASH, show_gap(row.gap, row.unit)


def _text_cells(row: Row) -> list[str]:
    metric = f"{name_metric(row.metric)} {row.variant}".rstrip()
    return [row.task, row.split, metric, _ours(row), *_standing(row), _verdict(row)]


def _markdown_cells(row: Row) -> list[str]:
    last = [row.profile, row.model_size, row.setting, _verdict(row)]
    return [row.task, row.split, row.protocol, row.metric, _ours(row), *_standing(row), *last]


def _render_csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    for row in rows:
        first = [row.task, row.split, row.protocol, row.metric, row.value, row.ci_low, row.ci_high, row.n, row.paper]
        writer.writerow([*first, row.gap, row.verdict, row.profile, row.model_size, row.setting, row.run_id])
    return buffer.getvalue()


def _text_lines(row: Sequence[str], *, widths: Sequence[int], is_number: Sequence[bool]) -> list[str]:
    columns = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    height = max(map(len, columns))
    lines = []
    for i in range(height):
        parts = []
        for is_right, column, width in zip(is_number, columns, widths, strict=True):
            part = column[i] if i < len(column) else ""
            parts.append(part.rjust(width) if is_right else part.ljust(width))
        lines.append((" " * GAP_WIDTH).join(parts).rstrip())
    return lines
