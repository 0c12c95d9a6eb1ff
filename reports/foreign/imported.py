"""From a foreign evaluation to a record that says where it comes from and what nobody knows of it.

What the file does not say and the user does not state is `unknown`, never guessed. So such a number is hardly ever
comparable with a published one: it is when protocol, data set and size are stated, the samples are counted in the file
or by the user, and there is an interval; and even then as weights trained again, since nobody saw the weights.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import JsonValue, ValidationError

from reports.exports.document import IMPORT
from reports.foreign.reading import Entry, Reading
from reports.provenance import digest
from reports.record import CheckpointInfo, DataInfo, MetricValue, Profile, Record
from reports.target import Target
from reports.validation import explain
from reports.verdict import compare_record, select_targets

UNKNOWN = "unknown"
NO_SEED = -1  # a record wants a number; none is drawn from it
NEVER_SAID = ("checkpoint", "commit", "device", "dtype", "duration_s", "seed", "started_at", "versions")


@dataclass(frozen=True)
class Claims:
    """What the user states of a foreign file, besides what stands in it.

    Attributes:
        num_samples: of every metric whose count the file does not say.
    """

    task: str
    split: str
    profile: Profile = "paper"
    dataset: str = UNKNOWN
    dataset_version: str = UNKNOWN
    setting: str = UNKNOWN
    protocol: str = UNKNOWN
    model_size: str = UNKNOWN
    num_samples: int | None = None


@dataclass(frozen=True)
class Origin:
    """The file that was read, without the way to it, and when and how it was read.

    Attributes:
        read_at: ISO 8601 in UTC.
    """

    file: str
    sha256: str
    command: str
    read_at: str


def claim_like(claims: Claims, target: Target) -> Claims:
    """State, where nothing is stated, what stands in a published number's protocol.

    Raises:
        ValueError: the number is of another split.
    """
    if target.split != claims.split:
        raise ValueError(f"{target.id} is of split {target.split!r}, not {claims.split!r}. Name another one.")
    fields = ("dataset", "dataset_version", "setting", "protocol", "model_size")
    missing = {name: getattr(target, name) for name in fields if getattr(claims, name) == UNKNOWN}
    return replace(claims, **missing)


def choose_entry(reading: Reading, step: int | None) -> Entry:
    """Take the last evaluation, or the one of a step; never the best one.

    Raises:
        ValueError: no evaluation of that step.
    """
    if step is None:
        return reading.entries[-1]
    found = [entry for entry in reading.entries if entry.step == step]
    if not found:
        steps = ", ".join(str(entry.step) for entry in reading.entries if entry.step is not None) or "none"
        raise ValueError(f"no evaluation of step {step}. Steps of evaluations in the file: {steps}.")
    return found[-1]


def make_record(
    reading: Reading, entry: Entry, claims: Claims, *, origin: Origin, targets: Iterable[Target] = ()
) -> Record:
    """Make a record of one foreign evaluation and hold it against the published numbers of its task.

    Args:
        reading: of the file.
        entry: one of its evaluations.
        claims: what the user states.
        origin: which file it was.
        targets: what is published for the task.

    Raises:
        ValueError: a claim that no record can hold.
    """
    try:
        record = _make(reading, entry, claims, origin=origin)
    except ValidationError as error:
        raise ValueError(f"not a record: {explain(error)}. State it otherwise.") from None
    listed = tuple(targets)
    return compare_record(record, listed, same_weights=False, full_data=_is_full(record, listed))


def _make(reading: Reading, entry: Entry, claims: Claims, *, origin: Origin) -> Record:
    metrics = tuple(_counted(metric, claims.num_samples) for metric in entry.metrics)
    return Record(
        run_id=f"{_stamp(origin.read_at)}_{claims.task}_import_{_short(origin, claims, entry)}",
        task=claims.task,
        dataset=claims.dataset,
        split=claims.split,
        profile=claims.profile,
        model_size=claims.model_size,
        setting=claims.setting,
        protocol=claims.protocol,
        protocol_sha256=UNKNOWN,
        metrics=metrics,
        per_class=dict(entry.per_class),
        checkpoint=CheckpointInfo(name=UNKNOWN, sha256=None, loaded=0),
        data=_data(entry, claims, metrics),
        config={IMPORT: _provenance(reading, entry, claims, origin=origin)},
        dtype=UNKNOWN,
        device=UNKNOWN,
        seed=NO_SEED,
        commit=UNKNOWN,
        is_dirty=True,  # no commit of ours made it, so `accept` does not take it for one of ours
        versions={},
        started_at=origin.read_at,
        duration_s=0.0,
        command=origin.command,
    )


def _counted(metric: MetricValue, num_samples: int | None) -> MetricValue:
    return metric if metric.n is not None or num_samples is None else metric.model_copy(update={"n": num_samples})


def _data(entry: Entry, claims: Claims, metrics: Sequence[MetricValue]) -> DataInfo:
    return DataInfo(
        name=claims.dataset,
        version=claims.dataset_version,
        root_name=UNKNOWN,
        digest=UNKNOWN,
        n=max((metric.n or 0 for metric in metrics), default=0),
        n_expected=None,
        ids_sha256=UNKNOWN if entry.ids is None else digest(list(entry.ids)),
    )


def _provenance(reading: Reading, entry: Entry, claims: Claims, *, origin: Origin) -> dict[str, JsonValue]:
    place = reading.entries.index(entry) + 1
    stated: dict[str, JsonValue] = {key: value for key, value in asdict(claims).items() if value not in (None, UNKNOWN)}
    unknown = [name for name, value in asdict(claims).items() if value == UNKNOWN]
    if any(metric.n is None for metric in entry.metrics) and claims.num_samples is None:
        unknown.append("num_samples")
    return {
        "file": origin.file,
        "sha256": origin.sha256,
        "layout": reading.layout,
        "entry": f"{entry.where}, evaluation {place} of {len(reading.entries)}",
        "step": entry.step,
        "stated": stated,
        "unknown": [*sorted((*NEVER_SAID, *unknown))],
    }


def _is_full(record: Record, targets: Sequence[Target]) -> bool:
    """Say whether every metric is over as many samples as the published number that it is held against."""
    pairs = select_targets(record, targets)
    return all(metric.n is not None and metric.n == target.num_samples for metric, target in pairs)


def _stamp(read_at: str) -> str:
    return read_at[:19].replace("-", "").replace(":", "").replace("T", "-")


def _short(origin: Origin, claims: Claims, entry: Entry) -> str:
    told: Mapping[str, object] = {"file": origin.sha256, "claims": asdict(claims), "entry": entry.where}
    return digest(told)[:6]
