"""What is said: the prompt of a class, and how texts are prepared."""

from downstream.doctor.base import Cost, Finding, Question, ok, suspect, unchecked
from downstream.doctor.case import Case

PROMPTS = ("{label}", "This is a sound of {label}", "a photo of a {label}")
NO_PROMPT = "classes are not named by sentences"


def look_at_prompt(case: Case) -> Finding:
    """Hold the prompt and the protocol of texts against the config's."""
    if "text" not in case.setting.inputs:
        return unchecked("there are no texts")
    block = f"settings.{case.part.setting}"
    prompt, wanted = case.setting.prompt, case.expected.prompt
    if prompt != wanted:
        return suspect(f"the prompt is {prompt!r}, the config says {wanted!r}", f"leave --set {block}.prompt out")
    protocol, expected = (each.inputs["text"].protocol for each in (case.setting, case.expected))
    if protocol != expected:
        return suspect(
            f"texts are prepared by {protocol!r}, the config says {expected!r}",
            f"leave --set {block}.inputs.text.protocol out",
        )
    return ok(f"{prompt!r}, texts by {protocol!r}" if prompt else f"sentences as they stand, by {protocol!r}")


def probe_prompt(case: Case) -> Finding:
    """Say the classes otherwise."""
    from downstream.doctor.probe import Change, try_changes

    if case.setting.prompt is None:
        return unchecked(NO_PROMPT)
    others = (case.expected.prompt, *PROMPTS)
    changes = {repr(prompt): Change(prompt=prompt) for prompt in others if prompt not in (None, case.setting.prompt)}
    trial = try_changes(case.probe, changes)
    if trial.best is None:
        return ok(trial.told)
    return suspect(
        trial.told,
        f"look at the prompt and at the names of the classes; to judge with it: --set "
        f"settings.{case.part.setting}.prompt={trial.best.name}",
        gain=trial.best.gain,
    )


PROMPT = Question("prompt", Cost.FREE, look_at_prompt)
PROMPT_PROBE = Question("prompt", Cost.COMPUTE, probe_prompt)
