"""What every export is made of: files, what they could not hold, and the words that a result goes by elsewhere.

Other tools know nothing of profiles. So whatever they show, a name or a title, says of a mini result that it is one.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from pydantic import JsonValue

from reports.record import MetricValue, Record
from reports.table import identity_of

MINIWORLD = "miniworld"
MINI_NOTE = (
    "MINI: a small model, on the miniworld (a self-made miniature) or on a part of a data set. "
    "Not a result of ONE-PEACE, and not one on the real data set."
)
SUITE = "ONE-PEACE, reproduced"
IMPORT = "import"  # the key of a record's config that says which foreign file the numbers were read from

FILE_WORDS = re.compile(r"[^A-Za-z0-9.]+")


class Kind(StrEnum):
    """What was asked of the model, as the metrics tell."""

    RETRIEVAL = "retrieval"
    SEGMENTATION = "segmentation"
    DETECTION = "detection"
    GROUNDING = "visual grounding"
    TAGGING = "multi-label classification"
    CLASSIFICATION = "classification"


METRIC_KINDS = (
    ("recall_", Kind.RETRIEVAL),
    ("miou", Kind.SEGMENTATION),
    ("box_ap", Kind.DETECTION),
    ("mask_ap", Kind.DETECTION),
    ("accuracy_at_iou_", Kind.GROUNDING),
    ("map", Kind.TAGGING),
)


@dataclass(frozen=True)
class Export:
    """What one format made of records.

    Attributes:
        files: text by name; a name may hold folders.
        left_out: sentences on what the format could not hold.
    """

    files: Mapping[str, str]
    left_out: tuple[str, ...] = ()


def kind_of(record: Record) -> Kind:
    """Say what was asked of the model, from the names of its metrics."""
    names = [metric.name for metric in record.metrics]
    found = (kind for start, kind in METRIC_KINDS if any(name.startswith(start) for name in names))
    return next(found, Kind.CLASSIFICATION)


def modalities_of(record: Record) -> tuple[str, ...]:
    """Name the modalities that the model was given, in the order text, image, audio; none where a record is silent."""
    named = {word for metric in record.metrics for word in metric.name.split("_")} | _inputs(record.config)
    return tuple(name for name in ("text", "image", "audio") if name in named)


def model_name(record: Record) -> str:
    """Name the model: `one-peace-4b`, `one-peace-mini-miniworld`; of an imported number nobody says whose it is."""
    size = slug(record.model_size, joint="-")
    if IMPORT in record.config:
        return f"imported-{size}"
    return f"one-peace-{size}" if record.profile == "paper" else f"one-peace-{size}-{MINIWORLD}"


def task_label(record: Record) -> str:
    """Name what was measured, without the split; another protocol is another name.

    `coco_zero_shot_image-square-256-text`, `miniworld_ade20k_fine_tuned_ss_slide-896-512`.
    """
    parts = [record.task, record.setting]
    if record.variant not in ("", record.setting):
        parts.append(record.variant)
    protocol = record.protocol.rpartition("/")[0] or record.protocol
    scope = [] if record.profile == "paper" else [_scope(record)]
    return "_".join((*scope, *map(slug, parts), slug(protocol, joint="-")))


def dataset_title(record: Record) -> str:
    """Name the data set for people; of a mini result it says so in any case."""
    is_told = record.profile == "paper" or MINIWORLD in record.dataset
    return record.dataset if is_told else f"{record.dataset} (mini)"


def dataset_id(record: Record) -> str:
    """Name the data set for programs: `ade20k`, `miniworld-ade20k`, `mini-ade20k`."""
    if record.profile == "paper":
        return slug(record.task, joint="-")
    return f"{_scope(record)}-{slug(record.task, joint='-')}"


def remarks(record: Record) -> tuple[str, ...]:
    """Say what nobody may overlook who meets the number elsewhere; nothing for a plain paper result."""
    said = [] if record.profile == "paper" else [MINI_NOTE]
    if IMPORT in record.config:
        said.append("Read from a foreign file, not computed here.")
    return (*said, *(f"Differs in data: {difference}." for difference in record.data.differences))


def finite_metrics(record: Record) -> tuple[tuple[MetricValue, ...], tuple[str, ...]]:
    """Part the numbers from what is none, which neither JSON nor a leaderboard can hold; the second says which."""
    finite = tuple(metric for metric in record.metrics if math.isfinite(metric.value))
    lost = tuple(
        f"{record.run_id}: {metric.name} is {metric.value}, no number"
        for metric in record.metrics
        if not math.isfinite(metric.value)
    )
    return finite, lost


def fraction(metric: MetricValue, value: float) -> float:
    """Put a value of a metric on the scale 0 to 1 where it is in per cent; other units stay as they are."""
    return value / 100 if metric.unit == "%" else value


def interval_of(metric: MetricValue) -> tuple[float, float] | None:
    """Give the 95 % interval in the metric's own unit; None where there is none."""
    if metric.ci_low is None or metric.ci_high is None:
        return None
    is_finite = math.isfinite(metric.ci_low) and math.isfinite(metric.ci_high)
    return (metric.ci_low, metric.ci_high) if is_finite else None


