"""All that the report page says, as data: what `json` writes, and what every other form is made from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from reports.record import CheckpointInfo, DataInfo, Profile
from reports.target import Direction

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Published(_Frozen):
    """A published number, and how a measured one stands beside it; `state` is the verdict's word."""

    id: str
    value: float
    printed: str
    source: str
    gap: float | None
    state: str
    reason: str


class Open(_Frozen):
    """A published number that no run of the paper profile has been held against."""

    id: str
    task: str
    title: str
    split: str
    setting: str
    metric: str
    printed: str
    value: float
    unit: str
    n: int | None
    protocol: str
    source: str


class AcceptedBeside(_Frozen):
    """The last accepted number of the same result; `state` is the word of a check."""

    value: float | None
    gap: float | None
    tolerance: float | None
    state: str
    reason: str


class Metric(_Frozen):
    """One measured number; `label` is its name as people say it."""

    name: str
    label: str
    value: float
    unit: str
    n: int | None
    hits: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str | None
    direction: Direction
    published: tuple[Published, ...]
    accepted: AcceptedBeside | None


class Past(_Frozen):
    """One record of a result's history: its first metric at one commit, and what else is not as it was before."""

    run_id: str
    started_at: str
    commit: str
    is_dirty: bool
    checkpoint_sha256: str | None
    value: float
    ci_low: float | None
    ci_high: float | None
    changed: tuple[str, ...]


class History(_Frozen):
    """A result over time, oldest first; `num_left_out` older ones are not listed."""

    metric: str
    unit: str
    points: tuple[Past, ...]
    num_left_out: int


class Curve(_Frozen):
    """One number of a training by step; of `num_points` some are drawn, the first and the last among them."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    num_points: int
    first: float
    last: float
    lowest: float
    highest: float


class Score(_Frozen):
    """A number that belongs to a sample."""

    name: str
    value: float
    unit: str = ""


class Box(_Frozen):
    """A box in a picture's own pixels."""

    role: Literal["truth", "prediction"]
    left: float
    top: float
    right: float
    bottom: float


class Picture(_Frozen):
    """Something to see: `source` is a data address; None where it was left out to keep the page small."""

    role: Literal["picture", "truth", "prediction", "spectrogram", "sheet"]
    caption: str
    alt: str
    source: str | None
    width_px: int
    height_px: int
    boxes: tuple[Box, ...] = ()
    duration_s: float | None = None


class Swatch(_Frozen):
    """What a colour of the masks stands for."""

    colour: str
    name: str


class Said(_Frozen):
    """One line of a sample: what it is, and its text."""

    name: str
    text: str


class Sample(_Frozen):
    """One judged sample; `note` says why there is nothing to see, where there is not."""

    id: str
    is_right: bool | None
    said: tuple[Said, ...]
    scores: tuple[Score, ...]
    pictures: tuple[Picture, ...] = ()
    note: str | None = None


class Samples(_Frozen):
    """The worst and the best of a run, by a rule that is said; `legend` of their masks; `note` where there are none."""

    rule: str
    num_rows: int
    worst: tuple[Sample, ...] = ()
    best: tuple[Sample, ...] = ()
    legend: tuple[Swatch, ...] = ()
    sheet: Picture | None = None
    note: str | None = None


class ClassValue(_Frozen):
    """The number of one class; None for a class that does not occur."""

    name: str
    value: float | None


class Timing(_Frozen):
    """A part of a run's time, or a count that belongs to it."""

    name: str
    value: float


class Run(_Frozen):
    """The newest record of one result, with all that the page shows of it.

    Attributes:
        key: names the result on the page; unique.
        title: of the task.
        remarks: what a reader should know of the task's protocol.
        config: the resolved config as YAML.
        environment: its place among the environments.
        curves_note: where there is no curve, why.
    """

    key: str
    run_id: str
    task: str
    title: str
    remarks: tuple[str, ...]
    profile: Profile
    model_size: str
    setting: str
    split: str
    protocol: str
    protocol_sha256: str
    metrics: tuple[Metric, ...]
    data: DataInfo
    checkpoint: CheckpointInfo
    config: str
    dtype: str
    device: str
    seed: int
    commit: str
    is_dirty: bool
    command: str
    started_at: str
    duration_s: float
    timings: tuple[Timing, ...]
    peak_memory_gib: float | None
    environment: int
    history: History
    curves: tuple[Curve, ...]
    curves_note: str | None
    per_class: tuple[ClassValue, ...]
    samples: Samples


class AblationValue(_Frozen):
    """A mean over seeds with its interval."""

    value: float
    ci_low: float | None
    ci_high: float | None
    n: int | None
    unit: str


class AblationRow(_Frozen):
    """One metric of one variant, ours and the paper's."""

    label: str
    ours: AblationValue
    difference: AblationValue | None
    paper: float | None
    printed: str | None
    says: str | None


class AblationPart(_Frozen):
    """One metric of an ablation over its variants."""

    metric: str
    label: str
    unit: str
    rows: tuple[AblationRow, ...]


class Ablation(_Frozen):
    """One table of an ablation."""

    key: str
    name: str
    source: str | None
    model_size: str
    method: str | None
    steps: int | None
    seeds: tuple[int, ...]
    commit: str
    is_dirty: bool
    started_at: str
    parts: tuple[AblationPart, ...]


class Version(_Frozen):
    """A package and its version."""

    package: str
    version: str


class Environment(_Frozen):
    """What results were computed with, and which."""

    device: str
    versions: tuple[Version, ...]
    runs: tuple[str, ...]


class Tally(_Frozen):
    """How many numbers of a profile stand in one way: beside the paper, or of mini runs beside the accepted ones."""

    profile: Profile
    state: str
    count: int


class Page(_Frozen):
    """The whole page.

    Attributes:
        num_records: that were read; `runs` are the newest of each result.
        first_at, last_at: when the oldest and the newest of them began; ISO 8601 in UTC.
        commits: that they were made at, oldest first.
        tallies: of the newest records; "no run" counts the published numbers that are open.
        runs: of both profiles, the paper's first.
        open: published numbers without a run of the paper profile.
        notes: what the page leaves out, and why.
    """

    schema_version: int = SCHEMA_VERSION
    num_records: int
    first_at: str
    last_at: str
    commits: tuple[str, ...]
    tallies: tuple[Tally, ...]
    runs: tuple[Run, ...]
    open: tuple[Open, ...]
    ablations: tuple[Ablation, ...]
    environments: tuple[Environment, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """Write everything as JSON; what is not a number is written "NaN", "Infinity" or "-Infinity"."""
        return self.model_dump_json(indent=1) + "\n"
