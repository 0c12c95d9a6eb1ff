"""One evaluated result: what was measured, on what, with what, and how it stands beside what was published."""

import json
import os
import re
import tempfile
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from reports.target import Direction, Text
from reports.validation import explain

SCHEMA_VERSION = 1
RECORD_FILE = "record.json"
CREDENTIALS = re.compile(r"(?<=://)[^\s/]*@")

Profile = Literal["paper", "mini"]
Count = Annotated[int, Field(ge=0)]


class Verdict(StrEnum):
    """How a number stands beside another one."""

    MATCH = "match"
    WITHIN_SAMPLING_ERROR = "within sampling error"
    OFF = "off"
    NOT_COMPARABLE = "not comparable"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def _relative(path: str) -> str:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path:
        raise ValueError("expected a file inside the run's folder, relative to it")
    return path


def without_credentials(text: str) -> str:
    """Leave name and password out of the addresses in a text, such as a server's in a command line."""
    return CREDENTIALS.sub("", text)


def _folder_name(name: str) -> str:
    if "/" in name or "\\" in name:
        raise ValueError("expected the folder's name alone, without the way to it")
    return name


def _in_utc(value: str) -> str:
    if datetime.fromisoformat(value).utcoffset() != timedelta(0):
        raise ValueError("expected ISO 8601 in UTC, as 2024-01-31T12:00:00+00:00")
    return value


UtcTime = Annotated[str, AfterValidator(_in_utc)]


class MetricValue(_Frozen):
    """One measured number, in per cent from 0 to 100 and never rounded.

    Attributes:
        name: the benchmark's own word: "miou".
        n: how many samples it is over.
        hits: how many of them count, where the metric is a share.
        ci_low, ci_high: ends of the 95 % interval.
        ci_method: how the interval was made: "wilson", "bootstrap over images, 1000 resamples, seed 0".
    """

    name: Text
    value: float
    unit: str = "%"
    n: Count | None = None
    hits: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_method: str | None = None
    direction: Direction = "higher"


class CheckpointInfo(_Frozen):
    """The weights and what became of their names.

    Attributes:
        name: file name, or "random initialisation, seed 0".
        sha256: of the file; None where there is no file.
        loaded, missing, unexpected, reshaped: counts of parameters.
        missing_names, unexpected_names: their names.
    """

    name: Annotated[Text, AfterValidator(_folder_name)]
    sha256: str | None
    loaded: Count
    missing: Count = 0
    unexpected: Count = 0
    reshaped: Count = 0
    missing_names: tuple[str, ...] = ()
    unexpected_names: tuple[str, ...] = ()


class DataInfo(_Frozen):
    """The data set as it was found.

    Attributes:
        root_name: name of its folder, without the way to it.
        digest: of its files.
        n: samples seen.
        n_expected: samples that the split has as published; None where nobody says.
        ids_sha256: of the sample ids in order.
        differences: sentences on what differs from the data set as published; any makes a number not comparable.
    """

    name: Text
    version: Text
    root_name: Annotated[str, AfterValidator(_folder_name)]
    digest: Text
    n: Count
    n_expected: Count | None
    ids_sha256: str
    differences: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every sample of the published split was seen."""
        return self.n_expected is not None and self.n == self.n_expected


class Comparison(_Frozen):
    """One measured number beside a published or an accepted one.

    Attributes:
        target_id: of the published number, or the run id of the accepted record.
        published: the other number.
        printed: its digits as published.
        gap: ours minus the other; None where the two are not comparable or ours is not a number.
        reason: one sentence.
        against: what ours was held against.
        profile: of the record.
    """

    target_id: str
    metric: str
    published: float
    printed: str
    source: str
    gap: float | None
    verdict: Verdict
    reason: str
    against: Literal["paper", "accepted"] = "paper"
    profile: Profile
    direction: Direction = "higher"

    @property
    def is_better(self) -> bool:
        """Whether ours is on the good side of the other number."""
        if self.gap is None:
            return False
        return self.gap > 0 if self.direction == "higher" else self.gap < 0


class Record(_Frozen):
    """One result of one task on one split, with all it takes to judge and to repeat it.

    Attributes:
        protocol: id; the part behind the last "/" names the variant: "slide-896-512/ss".
        per_class: optional details, class name to value; None for a class that does not occur.
        config: the resolved config.
        commit: git commit of the code; `is_dirty` when files differed from it.
        versions: package to version.
        started_at: ISO 8601 in UTC.
        duration_s: from start to end; `timings` splits it: "train_s", "eval_s".
        artifacts: what a file is, to its name in the run's folder.
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
    metrics: tuple[MetricValue, ...]
    per_class: dict[str, float | None] = Field(default_factory=dict)
    checkpoint: CheckpointInfo
    data: DataInfo
    config: dict[str, JsonValue]
    dtype: Text
    device: Text
    seed: int
    commit: str
    is_dirty: bool
    versions: dict[str, str]
    started_at: UtcTime
    duration_s: float
    timings: dict[str, float] = Field(default_factory=dict)
    peak_memory_gib: float | None = None
    command: Annotated[str, AfterValidator(without_credentials)]
    comparisons: tuple[Comparison, ...] = ()
    artifacts: dict[str, Annotated[str, AfterValidator(_relative)]] = Field(default_factory=dict)

    @property
    def variant(self) -> str:
        """The short word that tells this protocol from its siblings: "ss", "ms"; "" where there is none."""
        return self.protocol.rpartition("/")[2] if "/" in self.protocol else ""

    @property
    def start(self) -> datetime:
        """When the run began."""
        return datetime.fromisoformat(self.started_at)

    def find_metric(self, name: str) -> MetricValue | None:
        """Find a metric by its name."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def to_json(self) -> str:
        """Write everything as JSON; what is not a number is written "NaN", "Infinity" or "-Infinity"."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: not JSON, another schema version, or a field that is missing, unknown or impossible.
        """
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}. A record is what a finished run wrote.") from None
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(f"record of schema version {version!r}, expected {SCHEMA_VERSION}. Evaluate again.")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(f"not a record: {explain(error)}. Evaluate again.") from None

    @field_validator("config")
    @classmethod
    def _plain_config(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        json.dumps(value, allow_nan=False)
        return value

    @field_validator("metrics")
    @classmethod
    def _metrics_once(cls, value: tuple[MetricValue, ...]) -> tuple[MetricValue, ...]:
        names = [metric.name for metric in value]
        if len(set(names)) != len(names):
            raise ValueError(f"expected each metric once, found {', '.join(names)}")
        return value


def write_record(record: Record, folder: Path) -> Path:
    """Write `record.json` into a run's folder; a reader sees the whole file or none."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RECORD_FILE
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{RECORD_FILE}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(record.to_json())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read_record(path: Path) -> Record:
    """Read a record from its file, or from the run's folder that holds it.

    Raises:
        FileNotFoundError: no record there.
        ValueError: not a record; the message begins with the file's place.
    """
    path = path / RECORD_FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no record at {path}. A finished run leaves one in its folder.")
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.parent.name}/{path.name}: {error}") from None
