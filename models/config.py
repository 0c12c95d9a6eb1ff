"""ModelConfig: one size of the model, read from YAML and validated."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CONFIG_DIR = Path(__file__).resolve().parent / "configs"
WIDTHS = ("embed_dim", "ffn_dim", "num_layers")  # what tells one size from another

PositiveInt = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Base of every config: frozen, and an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str) -> Self:
        """Check values from a file or a command line.

        Args:
            values: the keys and values as read.
            where: what they were read from, for the message.

        Raises:
            ValueError: one line that names the first wrong key or value and what was expected.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError(f"{where}: {_first_fault(error, cls)}") from None


def _first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """Put the first of pydantic's findings into one line."""
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        *blocks, name = (str(part) for part in fault["loc"])
        return unknown_name("key", name, _keys_of(model, blocks))
    value = "" if fault["type"] == "missing" else f" {fault['input']!r}"
    message = fault["msg"].removeprefix("Value error, ")
    return message if fault["type"] == "value_error" else f"{key}{value}: {message}".removeprefix(": ")


def _keys_of(model: type[BaseModel], blocks: Iterable[str]) -> Iterable[str]:
    """Name the keys of a block inside a config."""
    for block in blocks:
        field = model.model_fields.get(block)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return model.model_fields


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, with the nearest known one, or all of them."""
    names = sorted(known)
    alike = [each for each in names if each.casefold() == name.casefold()]  # `testa` is meant for testA, not for testB
    nearest = alike or difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {nearest[0]!r}?" if nearest else f"Known: {', '.join(names)}."
    return f"unknown {kind} {name!r}. {hint}"


class ModelConfig(Settings):
    """The sizes and switches of one model.

    The switches are those of the published code; the defaults are the paper's model.
    """

    name: str
    embed_dim: PositiveInt
    ffn_dim: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    modalities: dict[str, dict[str, Any]]
    """By name, what `models/modalities/<name>.py` needs to build its adapter; the order is that of a fused sequence."""
    layer_scale_init: float | None = 1e-6
    """None builds no layer scale. Paper, appendix: 1e-6."""
    drop_path_rate: Rate = 0.0
    """Rate of the last layer; it grows linearly from 0 at the first."""
    has_inner_norm: bool = True
    """The second norms of Sub-LN, before the output projections of attention and feed-forward."""
    has_attn_output_norm: bool = False
    """A norm after attention's output projection; off in every released config."""
    has_head_scales: bool = False
    """One learned factor for each attention head; off in every released config."""
    has_per_layer_bias: bool = False
    """One relative position table for each layer, as fine-tuned models have, instead of one for all."""
    has_final_norm: bool = True
    """One norm for each modality after the last layer; the vision release has none."""
    has_projection: bool = True
    """One projection for each modality into the space where modalities are compared, and the logit scale."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}")
        return self

    @property
    def num_bias_tables(self) -> int:
        """Relative position tables in each adapter."""
        return self.num_layers if self.has_per_layer_bias else 1

    def branch(self, *names: str, **changes: Any) -> "ModelConfig":
        """Narrow the model to some of its modalities, and change other settings by the way.

        Raises:
            ValueError: the model has no such modality.
        """
        for name in names:
            if name not in self.modalities:
                raise ValueError(unknown_name("modality", name, self.modalities))
        kept = {name: options for name, options in self.modalities.items() if name in names}
        return ModelConfig.parse({**self.model_dump(), "modalities": kept, **changes}, where=f"size {self.name!r}")


def list_sizes() -> tuple[str, ...]:
    """Name every size there is, one for each file in `models/configs`."""
    return tuple(sorted(path.stem for path in CONFIG_DIR.glob("*.yaml")))


def load_config(size: str) -> ModelConfig:
    """Read one size by its name.

    Raises:
        ValueError: no such size, or a faulty file.
    """
    if size not in list_sizes():
        raise ValueError(unknown_name("size", size, list_sizes()))
    path = CONFIG_DIR / f"{size}.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return ModelConfig.parse({"name": size, **values}, where=path.name)


def find_size(widths: Mapping[str, int | None]) -> str | None:
    """Name the size that has these values of `WIDTHS`; None where there is none."""
    for size in list_sizes():
        config = load_config(size)
        if all(getattr(config, key) == widths.get(key) for key in WIDTHS):
            return size
    return None


def override(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Change values by `key.path=value`, the value written as in YAML.

    Args:
        values: nested mappings.
        assignments: what the command line says.

    Returns:
        Changed copies; `values` stays as it is.

    Raises:
        ValueError: no `=`, or a way through something that is no mapping.
    """
    changed = dict(values)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {assignment!r}, expected key.path=value, such as training.lr=1e-3")
        changed = _assign(changed, key.split("."), _read_value(text, assignment))
    return changed


def _read_value(text: str, assignment: str) -> Any:
    """Read a value as YAML does, and numbers such as 1e-3 besides, which YAML takes for a string."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"--set {assignment!r}: the value is not YAML; write it as in a config") from None
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = keys
    if first not in values and rest:
        raise ValueError(f"--set: {unknown_name('key', first, values)}")
    if not rest:
        return {**values, first: value}
    if not isinstance(values[first], Mapping):
        raise ValueError(f"--set: {first!r} is a value, not a block; nothing stands below it")
    return {**values, first: _assign(values[first], rest, value)}
