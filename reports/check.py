"""Recorded results against the accepted numbers or the paper's: one case a metric, an outcome each, one exit code."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from reports.accepted import Accepted, newest_records
from reports.record import Comparison, MetricValue, Record, Verdict
from reports.seeds import join_seeds
from reports.table import DASH, render_markdown, render_text, show_gap, show_value
from reports.target import Target
from reports.verdict import EXIT_REGRESSION, compare_with_accepted, exit_code

Against = Literal["accepted", "paper"]


class Outcome(StrEnum):
    """What became of one metric."""

    MATCH = "match"
    WITHIN_SAMPLING_ERROR = "within sampling error"
    BETTER = "better"
    OFF = "off"
    REGRESSION = "regression"
    NOT_COMPARABLE = "not comparable"
    NO_REFERENCE = "no reference"
    NOT_RUN = "not run"


SKIPPED = frozenset({Outcome.NOT_COMPARABLE, Outcome.NO_REFERENCE, Outcome.NOT_RUN})
ADVICE = "Mend it; or, if it is meant to be so, `python reports/run.py accept --reason TEXT` says why."
SILENT = frozenset({Outcome.MATCH, Outcome.WITHIN_SAMPLING_ERROR})


@dataclass(frozen=True)
class Case:
    """One metric of one result beside the number it is held against.

    Attributes:
        suite: the result's name among the accepted ones.
        target_id: of the published number; None beside an accepted one.
        value: ours; None where nothing was run.
        other: digits of the number it is held against; None where there is none.
        gap: ours minus the other; None where the two are not comparable.
        tolerance: in the metric's unit, points for per cent; None where no accepted number says.
        is_expected: whether nobody would have it otherwise, as a mini result beside the paper.
    """

    suite: str
    task: str
    split: str
    metric: str
    variant: str
    model_size: str
    outcome: Outcome
    reason: str
    target_id: str | None = None
    value: float | None = None
    other: str | None = None
    gap: float | None = None
    tolerance: float | None = None
    unit: str = "%"
    is_expected: bool = False

    @property
    def title(self) -> str:
        """Task, split, metric and the protocol's variant; beside the paper also which number."""
        target = f"({self.target_id})" if self.target_id else ""
        return " ".join(part for part in (self.task, self.split, self.metric, self.variant, target) if part)


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        code: the exit code: 0 nothing worse, 1 a regression, 3 something that could not be compared.
    """

    against: Against
    cases: tuple[Case, ...]
    code: int

    def to_text(self) -> str:
        """Lay out every case as a table, then say what is not as it was."""
        table = render_text([_cells(case) for case in self.cases], header=_header(self.against))
        said = [f"{case.outcome}: {case.title}: {case.reason}" for case in self._told()]
        advice = [ADVICE] if self.code == EXIT_REGRESSION else []
        return "\n".join([table, *said, self.to_line(), *advice]) + "\n"

    def to_markdown(self) -> str:
        """Lay out the same as Markdown, under a heading."""
        table = render_markdown([_cells(case) for case in self.cases], header=_header(self.against))
        said = [f"- **{case.outcome}**: {case.title}: {case.reason}" for case in self._told()]
        return "\n".join([f"### {self.to_line()}\n", table, *said]) + "\n"

    def to_line(self) -> str:
        """Count the outcomes."""
        counts = Counter(case.outcome for case in self.cases)
        parts = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
        name = "the accepted numbers" if self.against == "accepted" else "the paper"
        return f"{len(self.cases)} metrics against {name}: {', '.join(parts)}"

    def _told(self) -> Iterator[Case]:
        return (case for case in self.cases if case.outcome not in SILENT and not case.is_expected)


def check_accepted(records: Iterable[Record], baselines: Mapping[str, Accepted]) -> Report:
    """Hold the newest record of each result against what was accepted; every accepted number is a case.

    Args:
        records: any; of several for one result the newest counts.
        baselines: accepted results by name.
    """
    newest = newest_records(records)
    cases: list[Case] = []
    comparisons: list[Comparison] = []
    for name in sorted({*newest, *baselines}):
        record, baseline = newest.get(name), baselines.get(name)
        if record is not None:
            made = () if baseline is None else compare_with_accepted(record, baseline)
            comparisons += made
            tolerances = {} if baseline is None else {metric.name: metric.tolerance for metric in baseline.metrics}
            cases += _cases(name, record, comparisons=made, tolerances=tolerances)
        elif baseline is not None:
            cases += _not_run(name, baseline)
    return Report("accepted", tuple(cases), exit_code(comparisons))


def check_paper(records: Iterable[Record], targets: Iterable[Target] = ()) -> Report:
    """Lay out how the newest record of each result stood beside the paper when it was made.

    Args:
        records: any; those that were trained alike with several seeds are judged together.
        targets: published numbers, for the test over seeds.
    """
    newest = newest_records(join_seeds(records, targets))
    cases: list[Case] = []
    comparisons: list[Comparison] = []
    for name, record in newest.items():
        made = tuple(comparison for comparison in record.comparisons if comparison.against == "paper")
        comparisons += made
        cases += _cases(name, record, comparisons=made, tolerances={})
    return Report("paper", tuple(cases), exit_code(comparisons))


def _cases(
    suite: str, record: Record, *, comparisons: tuple[Comparison, ...], tolerances: Mapping[str, float]
) -> Iterator[Case]:
    for comparison in comparisons:
        metric = record.find_metric(comparison.metric)
        yield replace(
            _case(
                suite, record, metric=comparison.metric, outcome=_outcome(comparison, metric), reason=comparison.reason
            ),
            target_id=comparison.target_id if comparison.against == "paper" else None,
            value=None if metric is None else metric.value,
            other=comparison.printed,
            gap=comparison.gap,
            tolerance=tolerances.get(comparison.metric),
            unit="%" if metric is None else metric.unit,
            is_expected=(comparison.against, comparison.profile) == ("paper", "mini"),
        )
    compared = {comparison.metric for comparison in comparisons}
    for metric in record.metrics:
        if metric.name not in compared:
            reason = "there is no number to hold it against"
            yield replace(
                _case(suite, record, metric=metric.name, outcome=Outcome.NO_REFERENCE, reason=reason),
                value=metric.value,
                unit=metric.unit,
            )


def _not_run(suite: str, baseline: Accepted) -> Iterator[Case]:
    for metric in baseline.metrics:
        yield replace(
            _case(
                suite, baseline, metric=metric.name, outcome=Outcome.NOT_RUN, reason="accepted, and no record of a run"
            ),
            other=show_value(metric.value, metric.unit),
            tolerance=metric.tolerance,
            unit=metric.unit,
        )


def _case(suite: str, result: Record | Accepted, *, metric: str, outcome: Outcome, reason: str) -> Case:
    return Case(
        suite=suite,
        task=result.task,
        split=result.split,
        metric=metric,
        variant="" if result.variant == result.setting else result.variant,
        model_size=result.model_size,
        outcome=outcome,
        reason=reason,
    )


def _outcome(comparison: Comparison, metric: MetricValue | None) -> Outcome:
    """Put a verdict into the words of a check, so that `exit_code` and the outcomes say the same."""
    if comparison.verdict is Verdict.WITHIN_SAMPLING_ERROR and metric is not None and _is_above(metric, comparison):
        return Outcome.BETTER
    if comparison.verdict is not Verdict.OFF:
        return Outcome(comparison.verdict)
    if comparison.against == "accepted":
        return Outcome.BETTER if comparison.is_better else Outcome.REGRESSION
    return Outcome.NOT_COMPARABLE if comparison.gap is None else Outcome.OFF


def _is_above(metric: MetricValue, comparison: Comparison) -> bool:
    """Whether the whole interval lies on the better side of the other number."""
    low, high = metric.ci_low, metric.ci_high
    if low is None or high is None:
        return False
    return low > comparison.published if comparison.direction == "higher" else high < comparison.published


def _header(against: Against) -> tuple[str, ...]:
    return ("task", "split", "metric", "ours", against, "gap", "tolerance", "size", "verdict")


def _cells(case: Case) -> list[str]:
    ours = DASH if case.value is None else show_value(case.value, case.unit)
    gap = show_gap(case.gap, case.unit)
    tolerance = DASH if case.tolerance is None else f"{case.tolerance:.3g}"
    metric = f"{case.metric} {case.variant}".rstrip()
    numbers = [ours, case.other or DASH, gap, tolerance]
    return [case.task, case.split, metric, *numbers, case.model_size, str(case.outcome)]
