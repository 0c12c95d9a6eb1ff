"""The page's JSON to one HTML file that asks nothing of the outside and runs nothing.

The templates see the JSON and nothing else, and every number in it carries the place where it stands there. So what
the page shows as a number is one of the JSON's, and says which.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

from reports.page.data import Page
from reports.page.plots import SHARES, Axis, Forest, lay_out, make_axis, trace_line
from reports.table import show_value

TEMPLATES: Final = Path(__file__).resolve().parent.parent / "templates"
POINTS: Final = "points"
"""The unit of a difference of per cents."""
STYLE_FILE, PAGE_FILE = "style.css", "page.html.j2"


@dataclass(frozen=True)
class Number:
    """A number of the JSON, and its place there, as RFC 6901 writes places."""

    value: float
    at: str

    def show(self, text: str) -> Markup:
        """Write it in some digits."""
        return Markup('<data value="{}" data-at="{}">{}</data>').format(self.value, self.at, text)

    def __html__(self) -> Markup:
        return self.show(f"{self.value:.6g}" if isinstance(self.value, float) else str(self.value))


Found = Number | str | None
"""A number of the page; "NaN" and its like are strings there."""


def render_html(page: Page) -> str:
    """Write the page as HTML."""
    style = (TEMPLATES / STYLE_FILE).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = _make_environment().get_template(PAGE_FILE)
    # Our own style sheet is the one thing that is not escaped.
    return template.render(
        page=locate(json.loads(page.to_json())),
        style=Markup(style),  # noqa: S704
        style_hash=f"sha256-{digest}",
    )


def locate(value: Any, at: str = "") -> Any:
    """Turn JSON values into objects with attributes, and tell every number its place."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: locate(each, f"{at}/{key}") for key, each in value.items()})
    if isinstance(value, list):
        return [locate(each, f"{at}/{i}") for i, each in enumerate(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Number(value, at)
    return value


def _make_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: DASH if value is None else value,
    )
    environment.globals |= {
        "num": show_number,
        "signed": show_signed,
        "general": show_general,
        "printed": show_printed,
        "tick_text": tell_tick,
        "tell": tell,
        "lay_out": _lay_out,
        "trace": lambda one: trace_line(*([each.value for each in some] for some in (one.steps, one.values))),
        "axis_of": find_results_axis,
        "history_axis": lambda history: make_axis(_reach(history.points)),
        "ours_axis": lambda part: make_axis(_reach([row.ours for row in part.rows])),
        "paper_axis": _find_paper_axis,
        "nothing": SimpleNamespace(value=None, ci_low=None, ci_high=None),
    }
    return environment


DASH: Final = Markup('<span aria-hidden="true">\N{EM DASH}</span><span class="unseen">none</span>')


def show_number(found: Found, unit: str = "%", digits: int | None = None) -> Markup:
    """Show a number as tables show its unit, or with some digits behind the point."""
    return _show(found, lambda value: _spell(value, unit) if digits is None else f"{value:.{digits}f}")


def show_signed(found: Found, unit: str = "%") -> Markup:
    """Show a difference in a unit, with its sign."""
    return _show(found, lambda value: _spell_signed(value, unit))


def _spell(value: float, unit: str) -> str:
    return show_value(value, "%" if unit == POINTS else unit)


def _spell_signed(value: float, unit: str) -> str:
    text = _spell(abs(value), unit)
    sign = ("\N{MINUS SIGN}" if value < 0 else "+") if float(text) else ""
    return f"{sign}{text}"


def show_general(found: Found) -> Markup:
    """Show a number of any size in four digits."""
    return _show(found, lambda value: f"{value:.4g}".replace("e-0", "e-").replace("-", "\N{MINUS SIGN}"))


def show_printed(found: Found, digits: str) -> Markup:
    """Show a published number in the digits that were printed."""
    return _show(found, lambda _: digits)


def _show(found: Found, spell: Any) -> Markup:
    if found is None:
        return DASH
    return found.show(spell(found.value)) if isinstance(found, Number) else escape(found)


def tell_tick(tick: float, is_gap: bool) -> str:
    """Write a number below a scale."""
    text = f"{tick:+g}" if is_gap and tick else f"{tick:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def tell(one: Any, unit: str, reference: Found = None, word: str = "") -> str:
    """Say in words what a line of a plot shows."""
    value, low, high = (_raw(each) for each in (one.value, one.ci_low, one.ci_high))
    parts = [_spell(value, unit)] if value is not None else ["not a number"]
    if low is not None and high is not None:
        parts.append(f"interval {_spell(low, unit)} to {_spell(high, unit)}")
    if (other := _raw(reference)) is not None:
        parts.append(f"{word} {_spell(other, unit)}")
    return ", ".join(parts)


def find_results_axis(runs: Iterable[Any], profile: str) -> Axis:
    """Choose the scale of a table: shares from 0 to 100, or beside the paper gaps from the published numbers."""
    if profile != "paper":
        return SHARES
    gaps = []
    for metric in (metric for run in runs for metric in run.metrics):
        for beside in metric.published:
            origin = _raw(beside.value)
            if origin is not None and _raw(beside.gap) is not None:
                gaps += [value - origin for value in _reach([metric])]
    return make_axis(gaps, is_gap=True)


def _find_paper_axis(part: Any) -> Axis | None:
    values = [value for row in part.rows if (value := _raw(row.paper)) is not None]
    return make_axis(values) if values else None


def _reach(ones: Sequence[Any]) -> list[float]:
    """Give all that has to find a place on a scale: numbers and the ends of their intervals."""
    found = (_raw(each) for one in ones for each in (one.value, one.ci_low, one.ci_high))
    return [value for value in found if value is not None]


def _lay_out(axis: Axis, one: Any, reference: Found) -> Forest:
    value = _raw(one.value)
    return lay_out(
        axis,
        math.nan if value is None else value,
        low=_raw(one.ci_low),
        high=_raw(one.ci_high),
        reference=_raw(reference),
    )


def _raw(found: Found) -> float | None:
    """Give the number alone; None where it is none."""
    return float(found.value) if isinstance(found, Number) else None
