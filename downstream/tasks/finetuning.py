"""Fine-tuning for a plain task: its data, its recipe, and weights that a later run of the same recipe takes up."""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from downstream.config import TaskConfig
from downstream.engines.plain.ahead import count_workers
from downstream.engines.plain.cache import VectorCache
from downstream.engines.plain.encode import Encoding
from downstream.engines.plain.fit import Fitting, fit
from downstream.engines.plain.inputs import Preparer
from downstream.engines.plain.model import DTYPES, Loaded, build_trainee, describe_origin, save_finetuned
from downstream.engines.plain.settings import FineTuning, PlainProfile, SettingProfile
from downstream.engines.plain.units import Example
from downstream.kinds import load_kind
from downstream.kinds.base import Facts
from downstream.tasks.base import RunOptions
from downstream.tasks.judging import judge_samples
from downstream.tasks.plain import UNTRAINED, PlainTask, find_task, list_recipe
from downstream.tasks.plain_data import SplitData, open_split, open_training_set
from downstream.workplace import Workplace
from models.world import World
from reports.log_file import LOG_FILE
from reports.provenance import digest, digest_sources

FOLDER = "trainings"
TRAINING_FILE = "training.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class _Course:
    """A fine-tuning with its data."""

    task: PlainTask
    config: TaskConfig
    options: RunOptions
    profile: PlainProfile
    setting: SettingProfile
    training: FineTuning
    facts: Facts
    workplace: Workplace
    world: World
    examples: tuple[Example, ...]
    train: tuple[SplitData, ...]
    validation: SplitData | None


def finetune(
    task: PlainTask,
    config: TaskConfig,
    *,
    options: RunOptions,
    profile: PlainProfile,
    setting: SettingProfile,
    pretrained: Path | None,
    facts: Facts,
    workplace: Workplace,
    world: World,
) -> tuple[Path, float]:
    """Fine-tune, or find the weights that the same recipe on the same data by the same code has left.

    Returns:
        The file of the weights, and the seconds that were trained here. Where the user's data has no training split
        the weights are those to begin with, in a folder `untrained`.

    Raises:
        ValueError: data, weights or settings that do not fit.
        FloatingPointError: the loss is no number.
    """
    training = setting.training
    if training is None:
        raise ValueError(f"{config.task} has no recipe of a fine-tuning; name fine-tuned weights with --checkpoint")
    class_names = facts.class_names
    num_outputs = load_kind(task.kind).count_outputs(facts)
    loaded = build_trainee(pretrained, size=profile.size, setting=setting, num_outputs=num_outputs, seed=options.seed)
    if not task.has_training_data(profile, options):
        workplace.say("no training split here: the head stays as it begins, and the number says nothing of the model")
        return _leave_untrained(loaded, config, class_names, workplace), 0.0
    course = _prepare(task, config, options, profile, setting, training, facts, workplace, world)
    folder = workplace.shared / FOLDER / _name(course, loaded, class_names)
    path = folder / WEIGHTS_FILE
    if path.is_file():
        workplace.say(f"fine-tuned weights of the same recipe, data and code are there: {folder.name}")
        _copy_log(folder, workplace)
        return path, 0.0
    if workplace.is_first:
        folder.mkdir(parents=True, exist_ok=True)
    world.barrier()
    started = time.monotonic()
    state, progress = fit(_fitting(course, loaded, folder))
    if workplace.is_first:
        origin = describe_origin(loaded, task=config.task, setting="fine-tuned", class_names=class_names)
        save_finetuned(loaded.module, state, path, origin=origin)
        (folder / "best.safetensors").unlink()
    world.barrier()
    if progress.best_value is not None:
        workplace.say(f"best {training.select_by} {progress.best_value:.2f} after step {progress.best_step}")
    _copy_log(folder, workplace)
    return path, time.monotonic() - started


def _prepare(
    task: PlainTask,
    config: TaskConfig,
    options: RunOptions,
    profile: PlainProfile,
    setting: SettingProfile,
    training: FineTuning,
    facts: Facts,
    workplace: Workplace,
    world: World,
) -> _Course:
    """Open what is trained on and what is validated by."""
    kind = load_kind(task.kind)
    train: list[SplitData] = []
    examples: list[Example] = []
    for name in training.data:
        data = open_training_set(name, task, config, options=options, workplace=workplace)
        _require_classes(data, facts, name)
        train.append(data)
        examples += kind.list_examples(data.samples, replace(facts, sizes=data.sizes))
    validation = None
    if training.num_validations > 1:
        name, _, split = training.validation.partition("/")
        other, other_config = find_task(name)
        validation = open_split(other, other_config, split, options=options, workplace=workplace, is_judged=False)
    return _Course(
        task, config, options, profile, setting, training, facts, workplace, world, tuple(examples), tuple(train),
        validation,
    )  # fmt: skip


