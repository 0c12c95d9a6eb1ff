"""Says what a checkpoint is, from its names and shapes alone."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from models.checkpoint.inert import printable
from models.checkpoint.names import is_derived
from models.checkpoint.reader import Checkpoint, TensorInfo
from models.checkpoint.roles import Part, Role, find_prefix, find_roles, names_of
from models.config import ModelConfig, find_size, load_config
from models.inference import BATCH_SIZES, embed_bytes
from models.layers.position_bias import NUM_CLASS_ROWS
from models.modalities.image import PATCH_SIZE_PX

SHOWN_NAMES = 5
SHOWN_SETTINGS = 12

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Branch:
    """One modality of a checkpoint."""

    num_parameters: int
    """Loaded alone: its own part, the shared encoder, its projection."""
    num_own_parameters: int
    tables: str
    """Relative position tables: `shared` by all layers, `per layer`, or `none`."""
    has_final_norm: bool
    has_projection: bool
    has_type_embedding: bool
    """NLVR2's."""
    embed_bytes: int | None
    """What it needs to embed in bfloat16, weights included; None where its size is none of ours."""
    input: dict[str, int]
    """What its tables say about the input: positions, grids, vocabulary."""


@dataclass(frozen=True)
class Description:
    """What a checkpoint is."""

    path: str
    variant: str
    container: str
    encoding: str
    num_tensors: int
    num_parameters: int
    num_bytes: int
    dtypes: dict[str, int]
    """Tensors by type."""
    sizes: dict[str, int | None]
    """embed_dim, ffn_dim, num_layers, num_heads; None where nothing tells it."""
    branches: dict[str, Branch]
    head: dict[str, Any] | None
    num_decoder_parameters: int
    """Of the pretraining decoder and its mask tokens, which only pretraining needs."""
    names_by_part: dict[str, int]
    unknown: tuple[str, ...]
    others: tuple[str, ...]
    """What the file holds beside tensors and settings."""
    config: Any


def describe(checkpoint: Checkpoint) -> Description:
    """Describe a checkpoint; no tensor is read."""
    names = checkpoint.names
    roles = find_roles(names)
    shapes = {role.ours: names[name].shape for name, role in roles.items() if role.part is Part.ENCODER}
    rest = {role.ours: names[name].shape for name, role in roles.items() if role.part is not Part.ENCODER}
    decoder = names_of(roles, Part.DECODER)
    return Description(
        path=str(checkpoint.path),
        variant=_variant(roles, rest),
        container=checkpoint.container,
        encoding=checkpoint.encoding,
        num_tensors=len(names),
        num_parameters=_count(names, tuple(name for name, role in roles.items() if role.part is not Part.DERIVED)),
        num_bytes=sum(info.num_bytes for info in names.values()),
        dtypes=dict(Counter(str(info.dtype).removeprefix("torch.") for info in names.values())),
        sizes=_sizes(shapes, rest),
        branches=_branches(names, roles, shapes, size=find_size(_sizes(shapes, rest))),
        head=_head(rest, _sizes(shapes, rest)["embed_dim"]),
        num_decoder_parameters=_count(names, tuple(name for name in decoder if not is_derived(name))),
        names_by_part={part.value: len(found) for part in Part if (found := names_of(roles, part))},
        unknown=names_of(roles, Part.UNKNOWN),
        others=checkpoint.others,
        config=checkpoint.config,
    )


def to_json(description: Description) -> str:
    """Write a description as JSON."""
    return json.dumps(asdict(description), indent=2, ensure_ascii=True, allow_nan=False)


def to_text(description: Description) -> str:
    """Write a description for one screen; everything that comes from the file is made printable."""
    sizes = ", ".join(f"{key} {'unknown' if value is None else value}" for key, value in description.sizes.items())
    head = description.head or {}
    told = ", ".join(f"{key} {value}" for key, value in head.items()) or "none"
    rows = [
        ("file", printable(description.path, 200)),
        ("what it is", description.variant),
        ("container", f"{description.container} ({description.encoding})"),
        ("tensors", f"{description.num_tensors}, {_amounts(description)}"),
        ("sizes", sizes),
        *((name, _branch_text(branch)) for name, branch in description.branches.items()),
        ("to embed", _needs_text(description.branches)),
        ("head", told),
        ("decoder", _decoder_text(description.num_decoder_parameters)),
        ("names", ", ".join(f"{count} {part}" for part, count in description.names_by_part.items())),
        ("unknown", _some(description.unknown)),
        ("also inside", _some(description.others)),
        *_config_rows(description.config),
    ]
    return "\n".join(f"{label:<12} {text}" for label, text in rows) + "\n"


