"""The last accepted numbers: one file a task, profile, size, setting and split, moved only with a reason.

What stands here is what a run is held against from one commit to the next. Each number has its own tolerance: results
are the same to the last digit on one machine, and float arithmetic differs in the last digits on another one.
"""

import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from reports.record import Count, MetricValue, Profile, Record
from reports.target import Direction, Text
from reports.validation import check_keys, explain, require_finite

ACCEPTED_DIR = Path(__file__).resolve().parent / "accepted"
SCHEMA_VERSION = 1
DEFAULT_TOLERANCE = 0.05  # points; a mean over classes moves this little with the rounding of another machine
DEFAULT_SHARE = 0.001  # of the value, in any other unit, for the same reason
SHARE_SLACK = 1e-6  # points; by how much a value may miss hits / n and still be that share

POINTS = frozenset({"%", "points"})

Finite = Annotated[float, AfterValidator(require_finite)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class AcceptedMetric(_Frozen):
    """One accepted number.

    Attributes:
        tolerance: by how much another run's number may differ and still be the same, in its unit, of which per cent
            has points; 0 asks for the same digits.
    """

    name: Text
    value: Finite
    unit: Text
    direction: Direction
    n: Count | None
    hits: float | None
    ci_low: float | None
    ci_high: float | None
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class AcceptedData(_Frozen):
    """The samples that an accepted number is over."""

    version: Text
    n: Count
    n_expected: Count | None
    ids_sha256: str


class Earlier(_Frozen):
    """What was accepted before: values by metric, and why they stood."""

    values: dict[str, Finite]
    commit: Text
    reason: Text
    accepted_at: str


class Accepted(_Frozen):
    """The accepted result of one task on one split.

    Attributes:
        run_id: of the record that was accepted.
        commit: of the code that made it; ends in "-dirty" where files differed from it.
        checkpoint_sha256: None where there was no file of weights.
        reason: why these numbers stand, in one line.
        accepted_at: ISO 8601 in UTC.
        history: what was accepted before, oldest first.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: Text
    task: Text
    dataset: Text
    split: Text
    profile: Profile
    model_size: Text
    setting: Text
    protocol: Text
    protocol_sha256: str
    data: AcceptedData
    seed: int
    commit: Text
    checkpoint_name: Text
    checkpoint_sha256: str | None
    metrics: Annotated[tuple[AcceptedMetric, ...], Field(min_length=1)]
    reason: Text
    accepted_at: str
    history: tuple[Earlier, ...] = ()

    @property
    def variant(self) -> str:
        """The short word that tells this protocol from its siblings: "ss", "ms"; "" where there is none."""
        return self.protocol.rpartition("/")[2] if "/" in self.protocol else ""

    def find_metric(self, name: str) -> AcceptedMetric | None:
        """Find a metric by its name."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def to_json(self) -> str:
        """Write everything as JSON."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: not JSON, another schema version, or a key that is missing, unknown or impossible.
        """
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}. Restore the file, or accept the result again.") from None
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"accepted result of schema version {version!r}, expected {SCHEMA_VERSION}. Remove the file and accept "
                "the result again."
            )
        check_keys(raw, cls, where="accepted result")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(f"not an accepted result: {explain(error)}. Restore it, or accept again.") from None

    @field_validator("metrics")
    @classmethod
    def _metrics_once(cls, value: tuple[AcceptedMetric, ...]) -> tuple[AcceptedMetric, ...]:
        names = [metric.name for metric in value]
        if len(set(names)) != len(names):
            raise ValueError(f"expected each metric once, found {', '.join(names)}")
        return value


def default_tolerance(metric: MetricValue) -> float:
    """Give what a number may move when nobody says: half a sample for a share, 0.05 points for another metric in %.

    A share moves by whole samples alone, so half of one lets rounding through and nothing that was decided otherwise.
    Points say nothing of another unit, as nats: there it is a thousandth of the value.
    """
    if metric.unit not in POINTS:
        return DEFAULT_SHARE * abs(metric.value)
    if not metric.n or metric.hits is None or metric.unit != "%":
        return DEFAULT_TOLERANCE
    is_share = math.isclose(metric.value, 100 * metric.hits / metric.n, rel_tol=0.0, abs_tol=SHARE_SLACK)
    return 50 / metric.n if is_share else DEFAULT_TOLERANCE


def baseline_name(result: Record | Accepted) -> str:
    """Name a result's place among the accepted ones: `<task>-<profile>-<size>-<setting>-<split>`.

    A protocol's variant is added where it is not the setting: single and multi scale of one split are two results.
    """
    parts = [result.task, result.profile, result.model_size, result.setting, result.split]
    if result.variant not in ("", result.setting):
        parts.append(result.variant)
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-.") for part in parts)


def newest_records(records: Iterable[Record]) -> dict[str, Record]:
    """Keep the newest record of each place among the accepted ones, by name."""
    newest: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: (r.start, r.run_id)):
        newest[baseline_name(record)] = record
    return dict(sorted(newest.items()))


def read_accepted(path: Path) -> Accepted:
    """Read one accepted result.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an accepted result, or one under another result's name; the message begins with the file's name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no accepted result at {path}. `python reports/run.py accept` writes one.")
    try:
        accepted = Accepted.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if baseline_name(accepted) != path.stem:
        raise ValueError(f"{path.name}: holds {baseline_name(accepted)!r}. Give the file that name, or accept again.")
    return accepted


def read_all_accepted(folder: Path) -> dict[str, Accepted]:
    """Read every accepted result of a folder, by name; nothing where the folder is not there.

    Raises:
        ValueError: one of the files is not an accepted result.
    """
    return {path.stem: read_accepted(path) for path in sorted(folder.glob("*.json"))}


def write_accepted(accepted: Accepted, folder: Path) -> Path:
    """Write an accepted result under its name; a reader sees the whole file or none."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{baseline_name(accepted)}.json"
    partial = folder / f".{path.name}.{os.getpid()}"
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(accepted.to_json())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
