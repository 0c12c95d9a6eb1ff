"""Turn a refused mapping into one line that says what is wrong and what was expected."""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError


def check_keys(given: Mapping[str, Any], model: type[BaseModel], *, where: str) -> None:
    """Refuse keys that `model` does not know.

    Raises:
        ValueError: an unknown key, with the nearest known one.
    """
    known = list(model.model_fields)
    for key in given:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise ValueError(f"{where}: unknown key {key!r}. Did you mean {nearest[0]!r}? Known: {', '.join(known)}.")


def explain(error: ValidationError) -> str:
    """Say in one line what the first refused fields are and why."""
    problems = error.errors(include_url=False, include_context=False)
    shown = "; ".join(_problem(item["loc"], message=item["msg"], given=item["input"]) for item in problems[:3])
    return shown if len(problems) <= 3 else f"{shown}; and {len(problems) - 3} more"


def require_finite(value: float) -> float:
    """Let a number through that is neither NaN nor infinite."""
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


def require_text(value: str) -> str:
    """Let a text through that says something."""
    if not value.strip():
        raise ValueError("expected a text, found nothing")
    return value


def _problem(loc: Iterable[int | str], *, message: str, given: object) -> str:
    place = ".".join(str(part) for part in loc) or "value"
    if message == "Field required":
        return f"no {place!r}"
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    shown = repr(given)
    return f"{place!r} is {shown if len(shown) <= 60 else shown[:57] + '...'}: {text}"