def _amounts(description: Description) -> str:
    types = ", ".join(f"{count} {name}" for name, count in description.dtypes.items())
    return f"{description.num_parameters:,} parameters, {description.num_bytes / 2**30:.2f} GiB ({types})"


def _branch_text(branch: Branch) -> str:
    given = [f"{branch.num_parameters:,} parameters", f"tables {branch.tables}"]
    given += [f"{key.replace('_', ' ')} {value}" for key, value in branch.input.items()]
    lacking = [
        word for word, has in (("final norm", branch.has_final_norm), ("projection", branch.has_projection)) if not has
    ]
    return ", ".join([*given, *(f"no {word}" for word in lacking)])


def _needs_text(branches: Mapping[str, Branch]) -> str:
    needs = [f"{name} {b.embed_bytes / 2**20:,.0f} MiB" for name, b in branches.items() if b.embed_bytes is not None]
    return f"{', '.join(needs)} in bfloat16, each alone, weights and the largest batch" if needs else "unknown"


def _decoder_text(count: int) -> str:
    return f"{count:,} parameters of the pretraining decoder" if count else "none"


def _some(names: tuple[str, ...]) -> str:
    """Show the first of many names."""
    if not names:
        return "none"
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(printable(name) for name in names[:SHOWN_NAMES]) + more


def _config_rows(config: Any) -> list[tuple[str, str]]:
    """Show the first settings found inside, a line each."""
    if not isinstance(config, dict):
        return [("settings", "none" if config is None else printable(config))]
    rows = [("", f"{printable(key, 40)}: {printable(value, 80)}") for key, value in config.items()]
    more = [("", f"and {len(rows) - SHOWN_SETTINGS} more; --json shows all")] if len(rows) > SHOWN_SETTINGS else []
    return [("settings", f"{len(rows)} found inside"), *rows[:SHOWN_SETTINGS], *more]


def _count(names: Mapping[str, TensorInfo], which: tuple[str, ...]) -> int:
    return sum(names[name].num_elements for name in which)


def _branches(
    names: Mapping[str, TensorInfo], roles: Mapping[str, Role], shapes: Shapes, *, size: str | None
) -> dict[str, Branch]:
    """Describe the modalities whose adapters are there."""
    found = sorted({role.modality for role in roles.values() if role.modality and role.ours.startswith("adapters.")})
    order = [name for name in ("text", "image", "audio") if name in found]
    encoder = {name: role for name, role in roles.items() if role.part is Part.ENCODER and role.ours != "logit_scale"}
    shared = _count(names, tuple(name for name, role in encoder.items() if role.modality is None))
    config = None if size is None else load_config(size)
    branches = {}
    for modality in [*order, *(name for name in found if name not in order)]:
        own = _count(names, tuple(name for name, role in encoder.items() if role.modality == modality))
        read = _input(modality, shapes)
        branches[modality] = Branch(
            num_parameters=own + shared,
            num_own_parameters=own,
            tables=_tables(modality, shapes),
            has_final_norm=f"encoder.norms.{modality}.weight" in shapes,
            has_projection=f"projections.{modality}.weight" in shapes,
            has_type_embedding=f"adapters.{modality}.type_embedding" in shapes,
            embed_bytes=_embed_bytes(config, modality, own + shared, grid=read.get("table_grid")),
            input=read,
        )
    return branches


def _embed_bytes(config: ModelConfig | None, modality: str, num_parameters: int, *, grid: int | None) -> int | None:
    if config is None or modality not in BATCH_SIZES or modality not in config.modalities:
        return None
    if grid is not None:
        options = {**config.modalities[modality], "bias_grid_size": grid}
        config = config.model_copy(update={"modalities": {**config.modalities, modality: options}})
    return embed_bytes(config, modality, num_parameters=num_parameters, bytes_per_value=2)


def _tables(modality: str, shapes: Shapes) -> str:
    prefix = f"adapters.{modality}.bias.tables."
    numbers = [name.removeprefix(prefix) for name in shapes if name.startswith(prefix)]
    if not numbers:
        return "none"
    return "shared" if numbers == ["0"] else "per layer"


