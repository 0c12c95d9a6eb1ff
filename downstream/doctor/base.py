"""What a check is, what it finds, and in which order checks are made. Imports no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from downstream.doctor.case import Case

MEND = "mend what the line says, and ask again"


class Cost(StrEnum):
    """What a check takes; they are made in this order."""

    FREE = "free"
    """The settings, and the header of the weights."""
    CHEAP = "cheap"
    """Lists, and the headers of pictures and sounds."""
    COMPUTE = "compute"
    """A small probe goes through the model, as configured and otherwise."""


class Verdict(StrEnum):
    """What came of a check."""

    OK = "ok"
    SUSPECT = "suspect"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    verdict: Verdict
    told: str
    """What was seen, or why nothing was looked at; one line."""
    remedy: str = ""
    """What to do about a suspect: the option, the setting or the command."""
    gain: float = 0.0
    """By how much the probe's score rises without the fault, 0 where nothing was computed."""


def ok(told: str) -> Finding:
    """Say that nothing is wrong here."""
    return Finding(Verdict.OK, told)


def suspect(told: str, remedy: str, *, gain: float = 0.0) -> Finding:
    """Say what may be wrong, and what to do."""
    return Finding(Verdict.SUSPECT, told, remedy, gain)


def unchecked(why: str) -> Finding:
    """Say why there is nothing to look at."""
    return Finding(Verdict.UNCHECKED, why)


class Check(Protocol):
    """One question that has one answer for a case."""

    @property
    def name(self) -> str:
        """What it is about: the cause that it names."""
        ...

    @property
    def cost(self) -> Cost:
        """What it takes."""
        ...

    def run(self, case: Case) -> Finding:
        """Look, and say what is seen; faulty input is a finding, never an error."""
        ...


@dataclass(frozen=True)
class Question:
    """A check that is a function."""

    name: str
    cost: Cost
    ask: Callable[[Case], Finding]
    is_reader: bool = False
    """Whether what cannot be read is its own fault; other checks look at nothing then."""

    def run(self, case: Case) -> Finding:
        """Ask; what the readers refuse is told in their own words."""
        try:
            if self.cost is Cost.COMPUTE and (lack := case.find_lack()) is not None:
                return unchecked(lack)
            return self.ask(case)
        except (ValueError, FileNotFoundError) as error:
            return suspect(str(error), MEND) if self.is_reader else unchecked(str(error))


@dataclass(frozen=True)
class Answered:
    """A check with what it found."""

    check: Check
    finding: Finding

    @property
    def is_suspect(self) -> bool:
        """Whether it names a cause."""
        return self.finding.verdict is Verdict.SUSPECT


def examine(
    case: Case, checks: Sequence[Check], *, is_thorough: bool, told: Callable[[Answered], None]
) -> tuple[Answered, ...]:
    """Make all checks, the cheapest first; where the cheap ones name a cause, nothing is computed.

    Args:
        case: what is examined.
        checks: in the order in which they are made within one cost.
        is_thorough: compute in any case.
        told: gets each answer as it comes.
    """
    answers: list[Answered] = []
    for cost in Cost:
        is_known = cost is Cost.COMPUTE and not is_thorough and any(answer.is_suspect for answer in answers)
        for check in checks:
            if check.cost is not cost:
                continue
            later = unchecked("after what is suspect above; --limit N computes in any case")
            answer = Answered(check, later if is_known else check.run(case))
            answers.append(answer)
            told(answer)
    return tuple(answers)


def find_cause(answers: Sequence[Answered]) -> Answered | None:
    """Choose the cause that is named first: the cheapest; of those that were computed the one that explains most."""
    found = [answer for answer in answers if answer.is_suspect]
    return min(found, key=lambda answer: (list(Cost).index(answer.check.cost), -answer.finding.gain), default=None)
