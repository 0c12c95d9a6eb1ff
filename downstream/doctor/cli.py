"""Command line of the doctor: `python downstream/run.py doctor TASK`. Imports no torch before a check needs it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from downstream.doctor.base import Answered, examine, find_cause
from downstream.doctor.case import Case, open_case
from downstream.doctor.checks import list_checks
from downstream.tasks.base import RunOptions
from downstream.workplace import count_ranks

COMMAND = "doctor"
LONG = 50
UNSEEN = "whether these are the very weights and the very files that were published, no check sees"
EXIT_HEALTHY, EXIT_CAUSE, EXIT_MISSING = 0, 3, 4


def run_doctor(names: Sequence[str], options: RunOptions, *, run: Path | None, is_dry: bool) -> int:
    """Examine a task, or a finished run of it, and print what is found.

    Args:
        names: what stands behind `doctor` on the command line.
        options: as for a run; `limit` is the number of samples that go through the model.
        run: the folder of a finished run.
        is_dry: name the checks alone.

    Raises:
        ValueError: not one task, several processes, or what `open_case` refuses.
        FileNotFoundError: as `open_case`.
    """
    if len(names) != 1:
        raise ValueError("the doctor examines one task at a time: python downstream/run.py doctor coco")
    if count_ranks() > 1:
        raise ValueError("the doctor works in one process; start it without torchrun")
    case = open_case(names[0], options, run=run)
    checks = list_checks(case)
    print(_title(case), flush=True)
    if is_dry:
        print(*(f"  {check.cost:<8} {check.name}" for check in checks), sep="\n")
        return EXIT_HEALTHY
    answers = examine(case, checks, is_thorough=options.limit is not None, told=_Report().tell)
    code = _conclude(answers)
    if code == EXIT_HEALTHY and case.missing:
        print(*(f"error: missing {line}" for line in case.missing), sep="\n", file=sys.stderr)
        return EXIT_MISSING
    return code


def _title(case: Case) -> str:
    what = f"run {case.run.name}" if case.run else f"weights {case.weights.name if case.weights else 'not named'}"
    return f"{case.config.title}, {case.part.setting} on {case.part.split}, profile {case.profile_name}: {what}"


class _Report:
    """Prints a line for each check; a long line that was said before is not said again."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def tell(self, answer: Answered) -> None:
        """Print what came of one check."""
        finding, check = answer.finding, answer.check
        told = "as above" if finding.told in self.said else finding.told
        print(f"  {check.cost:<8} {check.name:<15} {finding.verdict:<12} {told}", flush=True)
        if len(told) > LONG:
            self.said.add(told)


def _conclude(answers: Sequence[Answered]) -> int:
    """Name the first cause, and what to do."""
    cause = find_cause(answers)
    if cause is None:
        print(f"cause: none found; {UNSEEN}")
        return EXIT_HEALTHY
    print(f"cause: {cause.check.name}: {cause.finding.told}")
    print(f"do:    {cause.finding.remedy}")
    return EXIT_CAUSE