def _input(modality: str, shapes: Shapes) -> dict[str, int]:
    """Read resolution, vocabulary and lengths off the shapes of an adapter."""
    adapter = {name.removeprefix(f"adapters.{modality}."): shape for name, shape in shapes.items()}
    positions = adapter.get("positions", (0,))[0]
    rows = next((shape[0] for name, shape in adapter.items() if name.startswith("bias.tables.")), 0) - NUM_CLASS_ROWS
    read: dict[str, int] = {}
    if modality == "image":
        if positions > 1:
            read["position_grid"] = math.isqrt(positions - 1)
        if rows > 0:
            read["table_grid"] = (math.isqrt(rows) + 1) // 2
        if read:
            read["image_size_px"] = read.get("table_grid", read.get("position_grid", 0)) * PATCH_SIZE_PX
        return read
    if "embed_tokens.weight" in adapter:
        read["vocabulary_size"] = adapter["embed_tokens.weight"][0]
    if positions > 0:
        read["max_positions"] = positions
    if rows > 0:
        read["bucket_size"] = (rows + 1) // 2
    return read


def _sizes(shapes: Shapes, rest: Shapes) -> dict[str, int | None]:
    """Read the sizes of the encoder off its shapes."""
    layers = {int(match[1]) for name in shapes if (match := re.match(r"encoder\.layers\.(\d+)\.", name))}
    gate = next((shape for name, shape in shapes.items() if name.endswith(".gate_proj.weight")), None)
    tables = next((shape for name, shape in shapes.items() if ".bias.tables." in name), None)
    query = rest.get("head.pooling.q")
    heads = tables[-1] if tables else query[2] if query and len(query) == 4 else None
    width = next((shape[-1] for name, shape in shapes.items() if name.endswith("q_proj.weight")), None)
    return {
        "embed_dim": width,
        "ffn_dim": gate[0] if gate else None,
        "num_layers": len(layers) or None,
        "num_heads": heads,
    }


def _head(rest: Shapes, width: int | None) -> dict[str, Any] | None:
    """Describe the task head, if there is one."""
    if any(name.startswith("head.classifier.") for name in rest):
        first, last = rest.get("head.classifier.0.weight"), rest.get("head.classifier.3.weight")
        return {
            "kind": "classification",
            "pooling": "attention" if "head.pooling.q" in rest else "class token",
            "pooler": "yes" if any(name.startswith("head.pooler.") for name in rest) else "no",
            "images": 2 if first and width and first[-1] == 2 * width else 1,
            "outputs": last[0] if last else None,
        }
    if "head.weight" in rest:
        pooling = "mean" if "fc_norm.weight" in rest else "class token"
        return {"kind": "ImageNet", "pooling": pooling, "outputs": rest["head.weight"][0]}
    for prefix, kind, last_name in (
        ("decode_head.", "Mask2Former", "decode_head.cls_embed.weight"),
        ("cls_head.", "video", "cls_head.fc_cls.weight"),
        ("roi_heads.", "cascade detection", "roi_heads.box_predictor.0.cls_score.weight"),
    ):
        if any(name.startswith(prefix) for name in rest):
            return {"kind": kind, "outputs": rest[last_name][0] if last_name in rest else None}
    return None


def _variant(roles: Mapping[str, Role], rest: Shapes) -> str:
    """Name the kind of release."""
    prefix = find_prefix(roles)
    inner = [name.removeprefix(prefix) for name, role in roles.items() if role.part is Part.ENCODER]
    is_ours = any(name.startswith("adapters.") for name in inner)
    kinds = {name.partition(".")[0] for name in rest}
    if not inner:
        return "unknown: no ONE-PEACE encoder in it"
    for key, word in (("decode_head", "segmentation"), ("roi_heads", "detection"), ("cls_head", "video")):
        if key in kinds:
            return f"ours, {word}" if is_ours else word
    if "head.weight" in rest:
        return "ours, ImageNet classifier" if is_ours else "ImageNet classifier"
    if any(name.startswith("head.classifier.") for name in rest):
        return f"{'ours' if is_ours else 'fairseq'}, fine-tuned with a classification head"
    if is_ours:
        return "ours"
    if names_of(roles, Part.DECODER):
        return "fairseq, pretrained"
    if any(name.startswith("encoder_wrapper.") for name in inner):
        return "fairseq, retrieval (fine-tuned, or pretrained without its decoder)"
    return "vision release"