def seconds_of(records: Iterable[Record]) -> float | None:
    """Sum the time that results took; None where nobody knows it of any."""
    known = [r.duration_s for r in records if math.isfinite(r.duration_s) and IMPORT not in r.config]
    return math.fsum(known) if known else None


def slug(text: str, *, joint: str = "_") -> str:
    """Spell a text with letters, digits, dots and `joint` alone; `unknown` where nothing of it is left."""
    return FILE_WORDS.sub(joint, text).strip(joint + ".") or "unknown"


def in_order(records: Sequence[Record]) -> tuple[Record, ...]:
    """Sort records by what they are results of, so that the same records give the same bytes.

    Raises:
        ValueError: two results of one thing, of which no format can hold both.
    """
    ordered = sorted(records, key=lambda record: (*identity_of(record), record.run_id))
    for one, other in pairwise(ordered):
        if identity_of(one) == identity_of(other):
            raise ValueError(f"runs {one.run_id} and {other.run_id} are results of the same. Export one of them.")
    return tuple(ordered)


def named_once(named: Iterable[tuple[str, Record]]) -> dict[str, Record]:
    """Key records by the names they get.

    Raises:
        ValueError: two of them get one name, of which one would hide the other.
    """
    found: dict[str, Record] = {}
    for name, record in named:
        if name in found:
            raise ValueError(
                f"runs {found[name].run_id} and {record.run_id} would both be {name!r}. Name the runs to export."
            )
        found[name] = record
    return found


def by_model(records: Iterable[Record]) -> dict[str, tuple[Record, ...]]:
    """Group records by the model's name, in the order of the names."""
    found: dict[str, tuple[Record, ...]] = {}
    for record in records:
        name = model_name(record)
        found[name] = (*found.get(name, ()), record)
    return dict(sorted(found.items()))


def to_json(content: Mapping[str, JsonValue]) -> str:
    """Write JSON with sorted keys; the same content gives the same bytes."""
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def _scope(record: Record) -> str:
    """Say which small thing a mini result is of: the miniworld, or a part of a data set."""
    return MINIWORLD if record.data.version == MINIWORLD else "mini"


def _inputs(config: Mapping[str, JsonValue]) -> set[str]:
    """Find the modalities among the inputs of a resolved config."""
    found: set[str] = set()
    pending: list[JsonValue] = [dict(config)]
    while pending:
        node = pending.pop()
        if not isinstance(node, dict):
            continue
        inputs = node.get("inputs")
        found |= set(inputs) if isinstance(inputs, dict) else set()
        pending += node.values()
    return found
