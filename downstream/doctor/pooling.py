"""Whose tokens are pooled: a flag that cost somebody 59 points."""

from downstream.doctor.base import Cost, Finding, Question, ok, suspect, unchecked
from downstream.doctor.case import Case

KEY = "settings.fine-tuned.head.pooled_modality"


def look_at_flag(case: Case) -> Finding:
    """Hold the flag in the file against the one in the settings, and both against the config."""
    head, expected = case.setting.head, case.expected.head
    if head is None or expected is None:
        return unchecked("embeddings are compared, nothing is pooled")
    if head.is_linear or len(case.setting.inputs) < 2:
        return unchecked("there is one modality alone")
    told = find_flag(case)
    if told is not None and told != head.pooled_modality:
        return suspect(
            f"the file pools {told} tokens, the settings {head.pooled_modality} tokens",
            f"--set {KEY}={told}" if told != expected.pooled_modality else f"leave --set {KEY} out",
        )
    if head.pooled_modality != expected.pooled_modality:
        return suspect(
            f"{head.pooled_modality} tokens are pooled, the config says {expected.pooled_modality} tokens",
            f"leave --set {KEY} out",
        )
    if told is None:
        return ok(f"{head.pooled_modality} tokens by the config; the file says nothing of it")
    return ok(f"{told} tokens, by the file and by the config")


def find_flag(case: Case) -> str | None:
    """Read the flag from a header of ours, or from the settings inside a released file of texts with pictures."""
    if case.origin is not None:
        pooled = getattr(case.origin.head, "pooled_modality", None)
        return None if pooled is None else str(pooled)
    config = case.description.config if case.description is not None else None
    model = config.get("model") if isinstance(config, dict) else None
    flag = model.get("use_image_features") if isinstance(model, dict) else None
    if flag is None or not {"text", "image"} <= set(case.setting.inputs):
        return None
    return "image" if flag else "text"


def probe_tokens(case: Case) -> Finding:
    """Pool the other modality's tokens of the same sequences."""
    from downstream.doctor.probe import Change, try_changes

    head = case.setting.head
    if head is None or head.is_linear or len(case.setting.inputs) < 2:
        return unchecked("nothing is pooled, or there is one modality alone")
    pooled = case.probe.pooled
    others = [name for name in case.setting.inputs if name != pooled]
    changes = {f"{name} tokens pooled": Change(pooled=name) for name in others}
    trial = try_changes(case.probe, changes)
    if trial.best is None:
        return ok(trial.told)
    right = trial.best.name.partition(" ")[0]
    remedy = f"--set {KEY}={right}; a flag in the file's header that says {pooled} is wrong then"
    return suspect(trial.told, remedy, gain=trial.best.gain)


FLAG = Question("pooled tokens", Cost.FREE, look_at_flag)
TOKENS = Question("pooled tokens", Cost.COMPUTE, probe_tokens)
