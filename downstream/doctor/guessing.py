"""Do the answers know anything at all."""

from downstream.doctor.base import Cost, Finding, Question, ok, suspect
from downstream.doctor.case import Case


def probe_signal(case: Case) -> Finding:
    """Hold the score against the one that the same answers get for other samples' questions."""
    from downstream.doctor.probe import is_informed

    scores, guessed = case.probe.score(), case.probe.guess()
    told = f"score {100 * scores.mean():.0f}, {100 * guessed.mean():.0f} by guessing"
    if is_informed(scores, guessed):
        return ok(told)
    return suspect(
        f"{told}: on these samples the answers are as good as guessed",
        "weights that were never trained for this, names of classes or captions that belong to other samples: "
        "hold the lists against the makers', and the file against the published one; --limit 500 sees more samples",
    )


SIGNAL = Question("signal", Cost.COMPUTE, probe_signal)
