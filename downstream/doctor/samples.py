"""Which samples were judged: missing ids, counts, and a limit that somebody forgot."""

import json
from collections import Counter
from typing import Any

from downstream.doctor.base import Cost, Finding, Question, ok, suspect, unchecked
from downstream.doctor.case import NO_DATA, Case
from downstream.formats.published import list_differences

PREDICTIONS = "predictions"
SHOWN = 3
WHOLE = "fetch the data set whole, in the published version"


def look_at_samples(case: Case) -> Finding:
    """Hold the ids of the list, and those of a run, against what is published and against each other."""
    looks = (_fault_of_record, _fault_of_listing, _fault_of_predictions)
    for look in looks:
        if (finding := look(case)) is not None:
            return finding
    if case.listing is None and case.record is None:
        return unchecked(NO_DATA)
    if case.listing is None:
        return ok("the run saw every sample that is published; name --data-root to hold its ids against the list")
    against = "as published" if case.is_published else "there is no published count to hold them against"
    return ok(f"{len(case.listing.samples)} samples, none missing, no id twice; {against}")


def _fault_of_record(case: Case) -> Finding | None:
    """What the run says itself of its samples."""
    if case.record is None:
        return None
    data, limit = case.record.data, case.record.config.get("limit")
    if limit is not None:
        return suspect(f"the run was made with --limit {limit:g}: {data.n} samples", "run again without --limit")
    if data.differences:
        return suspect("; ".join(data.differences), WHOLE)
    if data.n_expected is not None and data.n != data.n_expected:
        return suspect(f"{data.n} samples were judged, {data.n_expected} are published", "fetch what is missing")
    return None


def _fault_of_listing(case: Case) -> Finding | None:
    """What the list says of the files that are there."""
    listing = case.listing
    if listing is None:
        return None
    if listing.absent:
        return suspect(
            f"{len(listing.absent)} of {listing.num_listed} clips are not there: {_some(listing.absent)}",
            "fetch them; where they no longer exist, the number stays not comparable",
        )
    if twice := [name for name, count in Counter(sample.id for sample in listing.samples).items() if count > 1]:
        return suspect(f"{len(twice)} ids stand twice in the list: {_some(twice)}", "take the makers' own list")
    counts = case.config.dataset.splits[case.part.split]
    if not case.is_published or counts.samples is None:
        return None
    differences = list_differences(
        listing,
        num_samples=counts.samples,
        num_captions=counts.captions,
        num_classes=case.config.dataset.num_classes,
        captions_per_item=case.config.dataset.captions_per_item,
    )
    return suspect("; ".join(differences), WHOLE) if differences else None


def _fault_of_predictions(case: Case) -> Finding | None:
    """Hold the ids that a run wrote down against those of the list."""
    if case.record is None or case.run is None or case.listing is None:
        return None
    written = _read_ids(case)
    listed = {sample.id for sample in case.listing.samples}
    missing, foreign = sorted(listed - written), sorted(written - listed)
    if missing or foreign:
        return suspect(
            f"{len(missing)} ids of the list were not judged ({_some(missing)}), {len(foreign)} judged ones are not "
            f"in the list ({_some(foreign)})",
            "name the data that the run was made with, or run again on this one",
        )
    return None


def _read_ids(case: Case) -> set[str]:
    """Read the ids of a run's predictions."""
    assert case.record is not None, "a run"
    assert case.run is not None, "a run"
    name, folder = case.record.artifacts.get(PREDICTIONS), case.run
    if name is None or not (folder / name).is_file():
        raise ValueError(f"{folder} has no predictions, expected them beside the record; run again")
    with (folder / name).open(encoding="utf-8") as file:
        rows: list[Any] = [json.loads(line) for line in file]
    return {str(row["id"]) for row in rows}


def _some(names: Any) -> str:
    shown = ", ".join(list(names)[:SHOWN])
    return (shown + (", ..." if len(names) > SHOWN else "")) or "none"


SAMPLES = Question("missing ids", Cost.CHEAP, look_at_samples, is_reader=True)
