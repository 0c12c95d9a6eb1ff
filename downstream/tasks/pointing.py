"""One sentence about one picture, answered by a box and drawn."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from downstream.boxes import Box, draw_answer
from downstream.config import TaskConfig
from downstream.engines.plain.inputs import Preparer
from downstream.engines.plain.model import DTYPES, load_finetuned
from downstream.formats.base import Referred
from downstream.kinds.base import Facts
from downstream.kinds.grounding import KIND, NUM_CORNERS, to_pixels
from downstream.tasks.base import RunOptions, refuse_options
from downstream.tasks.finetuning import FOLDER, TRAINING_FILE
from downstream.tasks.plain import PlainTask, resolve_profile
from models.batch import move
from models.modalities.image import read_image
from models.world import World

ANSWERS_FOLDER = "answers"
UNUSED = ("setting", "split", "pretrained", "data_root", "limit", "has_views")  # options that have no part in an answer


@dataclass(frozen=True)
class Answer:
    """Where a sentence points."""

    box: Box
    """Corners in the picture's own pixels."""
    path: Path
    """The picture with the box."""
    weights: Path


def point(
    task: PlainTask, config: TaskConfig, options: RunOptions, *, image: Path, text: str, output_dir: Path
) -> Answer:
    """Find what a sentence means in a picture, and draw it; there always is a box, whatever the sentence says.

    Args:
        task: one whose kind is grounding.
        config: of the task.
        options: with fine-tuned weights, or without: then the task's last run has left some.
        image: a picture.
        text: the sentence.
        output_dir: where runs are, and where the drawn picture goes.

    Raises:
        FileNotFoundError: no such picture, or no weights.
        ValueError: another kind of task, an empty sentence, or a picture or weights that are not what they should be.
    """
    if task.kind != "grounding":
        raise ValueError(f"{config.task} answers with no box; ask refcoco, refcoco_plus or refcocog")
    refuse_options(options, UNUSED, task=f"{config.task} with --image")
    if not text.strip():
        raise ValueError("--text is empty, expected a sentence that means something in the picture")
    if not image.is_file():
        raise FileNotFoundError(f"no picture at {image}; name one with --image")
    picture = read_image(image)
    weights = options.checkpoint or find_weights(config.task, output_dir)
    name, _ = task.choose_profile(config, replace(options, checkpoint=weights))
    profile, _ = resolve_profile(config, name, options)
    setting, device = profile.settings["fine-tuned"], World.join(options.device).device
    dtype = DTYPES[setting.precision]
    loaded = load_finetuned(
        weights, size=profile.size, setting=setting, class_names=(), num_outputs=NUM_CORNERS, dtype=dtype
    )
    sample = Referred("asked", image, text, (0.0, 0.0, float(picture.width), float(picture.height)))
    facts = Facts("image", sizes={image: picture.size})
    preparer = Preparer(loaded.model.config, loaded.inputs, loaded.tokenizer)
    passes = [move(each, device, dtype=dtype) for each in preparer.collate(KIND.list_units([sample], facts))]
    with torch.inference_mode():
        logits = loaded.module.to(device)(*passes)
    left, top, right, bottom = to_pixels(logits.float().cpu(), [sample], facts)[0].tolist()
    box = (left, top, right, bottom)
    path = output_dir / ANSWERS_FOLDER / f"{config.task}_{image.stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    draw_answer(picture, text, box).save(partial, format="PNG")
    partial.replace(path)
    return Answer(box, path, weights)


def find_weights(task: str, output_dir: Path) -> Path:
    """Find the fine-tuned weights that the last run of a task has left.

    Raises:
        FileNotFoundError: there are none.
    """
    runs = f"*_{task}_??????"  # and none of a task with a longer name
    for told in sorted(output_dir.glob(f"{runs}/*/{TRAINING_FILE}"), reverse=True):
        values = json.loads(told.read_text(encoding="utf-8"))
        path: Path = output_dir / FOLDER / values["training"] / values["weights"]
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"no fine-tuned weights of {task} in {output_dir}; run `python downstream/run.py {task}` first, "
        "or name some with --checkpoint"
    )
