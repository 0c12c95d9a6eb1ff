"""One benchmark: how long things took beside a plain formulation of the same arithmetic, on which machine."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from reports.record import UtcTime, without_credentials
from reports.target import Text
from reports.validation import explain
from reports.whole_file import write_whole

SCHEMA_VERSION: Final = 1
FOLDER: Final = "benchmarks"
"""How a folder is called that benchmarks are kept in."""
ROUNDING: Final = 1e-6
"""How far a number may be, relatively, from what it follows from."""

Positive = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(_Frozen):
    """What a benchmark ran on, as far as it moves times."""

    device: Text
    """Processor or accelerator, by its own name."""
    threads: Annotated[int, Field(ge=1)] | None
    """Of the computation; None on an accelerator."""
    dtype: Text
    """Of the computation."""
    peak_flops_per_s: Positive
    """Of a large matrix product in `dtype`, measured in the same run."""
    versions: Mapping[str, str]
    """By package."""


class Timing(_Frozen):
    """One formulation of a workload."""

    median_s: Positive
    low_s: Positive
    """First quartile."""
    high_s: Positive
    """Third quartile."""
    repeats: Annotated[int, Field(ge=1)]
    tokens_per_s: Positive | None
    """Tokens of the batch without padding; None where there are none to count."""
    flops: Annotated[float, Field(ge=0)] | None
    """Floating-point operations of matrix products and convolutions, as executed."""
    peak_memory_bytes: Annotated[int, Field(ge=0)] | None
    """Above what stood before it; None where it was not measured."""

    @property
    def flops_per_s(self) -> float | None:
        """At the median; None where the operations were not counted."""
        return None if self.flops is None else self.flops / self.median_s

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low_s <= self.median_s <= self.high_s:
            raise ValueError(
                f"expected low_s <= median_s <= high_s, found {self.low_s}, {self.median_s}, {self.high_s}"
            )
        return self


class Comparison(_Frozen):
    """One workload, run by turns in ours and in the plain formulation, with the same weights and inputs."""

    name: Text
    shape: Text
    """What goes in: "8 pictures of 256 px"."""
    ours: Timing
    plain: Timing
    ratio: Positive
    """Median of ours by median of plain."""
    ratio_low: Positive
    """First quartile of the ratios of neighbours in time."""
    ratio_high: Positive
    """Third quartile."""
    difference: float
    """Largest difference of the outputs, relative to the largest output."""
    tolerance: Positive
    """What `difference` must not exceed; a benchmark beyond it is an error, not a result."""
    bound: Positive | None = None
    """What the ratio is wished to stay under."""
    products_s: Positive | None = None
    """What matrix products, convolutions and attention take of a run of ours; None where it was not measured."""

    @property
    def products_ratio(self) -> float | None:
        """Give the ratio that would be left if nothing else of ours took time; None as `products_s`."""
        return None if self.products_s is None else self.products_s / self.plain.median_s

    @property
    def is_met(self) -> bool | None:
        """Whether the ratio is under its bound; None where there is none."""
        return None if self.bound is None else self.ratio < self.bound

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ratio = self.ours.median_s / self.plain.median_s
        if not math.isclose(self.ratio, ratio, rel_tol=ROUNDING):
            raise ValueError(f"expected the ratio of the medians, {ratio}, found {self.ratio}")
        if self.ratio_low > self.ratio_high:
            raise ValueError(f"expected ratio_low <= ratio_high, found {self.ratio_low}, {self.ratio_high}")
        if not 0 <= self.difference <= self.tolerance:
            raise ValueError(
                f"the outputs differ by {self.difference}, expected at most {self.tolerance}: not the same arithmetic, "
                "so there is nothing to compare"
            )
        return self


class Growth(_Frozen):
    """How one quantity grows with another: a power law fitted to points."""

    name: Text
    """Of the workload: "text forward"."""
    variable: Text
    """What grows: "tokens"."""
    quantity: Literal["seconds", "bytes"]
    points: tuple[tuple[float, float], ...]
    """(variable, quantity), ascending."""
    exponent: float
    """Of the power law through all points, by least squares of the logarithms."""
    expected: Text
    """What theory says of it: "between 1 and 2"."""

    @model_validator(mode="after")
    def _fitted(self) -> Self:
        variables = [variable for variable, _ in self.points]
        if any(first >= second for first, second in pairwise(variables)):
            raise ValueError(f"expected points with ascending {self.variable}, found {variables}")
        _, exponent = fit_power(self.points)
        if not math.isclose(self.exponent, exponent, rel_tol=ROUNDING, abs_tol=ROUNDING):
            raise ValueError(f"expected the exponent of the points, {exponent}, found {self.exponent}")
        return self


class Benchmark(_Frozen):
    """Everything that one command measured.

    Attributes:
        name: a file's name without its ending: "models-small-float32".
        command: what was typed.
        commit: of the checkout.
        is_dirty: whether tracked files differed from it.
        started_at: ISO 8601 in UTC.
        facts: single numbers with their unit, by name: "first embedding, s".
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    command: Annotated[Text, AfterValidator(without_credentials)]
    commit: Text
    is_dirty: bool
    started_at: UtcTime
    machine: Machine
    comparisons: tuple[Comparison, ...] = ()
    growths: tuple[Growth, ...] = ()
    facts: Mapping[str, float] = {}

    @property
    def start(self) -> datetime:
        """When it began."""
        return datetime.fromisoformat(self.started_at)

    def share_of_peak(self, timing: Timing) -> float | None:
        """Give how much of the machine's measured peak a timing reaches, 1 for all; None as of `flops_per_s`."""
        reached = timing.flops_per_s
        return None if reached is None else reached / self.machine.peak_flops_per_s

    def floor(self, comparison: Comparison) -> float | None:
        """Give the ratio that would be left if ours did its products and convolutions at the peak, and nothing else."""
        flops = comparison.ours.flops
        return None if flops is None else flops / self.machine.peak_flops_per_s / comparison.plain.median_s

    def to_json(self) -> str:
        """Give it as JSON, every digit kept."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: anything else; one line that says what.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(f"no benchmark of schema version {SCHEMA_VERSION}: {explain(error)}") from None

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        _require_once("comparison", [one.name for one in self.comparisons])
        _require_once("growth", [f"{one.name}, {one.quantity} by {one.variable}" for one in self.growths])
        return self


def fit_power(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fit `quantity = factor * variable ** exponent` by least squares of the logarithms; gives factor and exponent.

    Raises:
        ValueError: fewer than two different variables, or a number that is not above 0.
    """
    if len({variable for variable, _ in points}) < 2 or not all(x > 0 and y > 0 for x, y in points):
        raise ValueError(f"expected two points or more, all above 0, found {list(points)}")
    logs = [(math.log(variable), math.log(quantity)) for variable, quantity in points]
    mean_x, mean_y = (math.fsum(values) / len(logs) for values in zip(*logs, strict=True))
    spread = math.fsum((x - mean_x) ** 2 for x, _ in logs)
    exponent = math.fsum((x - mean_x) * (y - mean_y) for x, y in logs) / spread
    return math.exp(mean_y - exponent * mean_x), exponent


def write_benchmark(benchmark: Benchmark, folder: Path) -> Path:
    """Write a benchmark under its name; one that stood there under the same name is replaced, whole.

    Raises:
        ValueError: it was changed past its checks and would not be read again; nothing is written.
        OSError: it could not be written.
    """
    text = benchmark.to_json()
    path = folder / f"{Benchmark.from_json(text).name}.json"
    write_whole(path, text)
    return path


def read_benchmark(path: Path) -> Benchmark:
    """Read one benchmark.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no benchmark, or one of another name than its file's; the message begins with the file's name.
    """
    try:
        benchmark = Benchmark.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}. Measure again, or take the file away.") from None
    if benchmark.name != path.stem:
        raise ValueError(f"{path.name}: holds {benchmark.name!r}. Give the file that name.")
    return benchmark


def read_benchmarks(folder: Path) -> tuple[Benchmark, ...]:
    """Read every benchmark of a folder, by name.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: as of `read_benchmark`, of the first file that is at fault.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}. Name the one that benchmarks are written to.")
    return tuple(sorted(map(read_benchmark, sorted(folder.glob("*.json"))), key=lambda benchmark: benchmark.name))


def _require_once(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"expected each {what} once, found {name!r} twice")
        seen.add(name)
