"""Journal: what is told of a training, to its log on disk, to the console and to MLflow.

Metrics by name, as the trainer gives them: `loss`, `loss_<term>`, `accuracy_<one>_to_<other>` in per cent, `lr`,
`grad_norm`, `seconds` of the step, `samples`, `tokens` and `flops` of the whole batch, `memory_gib` at its peak. Other
names are kept and not printed.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Final, Self, TextIO

from reports.live import LiveRun
from reports.log_file import LOG_FILE, STEP, Row, cut_log, encode_event, encode_row, read_log
from reports.progress import Progress
from reports.training_run import Status

__all__ = ["Journal", "Summary", "describe", "read_log", "summarise"]

MAX_COLUMNS: Final = 130
DERIVED: Final = ("samples_per_s", "tokens_per_s", "mfu")


@dataclass(frozen=True)
class Plan:
    """What the console needs to know of a training beforehand."""

    title: str
    total_steps: int
    log_every_steps: int
    """Steps between two lines."""
    peak_flops_per_s: float | None = None
    """Of all devices together; None leaves MFU out."""


class Journal:
    """Tells of a training; the first rank has one. `open` makes it.

    `log.jsonl` gets a line a step at once. MLflow gets the same, later, and never holds the training up. The console
    gets a line every `log_every_steps`, on a terminal behind a bar.
    """

    def __init__(self, folder: Path, plan: Plan, *, last_step: int, stream: TextIO, live: LiveRun | None) -> None:
        self._plan, self._live = plan, live
        self._last_step = last_step
        self._file = (folder / LOG_FILE).open("a", encoding="utf-8")
        self._progress = Progress(stream)
        self._is_terminal = stream.isatty()
        self._interval: list[Row] = []
        self._word = ""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        total_steps: int,
        log_every_steps: int,
        stream: TextIO,
        title: str,
        live: LiveRun | None = None,
        peak_flops_per_s: float | None = None,
        resume_from: int | None = None,
    ) -> Self:
        """Begin a log, or go on with one.

        Args:
            folder: of the training.
            total_steps: of the whole training.
            log_every_steps: between two lines on the console.
            stream: the console, stderr as a rule.
            title: the stage.
            live: a run in MLflow; `close` ends it.
            peak_flops_per_s: of all devices together, for MFU.
            resume_from: the step that the training goes on after. Later steps in the log are removed, for they come
                again. None is a training that has no log yet.

        Raises:
            FileNotFoundError: no such folder.
            ValueError: a log that is not expected, or a damaged one; one line.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}; make the training's folder first")
        path = folder / LOG_FILE
        if resume_from is None and path.is_file() and path.stat().st_size:
            raise ValueError(f"{path} is the log of another training; resume that one, or train into another folder")
        cut = cut_log(folder, resume_from or 0)
        plan = Plan(title, total_steps, log_every_steps, peak_flops_per_s)
        journal = cls(folder, plan, last_step=cut.last_step, stream=stream, live=live)
        if resume_from is not None and (cut.num_steps or resume_from):
            journal.event(resume_from, _tell_resumption(resume_from, cut.last_step, cut.num_steps))
        return journal

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note one step's numbers.

        Args:
            step: optimiser steps done, this one included.
            metrics: by name.

        Raises:
            ValueError: a step that was noted before, or metrics that are no numbers or have a name of the journal's
                own.
            OSError: the log cannot be written.
        """
        if step <= self._last_step:
            raise ValueError(f"step {step} was noted before, the last was {self._last_step}; pass resume_from to open")
        for name in DERIVED:
            if name in metrics:
                raise ValueError(f"metric {name!r} is derived by the journal; pass seconds, samples, tokens and flops")
        row = {**metrics, **derive_speed(metrics, self._plan.peak_flops_per_s)}
        now = time.time()
        self._write(encode_row(step, now, row))
        self._last_step = step
        self._interval.append(row)
        self._show(step)
        if self._live is not None:
            self._live.log(step, row, time_s=round(now, 3))
            self._say_news(self._live)

    def event(self, step: int, text: str) -> None:
        """Note something that is no number: a skipped step, a saved checkpoint, a corrupt sample.

        Raises:
            OSError: the log cannot be written.
        """
        self._write(encode_event(step, time.time(), text))
        self.say(f"{self._plan.title} {step}/{self._plan.total_steps}  {' '.join(text.split())}")

    def say(self, line: str) -> None:
        """Print a line that is not kept, without tearing the bar."""
        self._progress.say(line)

    def close(self, status: Status, artifacts: Sequence[Path] = (), *, limit_s: float = 60.0) -> None:
        """End the log, and the run in MLflow; a second call does nothing.

        Args:
            status: how the training ended.
            artifacts: files to keep in MLflow besides the log.
            limit_s: longest wait for MLflow.
        """
        if self._file.closed:
            return
        self._file.close()
        self._progress.__exit__(None, None, None)
        if self._live is not None:
            self._live.finish(status, [Path(self._file.name), *artifacts], limit_s=limit_s)
            self._say_news(self._live)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close("FINISHED")
        else:
            self.close("FAILED" if issubclass(kind, Exception) else "KILLED")

    def _write(self, line: str) -> None:
        self._file.write(line)
        self._file.flush()

    def _show(self, step: int) -> None:
        """Move the bar on, and give a line when one is due."""
        plan = self._plan
        if step % plan.log_every_steps == 0 or step == plan.total_steps:
            line = describe(self._interval, step, plan=plan)
            self._interval = []
            self._word = line.split("  ", 1)[1] if "  " in line else ""
            if not self._is_terminal:
                self.say(line)
        if self._is_terminal:
            self._progress.show(plan.title, step, plan.total_steps, self._word)

    def _say_news(self, live: LiveRun) -> None:
        for line in live.news():
            self.say(line)


def derive_speed(metrics: Mapping[str, float], peak_flops_per_s: float | None) -> dict[str, float]:
    """Give samples and tokens a second and, in per cent, MFU, as far as there is something to derive them from.

    Source: MFU as of PaLM, arXiv 2204.02311, appendix B: operations that the model needs, by what the device could do.
    """
    seconds = metrics.get("seconds", 0.0)
    if not seconds > 0:
        return {}
    speed = {f"{name}_per_s": metrics[name] / seconds for name in ("samples", "tokens") if name in metrics}
    if peak_flops_per_s is not None and "flops" in metrics:
        speed["mfu"] = 100 * metrics["flops"] / seconds / peak_flops_per_s
    return speed


def describe(rows: Sequence[Row], step: int, *, plan: Plan) -> str:
    """Put the steps since the last line into one: means of losses, accuracies and norm, speed over all of them.

    Where the line would be longer than 130 columns, terms are told by their initials, and then memory, MFU and the
    gradient norm are left out in this order; the log has them all.

    Args:
        rows: not empty.
        step: the last one.
        plan: of the training.
    """
    parts = {"place": f"{plan.title} {step}/{plan.total_steps}", "loss": _describe_loss(rows, is_short=False)}
    parts |= {name: f"{_initials(name)} {value:.0f} %" for name, value in _means(rows, "accuracy_").items()}
    parts["lr"] = f"lr {rows[-1]['lr']:.1e}".replace("e-0", "e-") if "lr" in rows[-1] else ""
    parts["norm"] = f"norm {_mean(rows, 'grad_norm'):.3g}" if "grad_norm" in rows[-1] else ""
    parts |= _describe_speed(rows, num_left=plan.total_steps - step, peak_flops_per_s=plan.peak_flops_per_s)
    for name in ("loss", "memory", "mfu", "norm"):
        if len(_join(parts)) > MAX_COLUMNS:
            parts[name] = _describe_loss(rows, is_short=True) if name == "loss" else ""
    return _join(parts)


def _join(parts: Mapping[str, str]) -> str:
    return "  ".join(part for part in parts.values() if part)


def _describe_loss(rows: Sequence[Row], *, is_short: bool) -> str:
    if "loss" not in rows[-1]:
        return ""
    terms = {name.removeprefix("loss_"): value for name, value in _means(rows, "loss_").items()}
    told = " ".join(f"{_initials(name) if is_short else name} {value:.3g}" for name, value in terms.items())
    return f"loss {_mean(rows, 'loss'):.4g}" + (f" ({told})" if told else "")


def _describe_speed(rows: Sequence[Row], *, num_left: int, peak_flops_per_s: float | None) -> dict[str, str]:
    known = [name for name in ("seconds", "samples", "flops") if name in rows[-1]]
    totals: dict[str, float] = {name: sum(row.get(name, 0.0) for row in rows) for name in known}
    speed = derive_speed(totals, peak_flops_per_s)
    memory = [row["memory_gib"] for row in rows if "memory_gib" in row]
    parts = {
        "samples": f"{_spaced(speed['samples_per_s'])} samples/s" if "samples_per_s" in speed else "",
        "mfu": f"{speed['mfu']:.0f} % MFU" if "mfu" in speed else "",
        "memory": f"{max(memory):.1f} GiB" if memory else "",
    }
    if totals.get("seconds"):
        parts["left"] = f"{_duration(totals['seconds'] / len(rows) * num_left)} left"
    return parts


def _means(rows: Sequence[Row], prefix: str) -> dict[str, float]:
    return {name: _mean(rows, name) for name in rows[-1] if name.startswith(prefix)}


def _mean(rows: Sequence[Row], name: str) -> float:
    """Average what has the name; infinities of both signs, which have no mean, give NaN."""
    values = [row[name] for row in rows if name in row]
    return sum(values) / len(values)


def _initials(name: str) -> str:
    """Shorten a name: `vl_image` is `vi`, `accuracy_text_to_image` is `t2i`."""
    parts = name.removeprefix("accuracy_").split("_")
    return "".join("2" if part == "to" else part[:1] for part in parts)


def _spaced(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 10 else f"{value:.2g}"


def _duration(seconds: float) -> str:
    """Give a time in its two largest units: `3 min`, `2 h 10 min`, `4 d 3 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _tell_resumption(resume_from: int, last_step: int, num_steps: int) -> str:
    text = f"resumed, {num_steps} later steps removed from the log"
    if last_step < resume_from:
        text += f"; it ends at step {last_step}, so {resume_from - last_step} steps before are missing from it"
    return text


@dataclass(frozen=True)
class Summary:
    """A training in a few numbers."""

    num_steps: int
    """Rows of the log."""
    num_not_finite: int
    """Rows whose loss is NaN or infinite; the losses below are without them."""
    first_loss: float
    """Mean over the first `window` rows."""
    last_loss: float
    """Mean over the last `window` rows."""
    best_loss: float
    """Lowest mean over `window` rows in a row."""
    best_step: int
    """The last of these."""
    total_seconds: float
    """Sum over all steps; the time between two runs is not in it."""
    window: int


def summarise(rows: Sequence[Row], *, window: int = 50) -> Summary:
    """Sum a log up.

    Args:
        rows: as `read_log` gives them.
        window: rows to average over; all of them, where there are fewer.

    Raises:
        ValueError: no row has a finite loss.
    """
    finite = [row for row in rows if math.isfinite(row["loss"])]
    if not finite:
        raise ValueError(f"{len(rows)} steps and no finite loss, expected at least one; look at the training's log")
    window = min(window, len(finite))
    means = [fmean(row["loss"] for row in finite[i : i + window]) for i in range(len(finite) - window + 1)]
    best = min(range(len(means)), key=means.__getitem__)
    return Summary(
        num_steps=len(rows),
        num_not_finite=len(rows) - len(finite),
        first_loss=means[0],
        last_loss=means[-1],
        best_loss=means[best],
        best_step=int(finite[best + window - 1][STEP]),
        total_seconds=sum(row.get("seconds", 0.0) for row in rows),
        window=window,
    )
