"""The page's data as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final

from reports.page.data import Ablation, AblationValue, Metric, Page, Past, Run
from reports.table import DASH, render_markdown, show_gap, show_value

MINI: Final = (
    "> **Mini.** A small model on a self-made world. These numbers show that the road works; they say nothing of the "
    "paper, and none is held against it.\n"
)
ABLATIONS: Final = (
    "> **Mini.** Small models on a self-made world stand beside a published ablation of another model on other data. "
    "Only the direction of an effect can be compared, never a value.\n"
)
NO_PAPER: Final = "No run of the paper profile is recorded, so nothing stands beside the paper yet.\n"
CSV_HEADER: Final = (
    "task",
    "split",
    "setting",
    "profile",
    "size",
    "protocol",
    "metric",
    "unit",
    "value",
    "ci_low",
    "ci_high",
    "ci_method",
    "n",
    "hits",
    "published_id",
    "published",
    "gap",
    "verdict",
    "accepted",
    "accepted_gap",
    "accepted_outcome",
    "commit",
    "is_dirty",
    "started_at",
    "run_id",
)
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute; such a text gets an apostrophe before it."""


def render_csv(page: Page) -> str:
    """Write one line a number and published number, every digit kept, under one header."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for run in page.runs:
        for metric in run.metrics:
            writer.writerows([_defuse(cell) for cell in row] for row in _csv_rows(run, metric))
    return buffer.getvalue()


def render_page_markdown(page: Page) -> str:
    """Write the page as Markdown; what comes from records cannot become HTML."""
    paper = [run for run in page.runs if run.profile == "paper"]
    mini = [run for run in page.runs if run.profile == "mini"]
    commits = ", ".join(commit[:7] for commit in page.commits)
    parts = [
        "# ONE-PEACE, reproduced\n",
        f"{page.num_records} records, {_when(page.first_at)} to {_when(page.last_at)} UTC; code at {commits}.\n",
        *(f"{safe_line(note)}\n" for note in page.notes),
        "## Against the paper\n",
        _table(_PAPER_HEADER, _paper_rows(paper)) if paper else NO_PAPER,
        *_open_numbers(page),
        "## Mini results\n",
        MINI if mini else "No run of the mini profile is recorded.\n",
        *([_table(_MINI_HEADER, _mini_rows(mini))] if mini else []),
        "## Every result\n",
        *(part for run in page.runs for part in _run_parts(run)),
        "## Ablations\n",
        ABLATIONS if page.ablations else "No ablation is recorded.\n",
        *(part for ablation in page.ablations for part in _ablation_parts(ablation)),
        "## Environment\n",
        *(_environments(page)),
    ]
    return "\n".join(parts)


_PAPER_HEADER = ("task", "split", "setting", "metric", "published", "ours [95 %]", "gap", "n", "verdict", "why")
_MINI_HEADER = (
    "task",
    "split",
    "setting",
    "metric",
    "ours [95 %], mini",
    "n",
    "accepted",
    "gap",
    "beside the accepted",
)
_HISTORY_HEADER = ("when, UTC", "commit", "weights", "value [95 %]", "changed besides")
_ABLATION_HEADER = ("variant", "ours [95 %], mini", "effect [95 %]", "the paper's", "says")


def _csv_rows(run: Run, metric: Metric) -> Iterator[list[object]]:
    first = [run.task, run.split, run.setting, run.profile, run.model_size, run.protocol, metric.name, metric.unit]
    ours = [metric.value, metric.ci_low, metric.ci_high, metric.ci_method, metric.n, metric.hits]
    accepted = metric.accepted
    held = [None, None, None] if accepted is None else [accepted.value, accepted.gap, accepted.state]
    made = [run.commit, run.is_dirty, run.started_at, run.run_id]
    besides = [[one.id, one.printed, one.gap, one.state] for one in metric.published] or [[None] * 4]
    for beside in besides:
        yield [*first, *ours, *beside, *held, *made]


def _defuse(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _paper_rows(runs: Iterable[Run]) -> Iterator[tuple[str, ...]]:
    for run in runs:
        for metric in run.metrics:
            first = (run.title, run.split, run.setting, metric.label)
            for one in metric.published:
                yield (
                    *first,
                    one.printed,
                    _value(metric, metric.unit),
                    show_gap(one.gap, metric.unit),
                    _count(metric.n),
                    one.state,
                    one.reason,
                )
            if not metric.published:
                yield (*first, DASH, _value(metric, metric.unit), DASH, _count(metric.n), "no reference", "")


def _mini_rows(runs: Iterable[Run]) -> Iterator[tuple[str, ...]]:
    for run in runs:
        for metric in run.metrics:
            held = metric.accepted
            accepted = DASH if held is None or held.value is None else show_value(held.value, metric.unit)
            state = "no reference" if held is None else held.state
            gap = show_gap(None if held is None else held.gap, metric.unit)
            yield (
                run.title,
                run.split,
                run.setting,
                metric.label,
                _value(metric, metric.unit),
                _count(metric.n),
                accepted,
                gap,
                state,
            )


def _open_numbers(page: Page) -> Iterator[str]:
    if page.open:
        rows = [(o.id, o.title, o.split, o.setting, o.metric, f"{o.printed} {o.unit}", o.source) for o in page.open]
        yield "### Published numbers that no run has been held against\n"
        yield _table(("number", "task", "split", "setting", "metric", "published", "source"), rows)


def _run_parts(run: Run) -> Iterator[str]:
    data, weights = run.data, run.checkpoint
    yield f"### {safe_line(run.title)}, {safe_line(run.setting)}, {safe_line(run.split)} ({run.profile})\n"
    expected = "a number that nobody says" if data.n_expected is None else data.n_expected
    lines = [
        f"protocol `{run.protocol}`, {data.name}, version {data.version}, {data.n} of {expected} samples",
        f"size {run.model_size}, {run.dtype}, weights {weights.name} ({(weights.sha256 or 'no file')[:12]})",
        *(f"differs: {one}" for one in data.differences),
        *run.remarks,
        f"`{run.command}`, seed {run.seed}, code at {_commit(run)}, {run.device}",
    ]
    yield "".join(f"* {safe_line(line)}\n" for line in lines)
    yield f"{safe_line(run.history.metric)}, newest first:\n"
    yield _table(_HISTORY_HEADER, [_history_row(one, run.history.unit) for one in reversed(run.history.points)])


def _history_row(one: Past, unit: str) -> tuple[str, ...]:
    return (
        _when(one.started_at),
        _commit(one),
        (one.checkpoint_sha256 or DASH)[:8],
        _value(one, unit),
        ", ".join(one.changed),
    )


def _ablation_parts(ablation: Ablation) -> Iterator[str]:
    source = f"; published: {ablation.source}" if ablation.source else ""
    yield f"### Ablation: {safe_line(ablation.name)} (mini)\n"
    yield f"Size {safe_line(ablation.model_size)}, {len(ablation.seeds)} seeds{safe_line(source)}.\n"
    for part in ablation.parts:
        yield f"{safe_line(part.label)}, {safe_line(part.unit)}:\n"
        rows = [
            (
                row.label,
                _value(row.ours, part.unit),
                "reference" if row.difference is None else _effect(row.difference),
                row.printed or DASH,
                row.says or "",
            )
            for row in part.rows
        ]
        yield _table(_ABLATION_HEADER, rows)


def _environments(page: Page) -> Iterator[str]:
    for one in page.environments:
        versions = ", ".join(f"{each.package} {each.version}" for each in one.versions)
        yield f"* {safe_line(one.device)}: {safe_line(versions)}; {len(one.runs)} results\n"


def _value(one: Metric | Past | AblationValue, unit: str) -> str:
    value = show_value(one.value, unit)
    if one.ci_low is None or one.ci_high is None:
        return value
    return f"{value} [{show_value(one.ci_low, unit)}, {show_value(one.ci_high, unit)}]"


def _effect(one: AblationValue) -> str:
    unit = "%" if one.unit == "points" else one.unit
    value = show_gap(one.value, unit)
    if one.ci_low is None or one.ci_high is None:
        return value
    return f"{value} [{show_gap(one.ci_low, unit)}, {show_gap(one.ci_high, unit)}]"


def _count(n: int | None) -> str:
    return DASH if n is None else str(n)


def _commit(one: Run | Past) -> str:
    return one.commit[:7] + (" with changes" if one.is_dirty else "")


def _when(iso: str) -> str:
    return f"{iso[:10]} {iso[11:16]}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return render_markdown([[safe_line(cell) for cell in row] for row in rows], header=header)


def safe_line(text: str) -> str:
    """Put a text into one line that no reader of Markdown takes for HTML."""
    line = " ".join(text.split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
