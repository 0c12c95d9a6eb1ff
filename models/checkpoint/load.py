"""Strict loading with an account of every name, and saving."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoint.describe import Description, describe
from models.checkpoint.empty import build_empty
from models.checkpoint.inert import printable
from models.checkpoint.memory import check_memory
from models.checkpoint.reader import Checkpoint, open_checkpoint
from models.checkpoint.roles import Part, Role, find_roles
from models.config import ModelConfig, load_config, unknown_name
from models.modalities import load_modality
from models.onepeace import OnePeace

_TABLE = re.compile(r"(.*adapters\.\w+\.bias\.tables\.)(\d+)")
_ADAPTER = re.compile(r"(?:.*\.)?adapters\.(\w+)\.(.+)")


_CLASSIFIER_PARTS = ("head.", "fc_norm.")
_DTYPES = {
    **dict.fromkeys(("bf16", "bfloat16"), torch.bfloat16),
    **dict.fromkeys(("fp16", "float16", "half"), torch.float16),
    **dict.fromkeys(("fp32", "float32", "float"), torch.float32),
}


@dataclass(frozen=True)
class LeftOut:
    """Names of a checkpoint that were not asked for, and why."""

    reason: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class LoadReport:
    """What became of every name in a checkpoint and in a model."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    """In the model, not in the file; they keep the values they had."""
    unexpected: tuple[str, ...]
    """In the file, not in the model."""
    reshaped: tuple[str, ...]
    """Loaded after a change of resolution, or copied to every layer."""
    left_out: tuple[LeftOut, ...] = ()
    """In the file, and left there by choice: other branches, heads, the pretraining decoder."""

    def __str__(self) -> str:
        """Count the names, and show the first ones that did not fit."""
        text = f"{len(self.loaded)} loaded ({len(self.reshaped)} reshaped)"
        for word, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            first = ", ".join(printable(name) for name in names[:3])
            shown = f" ({first}{', ...' if len(names) > 3 else ''})" if names else ""
            text += f", {len(names)} {word}{shown}"
        if self.left_out:
            told = ", ".join(f"{len(part.names)} {part.reason}" for part in self.left_out)
            text += f", left out by choice: {told}"
        return text


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, may_miss: Collection[str] = ()) -> LoadReport:
    """Load a state by our names into a model, all or nothing.

    Positions and relative tables of another resolution are resized, a shared relative table is copied to every layer
    of a model that has one for each.

    Args:
        model: any module that holds adapters and an encoder of ours.
        state: tensors by the model's own names.
        may_miss: prefixes of parameters that the file need not have, such as a head that is about to be trained.

    Raises:
        ValueError: a name is missing or unexpected, or a shape differs; the model is unchanged then.
    """
    wanted = model.state_dict()
    sources, report = _plan(
        {name: value.shape for name, value in state.items()}, {name: value.shape for name, value in wanted.items()}
    )
    _refuse_misfit(report, may_miss)
    fitted = {name: _fit(name, state[source], wanted[name].shape) for name, source in sources.items()}
    model.load_state_dict({**wanted, **fitted})
    return report


def load_branches(
    path: Path,
    size: str | ModelConfig,
    branches: Sequence[str],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] | None = None,
) -> tuple[OnePeace, LoadReport]:
    """Build the model of some modalities from a checkpoint, reading nothing else of it.

    Args:
        path: a released file, a converted one, or an index of shards.
        size: a size by name, whose tables, norms, projections and image grid follow what the file holds; or a config,
            which is taken as it is: what it switches off is left out, and a grid of its own resizes the tables.
        branches: modalities, at least one.
        dtype: type of the floating parameters; None keeps the stored one. Integers are never cast.
        device: where the model is wanted; each tensor goes there as soon as it is read.
        say: gets one sentence about the memory; default: logging.

    Returns:
        The model, in evaluation mode, and the account of every name in the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such branch or size, names or shapes that do not fit, or too little memory; nothing is loaded.
    """
    checkpoint = open_checkpoint(path)
    description = describe(checkpoint)
    config = _choose_config(size, description, branches)
    model = build_empty(config)
    picked, left_out = _pick(checkpoint, config)
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    sources, report = _plan({ours: checkpoint.names[name].shape for ours, name in picked.items()}, wanted)
    report = LoadReport(report.loaded, report.missing, report.unexpected, report.reshaped, left_out)
    _refuse_misfit(report, ())
    check_memory(_need(checkpoint, sources, picked, wanted, dtype), device=torch.device(device), say=say)
    state = {}
    for name in sorted(sources, key=lambda name: name not in report.reshaped):  # what may still fail comes first
        stored = picked[sources[name]]
        is_resized = checkpoint.names[stored].shape != tuple(wanted[name])  # computed as stored, then cast
        value = _fit(name, checkpoint.read(stored, None if is_resized else dtype), wanted[name])
        state[name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval(), report


def parse_dtype(name: str) -> torch.dtype:
    """Read the type of parameters by its short or long name.

    Raises:
        ValueError: an unknown one.
    """
    if name not in _DTYPES:
        raise ValueError(unknown_name("dtype", name, _DTYPES))
    return _DTYPES[name]


def fit_config(config: ModelConfig, description: Description) -> ModelConfig:
    """Set the switches of a size as a checkpoint has them: tables, norms, projections, image grid.

    Raises:
        ValueError: the checkpoint is of another size, or its branches differ from one another.
    """
    for key, value in description.sizes.items():
        if value is not None and value != getattr(config, key):
            raise ValueError(
                f"size {config.name!r} has {key} {getattr(config, key)}, checkpoint {printable(description.path, 200)} "
                f"has {value}; name the size it was made with"
            )
    found = [description.branches[name] for name in config.modalities if name in description.branches]
    modalities = {name: dict(options) for name, options in config.modalities.items()}
    for name, options in modalities.items():
        grids = description.branches[name].input if name in description.branches else {}
        if name in description.branches and description.branches[name].has_type_embedding:
            options["has_type_embedding"] = True
        if "table_grid" in grids and "position_grid" in grids and "bias_grid_size" in options:
            options.update(grid_size=grids["position_grid"], bias_grid_size=grids["table_grid"])
    changes = {
        "has_per_layer_bias": any(branch.tables == "per layer" for branch in found),
        "has_final_norm": any(branch.has_final_norm for branch in found),
        "has_projection": any(branch.has_projection for branch in found),
        "modalities": modalities,
    }
    return ModelConfig.parse({**config.model_dump(), **changes}, where=f"size {config.name!r}")


def _choose_config(size: str | ModelConfig, description: Description, branches: Sequence[str]) -> ModelConfig:
    """Narrow the config to the branches, and fit it to the file where only a size was named."""
    config = load_config(size) if isinstance(size, str) else size
    if not branches:
        raise ValueError(f"no branch was named; expected some of {', '.join(config.modalities)}")
    narrowed = config.branch(*branches)
    check_branches(description, branches)
    return fit_config(narrowed, description) if isinstance(size, str) else narrowed


def check_branches(description: Description, branches: Sequence[str]) -> None:
    """Refuse branches that a checkpoint does not have.

    Raises:
        ValueError: it lacks one of them.
    """
    for name in branches:
        if name not in description.branches:
            has = ", ".join(description.branches) or "none"
            raise ValueError(f"checkpoint {printable(description.path, 200)} has no branch {name!r}; it has: {has}")


def _pick(checkpoint: Checkpoint, config: ModelConfig) -> tuple[dict[str, str], tuple[LeftOut, ...]]:
    """Sort the names of a file: by our name what this model is made of, and by reason what is left out."""
    left: dict[str, list[str]] = {}
    picked: dict[str, str] = {}
    for name, role in find_roles(checkpoint.names).items():
        reason = why_left_out(role, tuple(config.modalities)) or _switched_off(role.ours, config)
        if reason is not None:
            left.setdefault(reason, []).append(name)
        elif role.ours in picked:
            raise ValueError(f"checkpoint {checkpoint.path} has two names for {printable(role.ours)}; expected one")
        else:
            picked[role.ours] = name
    return picked, tuple(LeftOut(reason, tuple(names)) for reason, names in left.items())


def why_left_out(role: Role, branches: Sequence[str], *, with_head: bool = False) -> str | None:
    """Say why a name is not part of some branches; None where it is, or where nobody knows it.

    Args:
        role: of the name.
        branches: modalities that are wanted.
        with_head: whether a classifier's head is wanted too; the heads of dense tasks never are.
    """
    if with_head and role.part is Part.HEAD and role.ours.startswith(_CLASSIFIER_PARTS):
        return None
    if role.part is Part.ENCODER:
        return "other branches" if role.modality not in (None, *branches) else None
    return None if role.part is Part.UNKNOWN else role.part.value


def _switched_off(ours: str, config: ModelConfig) -> str | None:
    """Say which switch of a config leaves a parameter out."""
    if not config.has_projection and (ours == "logit_scale" or ours.startswith("projections.")):
        return "projections that the config switches off"
    if not config.has_final_norm and ours.startswith("encoder.norms."):
        return "final norms that the config switches off"
    return None


def _need(
    checkpoint: Checkpoint,
    sources: Mapping[str, str],
    picked: Mapping[str, str],
    wanted: Mapping[str, torch.Size],
    dtype: torch.dtype | None,
) -> int:
    """Count the bytes that loading takes: the parameters, and the largest tensor once more."""
    infos = {name: checkpoint.names[picked[source]] for name, source in sources.items()}
    total = sum(
        wanted[name].numel() * (dtype if dtype and info.dtype.is_floating_point else info.dtype).itemsize
        for name, info in infos.items()
    )
    return total + max((info.num_bytes for info in infos.values()), default=0)


def _plan(shapes: Mapping[str, Sequence[int]], wanted: Mapping[str, torch.Size]) -> tuple[dict[str, str], LoadReport]:
    """Say for every wanted name which stored one fills it, and account for all names on both sides.

    A single relative table fills the names of all layers, where the model has one for each.
    """
    sources = {name: name for name in shapes if name in wanted}
    per_layer = {match[1] for name in shapes if (match := _TABLE.fullmatch(name)) and match[2] != "0"}
    for name in wanted:
        if (match := _TABLE.fullmatch(name)) and match[1] not in per_layer and f"{match[1]}0" in shapes:
            sources.setdefault(name, f"{match[1]}0")
    report = LoadReport(
        loaded=tuple(sources),
        missing=tuple(name for name in wanted if name not in sources),
        unexpected=tuple(name for name in shapes if name not in wanted),
        reshaped=tuple(
            name for name, source in sources.items() if name != source or tuple(shapes[source]) != tuple(wanted[name])
        ),
    )
    return sources, report


def _refuse_misfit(report: LoadReport, may_miss: Collection[str]) -> None:
    forbidden = [name for name in report.missing if not name.startswith(tuple(may_miss))]
    if forbidden or report.unexpected:
        raise ValueError(f"the checkpoint does not fit the model: {report}; nothing was loaded")


def _fit(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Bring a stored value to the shape that the model wants."""
    return value if value.shape == shape else _resize(name, value, shape)


def _resize(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    """Ask the modality to bring a stored parameter of its adapter to this model's resolution."""
    match = _ADAPTER.fullmatch(name)
    resized = load_modality(match[1]).resize(match[2], value, shape) if match else None
    if resized is None or resized.shape != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)} in the checkpoint, expected {tuple(shape)}")
    return resized


def save_state(state: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]) -> None:
    """Write tensors and their provenance to a safetensors file; a kill leaves the old file or the new one.

    The same tensors and metadata give the same bytes.
    """
    partial = path.with_name(f".{path.name}.partial")
    contiguous = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(contiguous, partial, metadata=dict(metadata))
    _order_metadata(partial)
    partial.chmod(0o644)  # the library leaves files that nobody else may read
    partial.replace(path)


def _order_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in the order of their names; the library's order is drawn by chance."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        assert len(text) <= size, "another order is no longer"
        file.seek(8)
        file.write(text.ljust(size))
