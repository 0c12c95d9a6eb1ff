"""What fine-tuned weights are for: told by the header of ours, found out from the names and shapes of released ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from downstream.engines.plain.settings import HeadSettings, InputSettings, SettingProfile
from models.checkpoint.describe import Description, describe
from models.checkpoint.load import fit_config
from models.checkpoint.reader import Checkpoint
from models.config import ModelConfig, load_config
from models.heads import HeadConfig, ImageHeadConfig

METADATA_KEY: Final = "finetuned"
PRETRAINED_KEY: Final = "onepeace"  # under which our pretraining describes itself

Head = HeadConfig | ImageHeadConfig


@dataclass(frozen=True)
class Origin:
    """What a fine-tuned file of ours says of itself."""

    task: str
    setting: str
    config: ModelConfig
    head: Head | None
    inputs: dict[str, InputSettings]
    classes_sha256: str

    def to_json(self) -> str:
        """Write it into a header."""
        return json.dumps(
            {
                "task": self.task,
                "setting": self.setting,
                "config": self.config.model_dump(mode="json"),
                "head": None if self.head is None else self.head.model_dump(mode="json"),
                "inputs": {name: settings.model_dump(mode="json") for name, settings in self.inputs.items()},
                "classes_sha256": self.classes_sha256,
            }
        )

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> "Origin | None":
        """Read it from a header; None where the file is not one of ours.

        Raises:
            ValueError: the header is damaged.
        """
        values = checkpoint.config.get(METADATA_KEY) if isinstance(checkpoint.config, Mapping) else None
        if values is None:
            return None
        where = f"header of {checkpoint.path.name}"
        try:
            head = values["head"]
            return cls(
                task=str(values["task"]),
                setting=str(values["setting"]),
                config=ModelConfig.parse(values["config"], where=where),
                head=None if head is None else _parse_head(head, where=where),
                inputs={name: InputSettings.parse(each, where=where) for name, each in values["inputs"].items()},
                classes_sha256=str(values["classes_sha256"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where} is damaged ({error}); fine-tune again") from None


def read_released(checkpoint: Checkpoint, *, size: str, setting: SettingProfile) -> Origin:
    """Find out what a released file was fine-tuned for, from its names, shapes and the settings inside.

    Raises:
        ValueError: it holds pretrained weights, another head, or the settings inside contradict the profile.
    """
    description = describe(checkpoint)
    is_ours = isinstance(checkpoint.config, Mapping) and PRETRAINED_KEY in checkpoint.config
    if description.num_decoder_parameters or is_ours:
        raise ValueError(
            f"{checkpoint.path} holds pretrained weights, not fine-tuned ones; name it with --pretrained, "
            "or judge it with --setting zero-shot"
        )
    names = tuple(setting.inputs)
    config = fit_config(load_config(size).branch(*names), description)
    if setting.head is None:
        head = None
    else:
        head = _read_head(description, setting.head, inputs=tuple(setting.inputs))
        config = config.branch(*names, has_projection=False)
    inputs = _read_inputs(description, setting.inputs)
    return Origin("", "fine-tuned", config, head, inputs, "")


def _read_head(description: Description, settings: HeadSettings, *, inputs: Sequence[str]) -> Head:
    found = description.head or {}
    if settings.is_linear:
        if found.get("kind") != "ImageNet" or found["outputs"] is None:
            raise ValueError(f"{description.path} has no ImageNet classifier; name weights fine-tuned for this task")
        return ImageHeadConfig(num_classes=found["outputs"], pooling="mean" if found["pooling"] == "mean" else "cls")
    told = _find_flag(description.config) if {"text", "image"} <= set(inputs) else None
    if told is not None and told != settings.pooled_modality:
        raise ValueError(
            f"{description.path} was fine-tuned with its {told} tokens pooled, the config says "
            f"{settings.pooled_modality}; set settings.fine-tuned.head.pooled_modality={told}"
        )
    if found.get("kind") != "classification" or found["outputs"] is None:
        raise ValueError(f"{description.path} has no classification head; name weights fine-tuned for this task")
    return HeadConfig(
        num_classes=found["outputs"],
        pooled_modality=settings.pooled_modality,
        has_attention_pooling=found["pooling"] == "attention",
        has_pooler=found["pooler"] == "yes",
        num_passes=found["images"],
    )


def _find_flag(config: Any) -> str | None:
    """Read which tokens a released model of texts with pictures pools, where its settings say.

    A wrong choice costs tens of points. Models of one modality, or of texts with sounds, hold the flag and do not look
    at it.
    """
    model = config.get("model") if isinstance(config, Mapping) else None
    flag = model.get("use_image_features") if isinstance(model, Mapping) else None
    return None if flag is None else "image" if flag else "text"


def _read_inputs(description: Description, inputs: Mapping[str, InputSettings]) -> dict[str, InputSettings]:
    """Take resolution and duration from the file: tables have the grid's size, the settings inside the duration."""
    read = dict(inputs)
    image = description.branches["image"].input if "image" in inputs else {}
    if "image_size_px" in image:
        read["image"] = _with_argument(inputs["image"], "size_px", image["image_size_px"])
    task = description.config.get("task") if isinstance(description.config, Mapping) else None
    duration: Any = task.get("max_duration") if isinstance(task, Mapping) else None
    if "audio" in inputs and isinstance(duration, int | float):
        read["audio"] = _with_argument(inputs["audio"], "max_duration_s", duration)
    return read


def _with_argument(settings: InputSettings, name: str, value: float) -> InputSettings:
    return settings.model_copy(update={"arguments": {**settings.arguments, name: value}})


def _parse_head(values: Mapping[str, Any], *, where: str) -> Head:
    """Read the settings of a head, which one of the two the keys tell."""
    kind = HeadConfig if "pooled_modality" in values else ImageHeadConfig
    return kind.parse(values, where=where)
