"""What an ablation leaves behind for readers: tables as text and Markdown, and everything as JSON."""

import textwrap
from collections.abc import Sequence
from typing import Final, Literal

from models.config import Settings
from pretrain.ablation.effects import Interval
from pretrain.ablation.results import TRAINED_CONTRAST, RunResult
from pretrain.ablation.tables import TIMES_CHANCE, AblationRow, AblationTable
from reports.table import DASH, MAX_WIDTH, render_text

HEADER: Final = ("variant", "ours [95 %]", "difference [95 %]", "paper", "its diff.", "says")
METRIC_WORDS: Final = {
    "recall_at_1_image_to_text": "R@1 image to text",
    "recall_at_1_text_to_image": "R@1 text to image",
    TRAINED_CONTRAST: "training contrast",
}
_WRAPPED: Final = frozenset({"variant", "says"})


class AblationReport(Settings):
    """All of one ablation."""

    size: str
    tables: tuple[AblationTable, ...]
    runs: tuple[RunResult, ...]

    def to_json(self) -> str:
        """Write everything as JSON, every digit kept."""
        return self.model_dump_json(indent=1) + "\n"


def render(report: AblationReport) -> str:
    """Print the tables as aligned text, at most 100 columns wide."""
    parts = []
    for table in report.tables:
        blocks = [
            f"{name}\n{render_text(_cells(rows), header=HEADER, wrapped=_WRAPPED)}" for name, rows in _group(table)
        ]
        notes = "".join(textwrap.fill(note, MAX_WIDTH) + "\n" for note in _notes(table, report))
        parts.append("\n".join([f"{table.title.upper()}\n", *blocks, notes]))
    return "\n".join(parts)


def render_markdown(report: AblationReport) -> str:
    """Write the tables as Markdown."""
    parts = []
    for table in report.tables:
        parts.append(f"## {table.title}\n\n")
        for name, rows in _group(table):
            lines = [HEADER, ["---"] * len(HEADER), *_cells(rows)]
            parts.append(f"{name}:\n\n{''.join(_markdown_line(line) for line in lines)}\n")
        parts.append("".join(f"* {note}\n" for note in _notes(table, report)) + "\n")
    return "".join(parts)


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _group(table: AblationTable) -> list[tuple[str, list[AblationRow]]]:
    """Give the rows by metric, each under its name and unit."""
    groups: dict[str, list[AblationRow]] = {}
    for row in table.rows:
        unit = {"x": "multiples of chance", "%": "%"}.get(row.unit, row.unit)
        groups.setdefault(f"{name_metric(row.metric)}, {unit}", []).append(row)
    return list(groups.items())


def name_metric(metric: str) -> str:
    """Give a metric's name as it is shown."""
    if metric.startswith(TIMES_CHANCE):
        return "R@1 over chance"
    return METRIC_WORDS.get(metric, "R@1")


def _cells(rows: Sequence[AblationRow]) -> list[tuple[str, ...]]:
    return [
        (
            row.label,
            _interval(row.ours),
            DASH if row.difference is None else _interval(row.difference, sign="+"),
            DASH if row.paper is None else f"{row.paper:.2f}",
            DASH if row.paper_difference is None else f"{row.paper_difference:+.2f}",
            _says(row),
        )
        for row in rows
    ]


def _says(row: AblationRow) -> str:
    if row.word is not None:
        return str(row.word)
    return "reference" if row.difference is None else "no published number"


def _interval(interval: Interval, *, sign: Literal["", "+"] = "") -> str:
    mean = f"{interval.mean:{sign}.2f}"
    if interval.low is None or interval.high is None:
        return mean
    return f"{mean} [{interval.low:{sign}.2f}, {interval.high:{sign}.2f}]"


def _notes(table: AblationTable, report: AblationReport) -> list[str]:
    """Say below a table what its numbers are, and what they are not."""
    n, method = len(table.seeds), table.rows[0].ours.method
    caption = (
        f"A model of size {report.size} after {table.steps} steps on the miniworld: neither the model nor the numbers "
        "are the paper's, and only the direction of an effect can be compared."
    )
    intervals = (
        f"Intervals: {method} (n = {n}); of 20 such intervals one misses by chance alone."
        if n > 1
        else f"Seeds: n = 1. Intervals: {'none' if table.rows[0].ours.low is None else method}."
    )
    origin = f"Differences are to: {table.reference}. Published: {table.source}."
    return [
        caption,
        origin,
        intervals,
        *_parameter_notes(table),
        *_chance_notes(table),
        *_commit_notes(report.runs),
    ]


def _parameter_notes(table: AblationTable) -> list[str]:
    counts = table.num_parameters
    if len(set(counts.values())) == 1:
        return [f"Parameters of the model, without the decoder: {next(iter(counts.values())):,}."]
    told = "; ".join(f"{label} {count:,}" for label, count in counts.items())
    return [f"Parameters of the model, without the decoder: {told}."]


def _chance_notes(table: AblationTable) -> list[str]:
    chances = {name_metric(row.metric): row.chance for row in table.rows if row.unit == "%" and row.chance is not None}
    if table.reference == "chance":
        chances = {row.label: row.chance for row in table.rows if row.unit == "%" and row.chance is not None}
    return [f"Chance: {', '.join(f'{name} {chance:.2f} %' for name, chance in chances.items())}."] if chances else []


def _commit_notes(runs: Sequence[RunResult]) -> list[str]:
    commits = sorted({run.commit for run in runs})
    if len(commits) < 2:
        return []
    return [f"The runs were made by {len(commits)} states of the code: {', '.join(each[:12] for each in commits)}."]
