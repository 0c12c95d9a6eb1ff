"""What was published: one number with the whole protocol it belongs to."""

import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from reports.validation import check_keys, explain, require_finite, require_text

Direction = Literal["higher", "lower"]
Text = Annotated[str, AfterValidator(require_text)]

PLACEHOLDER = re.compile(r"\W*(todo|tbd|unknown|none|not stated|n/?a|source)?\W*", re.IGNORECASE)
"""What stands for a source and names none."""


def _read_ratio(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return float(Fraction(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError("expected a ratio, as 0.5 or 384/896") from None


def _require_source(value: str) -> str:
    if PLACEHOLDER.fullmatch(require_text(value)):
        raise ValueError("expected the place where the number is printed")
    return value


Ratio = Annotated[float, BeforeValidator(_read_ratio), Field(gt=0, allow_inf_nan=False)]


class Target(BaseModel):
    """One published number.

    Every part of the protocol has to be stated, `null` where the source does not say or where it does not apply:
    without all of them there is no comparison. Only `model_size` and `note` may be left out.

    Attributes:
        id: the number's name, unique over all tasks: "V7".
        metric: the benchmark's own word, as in a record: "miou".
        value: in `unit`, on the scale 0-100.
        printed: the digits as published; half of the last one is the rounding that the number carries.
        num_samples: how many samples the number is over.
        setting: "fine-tuned", "zero-shot", ... .
        protocol: id of the evaluation protocol; equal ids mean equal protocols: "slide-896-512/ss".
        scales: test-time scales relative to `resolution_px`; a ratio may be written "384/896".
        precision: arithmetic of the published evaluation.
        source: where the number is printed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text
    task: Text
    dataset: Text
    dataset_version: Text
    split: Text
    metric: Text
    unit: Text
    direction: Direction
    value: Annotated[float, AfterValidator(require_finite)]
    printed: Annotated[str, Field(pattern=r"^-?\d+(\.\d+)?$")]
    num_samples: Annotated[int, Field(gt=0)] | None
    setting: Text
    protocol: Text
    resolution_px: Annotated[int, Field(gt=0)] | None
    scales: tuple[Ratio, ...]
    flip: bool
    duration_s: Annotated[float, Field(gt=0)] | None
    precision: Literal["float32", "bfloat16", "float16"] | None
    train_data: Text
    model_size: Text = "4b"
    source: Annotated[str, AfterValidator(_require_source)]
    confidence: Literal["high", "medium-high", "medium", "low-medium", "low"]
    note: str = ""

    @property
    def half_digit(self) -> float:
        """Half of the last printed digit: what rounding alone may hide."""
        decimals = len(self.printed.partition(".")[2])
        return float(Fraction(1, 2 * 10**decimals))

    @model_validator(mode="after")
    def _printed_belongs_to_value(self) -> Self:
        if abs(self.value - float(self.printed)) > self.half_digit + 1e-9:
            raise ValueError(f"value {self.value} does not round to the printed {self.printed!r}")
        return self


def load_targets(config: Mapping[str, Any]) -> tuple[Target, ...]:
    """Read the `targets:` block of a task's config: a list of mappings.

    Raises:
        ValueError: no such block, an unknown key, a missing or impossible value, or an id given twice.
    """
    if "targets" not in config:
        raise ValueError("no 'targets' block. Write 'targets: []' where nothing was published.")
    block = config["targets"]
    if not isinstance(block, list | tuple):
        raise ValueError(f"'targets' is {type(block).__name__}, expected a list of mappings, one a published number.")
    targets = tuple(_load_one(entry, position=i) for i, entry in enumerate(block))
    check_ids(targets)
    return targets


def read_targets(path: Path) -> tuple[Target, ...]:
    """Read the targets that stand in the YAML file of a task's config.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, or not targets; the message begins with the file's name.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, Mapping):
        raise ValueError(f"{path.name}: holds {type(config).__name__}, expected a mapping with a 'targets' block.")
    try:
        return load_targets(config)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def check_ids(targets: tuple[Target, ...]) -> None:
    """Refuse two targets of one id.

    Raises:
        ValueError: with the ids that stand twice.
    """
    twice = sorted(name for name, count in Counter(target.id for target in targets).items() if count > 1)
    if twice:
        raise ValueError(f"target id {', '.join(map(repr, twice))} stands twice. Give each published number its own.")


def _load_one(entry: object, *, position: int) -> Target:
    if not isinstance(entry, Mapping):
        raise ValueError(f"targets[{position}] is {entry!r}, expected a mapping.")
    where = f"target {entry.get('id', position)!r}"
    check_keys(entry, Target, where=where)
    try:
        return Target.model_validate(entry)
    except ValidationError as error:
        raise ValueError(f"{where}: {explain(error)}. State it with its source, or leave the target out.") from None
