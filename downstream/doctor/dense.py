"""What headers tell of tasks of the dense engine: segmentation and detection; nothing is computed."""

from collections.abc import Mapping
from typing import Any

from downstream.doctor.base import Check, Cost, Finding, Question, ok, suspect, unchecked
from downstream.doctor.case import Case
from downstream.tasks.base import RunOptions

HEADS = {"Mask2Former": "segmentation", "cascade detection": "detection"}
COMMAND = "python downstream/run.py"


def _expected(case: Case) -> Mapping[str, Any]:
    """Give the profile without what the user changed."""
    options = RunOptions(profile=case.profile_name)
    return case.task.plan(case.config, options).settings


def _is_segmentation(case: Case) -> bool:
    return "geometry" in case.settings and "stride_px" in case.settings["geometry"]


def look_at_variant(case: Case) -> Finding:
    """Hold the head in the file against the task's."""
    if case.description is None:
        return unchecked("no weights are named; name fine-tuned ones with --checkpoint")
    described, wanted = case.description, "segmentation" if _is_segmentation(case) else "detection"
    found = HEADS.get((described.head or {}).get("kind", ""), "")
    if found != wanted:
        has = f"a head of {found}" if found else "no head of a dense task"
        return suspect(
            f"the file is: {described.variant}; it has {has}, the task is {wanted}",
            f"name fine-tuned weights with --checkpoint; pretrained ones with --pretrained: {COMMAND} "
            f"{case.config.task} --pretrained FILE",
        )
    return ok(f"{described.variant}, {described.num_tensors} tensors")


def look_at_classes(case: Case) -> Finding:
    """Count the outputs of the head."""
    if case.description is None:
        return unchecked("no weights are named")
    outputs, wanted = (case.description.head or {}).get("outputs"), case.config.dataset.num_classes
    if outputs is None or wanted is None or case.profile_name != "paper":
        return unchecked("the file or the config tells no number of classes")
    if outputs - 1 != wanted:
        return suspect(
            f"the head tells {outputs - 1} classes apart, the data set has {wanted}",
            f"name weights that were fine-tuned on {case.config.dataset.name}",
        )
    return ok(f"{wanted} classes, and one for nothing")


def look_at_resolution(case: Case) -> Finding:
    """Hold sizes in the settings against the config's and the file's."""
    if not _is_segmentation(case):
        return unchecked("only of segmentation is it known where the settings say it")
    found, expected = case.settings["geometry"], _expected(case)["geometry"]
    for key in ("crop_px", "stride_px", "scale_px", "size_divisor", "test_ratios"):
        if found[key] != expected[key]:
            return suspect(f"{key} is {found[key]}, the config says {expected[key]}", f"leave --set geometry.{key} out")
    branch = case.description.branches.get("image") if case.description is not None else None
    stored = branch.input.get("image_size_px") if branch is not None else None
    if stored is not None and stored != found["crop_px"]:
        return suspect(
            f"the file's relative tables are those of {stored} px, windows have {found['crop_px']} px",
            "name weights that were fine-tuned with the config's window",
        )
    return ok(f"windows of {found['crop_px']} px" + (", as the file's relative tables" if stored else ""))


def look_at_normalisation(case: Case) -> Finding:
    """Hold mean and deviation against the config's."""
    expected = _expected(case)
    for key in ("mean", "std"):
        if key in expected and list(case.settings[key]) != list(expected[key]):
            return suspect(f"{key} is {case.settings[key]}, the config says {expected[key]}", f"leave --set {key} out")
    return ok("mean and deviation are those of the config")


def look_at_precision(case: Case) -> Finding:
    """Hold the precision against the config's."""
    found = case.record.dtype if case.record is not None else case.settings["precision"]
    expected = _expected(case)["precision"]
    if found != expected:
        return suspect(f"computed in {found}, the config says {expected}", "leave --set precision out")
    return ok(f"{found}, as the config says")


def look_at_samples(case: Case) -> Finding:
    """Hold the counts of a run against the published ones."""
    if case.record is None:
        return unchecked("a run counts and checks its pictures; name one with --run")
    data, limit = case.record.data, case.record.config.get("limit")
    if limit is not None:
        return suspect(f"the run was made with --limit {limit:g}: {data.n} pictures", "run again without --limit")
    if data.differences or (data.n_expected is not None and data.n != data.n_expected):
        told = "; ".join(data.differences) or f"{data.n} pictures were judged, {data.n_expected} are published"
        return suspect(told, "fetch the data set whole")
    return ok(f"{data.n} pictures, all of the split")


DENSE: tuple[Check, ...] = (
    Question("variant", Cost.FREE, look_at_variant, is_reader=True),
    Question("class order", Cost.FREE, look_at_classes),
    Question("resolution", Cost.FREE, look_at_resolution),
    Question("normalisation", Cost.FREE, look_at_normalisation),
    Question("dtype", Cost.FREE, look_at_precision),
    Question("missing ids", Cost.FREE, look_at_samples),
)
