"""Is it the right file: pretrained or fine-tuned, for which task, of which size, with which head."""

from collections.abc import Sequence

from downstream.config import list_tasks
from downstream.doctor.base import Cost, Finding, Question, ok, suspect, unchecked
from downstream.doctor.case import Case
from downstream.tasks.plain import find_task
from models.config import load_config

SCORE = "a score is 100 where every right answer comes first (mean reciprocal rank), or every box fits"
PRETRAINED_KEY = "onepeace"  # under which our pretraining describes itself


def look_at_variant(case: Case) -> Finding:
    """Hold what the header says against what the task needs."""
    if case.description is None:
        return _look_at_run(case)
    if (fault := _fault_of_run(case)) is not None:
        return fault
    faults = (_fault_of_size, _fault_of_branches, _fault_of_kind, _fault_of_task, _fault_of_head)
    for look in faults:
        if (finding := look(case)) is not None:
            return finding
    origin = case.origin
    made = f"fine-tuned here on {origin.task}" if origin is not None else case.description.variant
    return ok(f"{made}: {', '.join(case.description.branches)}; {case.description.num_tensors} tensors")


def _look_at_run(case: Case) -> Finding:
    """Without a file, a run still tells what became of the names."""
    if case.record is None:
        return unchecked("no weights are named; name fine-tuned ones with --checkpoint")
    info = case.record.checkpoint
    if case.record.setting == "untrained":
        return suspect("the head was never trained: there was no training split", _give_finetuned(case))
    if info.missing or info.unexpected:
        names = ", ".join((*info.missing_names, *info.unexpected_names)[:3])
        return suspect(
            f"{info.missing} names of {info.name} were missing and {info.unexpected} unexpected: {names}",
            "evaluate again with a file that fits the task whole",
        )
    return ok(f"{info.name}: {info.loaded} names loaded, none missing; name the file with --checkpoint to look inside")


def _fault_of_run(case: Case) -> Finding | None:
    """A file that is named beside a run has to be the run's."""
    if case.record is None or case.weights is None or case.record.checkpoint.sha256 is None:
        return None
    from models.checkpoint.reader import file_sha256

    sha256 = file_sha256(case.weights)
    if sha256 == case.record.checkpoint.sha256:
        return None
    return suspect(
        f"{case.weights.name} is {sha256[:8]}, the run was made with {case.record.checkpoint.sha256[:8]}",
        "name the file of the run, or evaluate this one",
    )


def _fault_of_size(case: Case) -> Finding | None:
    assert case.description is not None, "there is a file"
    size = load_config(case.profile.size)
    for key, found in case.description.sizes.items():
        if found is not None and found != getattr(size, key):
            return suspect(
                f"{key} is {found} in the file, {getattr(size, key)} in size {size.name}",
                f"name the profile that the file belongs to: --profile {_other_profile(case)}",
            )
    return None


def _other_profile(case: Case) -> str:
    return "mini" if case.profile_name == "paper" else "paper"


def _fault_of_branches(case: Case) -> Finding | None:
    assert case.description is not None, "there is a file"
    if lacking := [name for name in case.setting.inputs if name not in case.description.branches]:
        has = ", ".join(case.description.branches) or "no branch"
        needs = f"{case.part.setting} needs {' and '.join(case.setting.inputs)}"
        return suspect(f"the file has {has} and lacks {', '.join(lacking)}; {needs}", _give(case))
    return None


def _fault_of_kind(case: Case) -> Finding | None:
    """Tell pretrained weights from fine-tuned ones."""
    described, setting = case.description, case.part.setting
    assert described is not None, "there is a file"
    config = described.config if isinstance(described.config, dict) else {}
    is_pretrained = case.origin is None and (described.num_decoder_parameters > 0 or PRETRAINED_KEY in config)
    if setting == "fine-tuned" and is_pretrained:
        return suspect("the file holds pretrained weights, fine-tuned ones are judged", _give_finetuned(case))
    if setting == "zero-shot" and case.origin is not None:
        return suspect(
            f"the file was fine-tuned on {case.origin.task}; zero-shot takes pretrained weights", _give(case)
        )
    tables = {described.branches[name].tables for name in case.setting.inputs}
    if setting == "fine-tuned" and case.origin is None and case.setting.head is None and tables == {"shared"}:
        return suspect(
            "all layers share one relative table, as in pretrained weights; fine-tuning gives each layer its own",
            _give_finetuned(case),
        )
    if setting == "zero-shot" and tables == {"per layer"}:
        return suspect(
            "each layer has a relative table of its own, as in fine-tuned weights; pretrained ones share one",
            _give(case),
        )
    return None


def _fault_of_task(case: Case) -> Finding | None:
    """Weights of ours say which task they were fine-tuned for; tasks that train on one list share them."""
    origin = case.origin
    if origin is None or case.part.setting != "fine-tuned":
        return None
    if origin.setting != "fine-tuned":
        return suspect("the head of the file was never trained: there was no training split", _give_finetuned(case))
    if origin.task in _siblings(case):
        return None
    return suspect(f"the file was fine-tuned on {origin.task}, the task is {case.config.task}", _give_finetuned(case))


def _siblings(case: Case) -> Sequence[str]:
    """Name the tasks that one fine-tuning serves: those whose recipes train on the same sets."""
    training = case.setting.training
    known = [name for name in (training.data if training else ()) if name in list_tasks()]
    return (case.config.task, *(name for name in known if find_task(name)[0].kind == case.plain.kind))


def _fault_of_head(case: Case) -> Finding | None:
    """Hold head and outputs against those of the task."""
    found, wanted = (case.description.head if case.description else None), case.setting.head
    if wanted is None:
        return None if found is None else suspect(f"the file has a head ({found['kind']}), none is judged", _give(case))
    if found is None:
        return suspect("the file has no head, and the task needs a fine-tuned one", _give_finetuned(case))
    kind = "ImageNet" if wanted.is_linear else "classification"
    if found["kind"] != kind:
        return suspect(f"the head is one of {found['kind']}, the task needs {kind}", _give_finetuned(case))
    outputs = _count_outputs(case)
    if outputs is not None and found["outputs"] != outputs:
        return suspect(f"the head has {found['outputs']} outputs, the data {outputs}", _give_finetuned(case))
    return None


def _count_outputs(case: Case) -> int | None:
    from downstream.kinds import load_kind
    from downstream.kinds.base import Facts

    names = case.listing.class_names if case.listing is not None else ()
    wanted = load_kind(case.setting.kind or case.plain.kind).count_outputs(Facts(case.plain.media, names))
    return wanted or None


def _give(case: Case) -> str:
    if case.part.setting == "zero-shot":
        return "name pretrained weights: --pretrained FILE --setting zero-shot"
    return _give_finetuned(case)


def _give_finetuned(case: Case) -> str:
    """Say what to name instead, and how these weights could be judged."""
    told = f"name weights that were fine-tuned for {case.config.task}: --checkpoint FILE"
    if "zero-shot" in case.profile.settings:
        return f"{told}; or judge these as they are: --pretrained FILE --setting zero-shot"
    return f"{told}; or fine-tune from pretrained ones: python downstream/run.py {case.config.task} --pretrained FILE"


VARIANT = Question("variant", Cost.FREE, look_at_variant, is_reader=True)


def load_weights(case: Case) -> Finding:
    """Load the weights as a run does, and open the samples that go through them."""
    probe = case.probe
    return ok(f"{probe.loaded.info.loaded} names loaded; {len(probe.samples)} samples go through the model; {SCORE}")


LOADING = Question("variant", Cost.COMPUTE, load_weights, is_reader=True)
