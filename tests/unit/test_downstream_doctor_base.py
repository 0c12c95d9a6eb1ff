"""The cheapest checks come first, and of what was computed the cause that explains most."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from downstream.doctor.base import Answered, Cost, Finding, Question, Verdict, examine, find_cause, ok, suspect
from downstream.doctor.case import Case


@dataclass
class Stand:
    """Stands in for a case."""

    lack: str | None = None
    asked: list[str] = field(default_factory=list)

    def find_lack(self) -> str | None:
        return self.lack


def question(name: str, cost: Cost, finding: Finding, **options: Any) -> Question:
    def ask(case: Case) -> Finding:
        cast("Any", case).asked.append(name)
        return finding

    return Question(name, cost, ask, **options)


def go(*checks: Question, is_thorough: bool = False, stand: Stand | None = None) -> tuple[Answered, ...]:
    return examine(cast("Any", stand or Stand()), checks, is_thorough=is_thorough, told=lambda _: None)


def test_checks_are_made_by_cost_and_within_one_cost_in_their_order() -> None:
    stand = Stand()
    checks = [question(f"{cost}-{name}", cost, ok("")) for cost in reversed(Cost) for name in "ab"]
    go(*checks, stand=stand)
    assert stand.asked == ["free-a", "free-b", "cheap-a", "cheap-b", "compute-a", "compute-b"]


@pytest.mark.parametrize("cost", [Cost.FREE, Cost.CHEAP])
@pytest.mark.parametrize("is_thorough", [False, True])
def test_nothing_is_computed_once_a_cause_is_known_unless_it_is_asked_for(cost: Cost, is_thorough: bool) -> None:
    checks = (question("known", cost, suspect("a", "b")), question("dear", Cost.COMPUTE, ok("")))
    _, last = go(*checks, is_thorough=is_thorough)
    assert last.finding.verdict is (Verdict.OK if is_thorough else Verdict.UNCHECKED)


def test_every_cheap_check_is_made_even_when_a_cause_is_known() -> None:
    answers = go(question("one", Cost.FREE, suspect("a", "b")), question("two", Cost.CHEAP, ok("fine")))
    assert [answer.finding.told for answer in answers] == ["a", "fine"]


def test_the_cheapest_cause_is_named_and_of_computed_ones_that_with_the_largest_gain() -> None:
    small, large = (question(f"{gain}", Cost.COMPUTE, suspect("", "", gain=gain)) for gain in (0.2, 0.8))
    cause = find_cause(go(small, large))
    assert cause is not None
    assert cause.check.name == "0.8"
    cheap = question("cheap", Cost.CHEAP, suspect("", ""))
    cause = find_cause(go(small, large, cheap, is_thorough=True))
    assert cause is not None
    assert cause.check.name == "cheap"
    assert find_cause(go(question("fine", Cost.FREE, ok("")))) is None


@pytest.mark.parametrize("error", [ValueError("line 3 is odd"), FileNotFoundError("line 3 is odd")])
def test_what_cannot_be_read_is_the_fault_of_the_check_that_reads_it_and_of_no_other(error: Exception) -> None:
    def fail(_: Case) -> Finding:
        raise error

    reader, other = Question("files", Cost.FREE, fail, is_reader=True), Question("prompt", Cost.FREE, fail)
    first, second = go(reader, other)
    assert (first.finding.verdict, first.finding.told) == (Verdict.SUSPECT, "line 3 is odd")
    assert (second.finding.verdict, second.finding.told) == (Verdict.UNCHECKED, "line 3 is odd")


def test_without_weights_or_data_nothing_is_computed_and_it_is_said_why() -> None:
    checks = (question("dear", Cost.COMPUTE, ok("")), question("cheap", Cost.CHEAP, ok("")))
    cheap, dear = go(*checks, stand=Stand("no data is named"))
    assert cheap.finding.verdict is Verdict.OK
    assert (dear.finding.verdict, dear.finding.told) == (Verdict.UNCHECKED, "no data is named")