def _require_classes(data: SplitData, facts: Facts, name: str) -> None:
    if data.class_names != facts.class_names:
        raise ValueError(f"the training split of {name} names other classes than the split that is judged")


def _name(course: _Course, loaded: Loaded, class_names: Sequence[str]) -> str:
    """Name a training by everything that its weights follow from."""
    setting, training = course.setting, course.training
    made = {
        "kind": course.task.kind,
        "recipe": list_recipe(training.model_dump(mode="json")),
        "inputs": {name: each.model_dump(mode="json") for name, each in setting.inputs.items()},
        "head": None if setting.head is None else setting.head.model_dump(mode="json"),
        "start": loaded.digest,
        "model": loaded.model.config.model_dump(mode="json"),
        "seed": course.options.seed,
        "classes": list(class_names),
        "data": [data.info.digest for data in course.train],
        "validation": course.validation and course.validation.info.digest,
        "code": digest_sources("models", "downstream"),
    }
    return f"{'-'.join(training.data)}-{digest(made)[:12]}"


def _fitting(course: _Course, loaded: Loaded, folder: Path) -> Fitting:
    training = course.training
    preparer = Preparer(loaded.model.config, loaded.inputs, loaded.tokenizer)
    total = training.count_steps(len(course.examples))
    course.workplace.say(f"fine-tuning on {len(course.examples)} examples: {total} steps of {training.batch_size}")
    return Fitting(
        loaded=loaded,
        kind=load_kind(course.task.kind),
        examples=course.examples,
        settings=training,
        num_classes=load_kind(course.task.kind).count_outputs(course.facts) or 0,
        preparer=preparer,
        world=course.world,
        folder=folder,
        seed=course.options.seed,
        num_workers=count_workers(course.options.num_workers, course.world),
        validate=lambda: _validate(course, loaded, preparer),
        progress=lambda done, steps, word: course.workplace.progress("fine-tuning", done, steps, word),
    )


def _validate(course: _Course, loaded: Loaded, preparer: Preparer) -> float:
    """Judge the weights as they are by the validation split."""
    data = course.validation
    assert data is not None, "there is something to validate by"
    kind, facts = load_kind(course.task.kind), replace(course.facts, sizes=data.sizes)
    is_low = course.training.precision != "float32"
    encoding = Encoding(
        module=loaded.module,
        preparer=preparer,
        digests=data.digests,
        lengths=data.lengths,
        batch_size=course.setting.batch_size,
        dtype=DTYPES["float32"],
        autocast=DTYPES["bfloat16"] if is_low else None,
        world=course.world,
        num_workers=count_workers(course.options.num_workers, course.world),
        is_sharded=course.world.size > 1,
    )
    own = tempfile.mkdtemp(prefix=".validation-", dir=course.workplace.shared) if course.workplace.is_first else ""
    place = Path(course.world.share_text(own))
    try:
        with VectorCache(place / "vectors.sqlite") as cache:
            judged, _ = judge_samples(
                kind, data.samples, facts, encoding=encoding, cache=cache, progress=lambda *_: None
            )
        course.world.barrier()
    finally:
        if course.workplace.is_first:
            shutil.rmtree(place)
    found = {metric.name: metric.value for metric in judged.metrics}
    if course.training.select_by not in found:
        known = ", ".join(found)
        raise ValueError(f"training.select_by {course.training.select_by!r}, but the validation gives: {known}")
    return found[course.training.select_by]


def _leave_untrained(loaded: Loaded, config: TaskConfig, class_names: Sequence[str], workplace: Workplace) -> Path:
    path = workplace.folder / UNTRAINED / WEIGHTS_FILE
    if workplace.is_first:
        path.parent.mkdir(exist_ok=True)
        origin = describe_origin(loaded, task=config.task, setting=UNTRAINED, class_names=class_names)
        save_finetuned(loaded.module, loaded.module.state_dict(), path, origin=origin)
    workplace.ranks.barrier()
    return path


def _copy_log(folder: Path, workplace: Workplace) -> None:
    """Keep the curve of a training beside the result, and say where its weights are."""
    if workplace.is_first:
        shutil.copyfile(folder / LOG_FILE, workplace.folder / LOG_FILE)
        told = {"training": folder.name, "weights": WEIGHTS_FILE}
        (workplace.folder / TRAINING_FILE).write_text(json.dumps(told) + "\n", encoding="utf-8")
