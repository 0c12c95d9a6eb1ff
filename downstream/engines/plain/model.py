"""The model of a task: pretrained weights to judge or to start from, fine-tuned ones of ours or released."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from downstream.engines.account import describe_checkpoint
from downstream.engines.plain.inputs import Pass
from downstream.engines.plain.origin import METADATA_KEY, Head, Origin, read_released
from downstream.engines.plain.settings import HeadSettings, InputSettings, SettingProfile
from models.checkpoint.describe import describe
from models.checkpoint.load import fit_config, load_branches, load_state, save_state, why_left_out
from models.checkpoint.reader import Checkpoint, file_sha256, open_checkpoint
from models.checkpoint.roles import Part, find_roles
from models.config import ModelConfig, load_config
from models.embedding import find_tokenizer
from models.heads import Classifier, HeadConfig, ImageClassifier, ImageHeadConfig
from models.modalities.image import PATCH_SIZE_PX
from models.onepeace import OnePeace, build_model, initialise
from models.tokenizer import Tokenizer
from reports.provenance import digest
from reports.record import CheckpointInfo

TYPE_EMBEDDINGS = (  # beginnings of names
    "adapters.text.type_embedding",
    "adapters.image.type_embedding",
    "adapters.image.second_type_embedding",
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Retriever(nn.Module):
    """A model whose embeddings are compared."""

    def __init__(self, model: OnePeace) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Pass) -> Tensor:
        """Embed the one modality of `inputs`; (batch, dim) unit vectors."""
        (vectors,) = self.model.embed(inputs).values()
        return vectors


TaskModel = Retriever | Classifier | ImageClassifier


@dataclass(frozen=True)
class Loaded:
    """A model with what it takes to use it."""

    module: TaskModel
    inputs: Mapping[str, InputSettings]
    """As the profile has them, but for what the weights decide: resolution, duration."""
    info: CheckpointInfo
    digest: str
    """Of everything that decides what the model gives for an input."""
    has_published_weights: bool

    @property
    def model(self) -> OnePeace:
        """The encoder with its adapters."""
        return self.module.model

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Of its vocabulary; None where it reads no text."""
        text = self.model.config.modalities.get("text")
        return find_tokenizer(text["vocabulary_size"]) if text else None


def load_pretrained(
    path: Path | None, *, size: str, setting: SettingProfile, seed: int, dtype: torch.dtype = torch.float32
) -> Loaded:
    """Load pretrained weights to compare embeddings, at the resolution that the setting names.

    Args:
        path: a checkpoint; None gives fresh weights.
        size: of the model.
        setting: its inputs say which branches are loaded.
        seed: of fresh weights.
        dtype: of the weights.

    Raises:
        FileNotFoundError, ValueError: as `load_branches`.
    """
    names = tuple(setting.inputs)
    if path is None:
        config = _resize(load_config(size).branch(*names), setting.inputs)
        module = Retriever(build_model(config, seed=seed).to(dtype).eval())
        return _fresh(module, setting.inputs, seed=seed)
    description = describe(open_checkpoint(path))
    config = _resize(fit_config(load_config(size).branch(*names), description), setting.inputs)
    model, report = load_branches(path, config, names, dtype=dtype)
    if not config.has_projection:
        raise ValueError(f"{path} has no projections for {' and '.join(names)}; embeddings cannot be compared")
    info = describe_checkpoint(report, name=path.name, sha256=file_sha256(path))
    made = digest([info.sha256, config.model_dump(mode="json")])
    return Loaded(Retriever(model), setting.inputs, info, made, has_published_weights=True)


def build_trainee(
    path: Path | None, *, size: str, setting: SettingProfile, num_outputs: int | None, seed: int
) -> Loaded:
    """Build what a fine-tuning starts from: pretrained weights with one relative table a layer, and a fresh head.

    Args:
        path: pretrained weights; None starts from fresh ones.
        size: of the model.
        setting: with a training.
        num_outputs: of the head; None compares embeddings.
        seed: of everything fresh.

    Raises:
        FileNotFoundError, ValueError: as `load_branches`.
    """
    assert setting.training is not None, "a setting that is trained"
    names = tuple(setting.inputs)
    changes: dict[str, Any] = {
        "has_per_layer_bias": True,  # reference run_scripts: copy_rel_pos_table; classification always
        "has_projection": num_outputs is None,
        "drop_path_rate": setting.training.drop_path_rate,
    }
    if setting.head is not None and setting.head.is_linear:
        changes["has_final_norm"] = False  # the classifier has a norm of its own, after the mean
    config = load_config(size).branch(*names)
    if path is None:
        config = _type(_resize(config.branch(*names, **changes), setting.inputs), setting)
        module = _attach(build_model(config, seed=seed), setting.head, num_outputs=num_outputs, seed=seed)
        return _fresh(module, setting.inputs, seed=seed)
    fitted = fit_config(config, describe(open_checkpoint(path)))
    config = _resize(fitted.branch(*names, **changes), setting.inputs)
    model, report = load_branches(path, config, names, dtype=torch.float32)
    if setting.has_type_embeddings:
        typed = build_model(_type(config, setting), seed=seed)
        load_state(typed, model.state_dict(), may_miss=TYPE_EMBEDDINGS)
        model = typed
    module = _attach(model, setting.head, num_outputs=num_outputs, seed=seed)
    info = describe_checkpoint(report, name=path.name, sha256=file_sha256(path))
    return Loaded(module, setting.inputs, info, str(info.sha256), has_published_weights=False)


def load_finetuned(
    path: Path,
    *,
    size: str,
    setting: SettingProfile,
    class_names: Sequence[str],
    num_outputs: int | None,
    dtype: torch.dtype = torch.float32,
) -> Loaded:
    """Load fine-tuned weights, ours or released; resolution and duration are those of the file.

    Args:
        path: the file.
        size: of the model, for released files.
        setting: what the profile expects.
        class_names: of the data, which have to be those of the head; a released file does not tell them.
        num_outputs: that the head has to have; None compares embeddings.
        dtype: of the weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not fine-tuned for this, or does not fit.
    """
    checkpoint = open_checkpoint(path)
    origin = Origin.read(checkpoint) or read_released(checkpoint, size=size, setting=setting)
    if origin.head is not None and origin.classes_sha256 not in ("", digest(list(class_names))):
        raise ValueError(f"{path} was fine-tuned for other classes than the data has; name the data it was made with")
    if (origin.head is None) != (setting.head is None):
        found = "compares embeddings" if origin.head is None else "has a head"
        raise ValueError(f"{path} {found}, expected weights fine-tuned for this task")
    if origin.head is not None and origin.head.num_classes != num_outputs:
        raise ValueError(
            f"{path} has a head of {origin.head.num_classes} outputs, expected {num_outputs}; "
            "name weights fine-tuned for this task"
        )
    module = _attach(OnePeace(origin.config), setting.head, head=origin.head, seed=0)
    report = load_state(module, _read_state(checkpoint, tuple(origin.config.modalities), dtype))
    info = describe_checkpoint(report, name=path.name, sha256=file_sha256(path))
    is_ours = origin.task != ""
    return Loaded(module.to(dtype).eval(), origin.inputs, info, str(info.sha256), has_published_weights=not is_ours)


def save_finetuned(module: TaskModel, state: Mapping[str, Tensor], path: Path, *, origin: Origin) -> None:
    """Write a fine-tuned model; `state` holds the tensors of `module` by name, whole."""
    assert set(state) == set(module.state_dict()), "the whole state"
    save_state(state, path, metadata={"format": "pt", METADATA_KEY: origin.to_json()})


def describe_origin(loaded: Loaded, *, task: str, setting: str, class_names: Sequence[str]) -> Origin:
    """Say what a model that was fine-tuned is."""
    head = _find_head(loaded.module)
    return Origin(task, setting, loaded.model.config, head, dict(loaded.inputs), digest(list(class_names)))


def _find_head(module: TaskModel) -> Head | None:
    """Give the settings of a model's head; None where it has none."""
    if isinstance(module, Retriever):
        return None
    return module.head.config if isinstance(module, Classifier) else module.config


def _fresh(module: TaskModel, inputs: Mapping[str, InputSettings], *, seed: int) -> Loaded:
    info = CheckpointInfo(name=f"random initialisation, seed {seed}", sha256=None, loaded=len(module.state_dict()))
    made = digest([seed, module.model.config.model_dump(mode="json")])
    return Loaded(module, inputs, info, made, has_published_weights=False)


def _attach(
    model: OnePeace,
    settings: HeadSettings | None,
    *,
    seed: int,
    num_outputs: int | None = None,
    head: Head | None = None,
) -> TaskModel:
    """Put a head on a model where there is to be one, fresh from the seed."""
    if settings is None:
        return Retriever(model)
    if head is None:
        assert num_outputs is not None, "a head has outputs"
        head = _choose_head(settings, num_outputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = ImageClassifier(model, head) if isinstance(head, ImageHeadConfig) else Classifier(model, head)
        classifier.head.apply(initialise)
    return classifier


def _choose_head(settings: HeadSettings, num_outputs: int) -> Head:
    if settings.is_linear:
        return ImageHeadConfig(num_classes=num_outputs)
    return HeadConfig(
        num_classes=num_outputs,
        pooled_modality=settings.pooled_modality,
        has_pooler=settings.has_pooler,
        num_passes=settings.num_passes,
    )


def _resize(config: ModelConfig, inputs: Mapping[str, InputSettings]) -> ModelConfig:
    """Give the model the resolution that its pictures will have."""
    size_px = inputs["image"].arguments.get("size_px") if "image" in inputs else None
    if size_px is None:
        return config
    if size_px % PATCH_SIZE_PX:
        raise ValueError(f"size_px {size_px} is no multiple of {PATCH_SIZE_PX}, the side of a patch")
    modalities = {name: dict(options) for name, options in config.modalities.items()}
    modalities["image"]["bias_grid_size"] = int(size_px) // PATCH_SIZE_PX
    return config.branch(*config.modalities, modalities=modalities)


def _type(config: ModelConfig, setting: SettingProfile) -> ModelConfig:
    """Give every modality a vector of its own, where the setting asks for it; they start at zero."""
    if not setting.has_type_embeddings:
        return config
    typed = {name: {**options, "has_type_embedding": True} for name, options in config.modalities.items()}
    return config.branch(*config.modalities, modalities=typed)


def _read_state(checkpoint: Checkpoint, names: Sequence[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Read the tensors of some branches and of the head, by the names of a `TaskModel`."""
    state = {}
    for name, role in find_roles(checkpoint.names).items():
        if why_left_out(role, names, with_head=True) is not None:
            continue
        place = f"model.{role.ours}" if role.part is Part.ENCODER else role.ours
        state[place] = checkpoint.read(name, dtype)
    return state
