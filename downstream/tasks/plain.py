"""Tasks of the plain engine: a reader, a kind and a config make one. Imports no torch before a run."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downstream.config import ProfileName, TaskConfig, load_task_config
from downstream.engines.plain.settings import PlainProfile, SettingProfile, settle
from downstream.formats.base import Listing, MissingListError, Sample
from downstream.tasks import load_task
from downstream.tasks.base import (
    MINIWORLD,
    MINIWORLD_MANIFEST,
    Part,
    Plan,
    Result,
    RunOptions,
    read_metadata,
    refuse_options,
)
from downstream.workplace import Workplace
from miniworld.benchmarks import WRITERS
from models.config import load_config, override, unknown_name
from models.vocabulary import find_vocabulary
from reports.provenance import ROOT

Read = Callable[[Path, str], Listing[Any]]

PUBLISHED_VOCABULARY_SIZE = 50264
UNTRAINED = "untrained"
"""The setting of a head that there was nothing to train on."""


@dataclass(frozen=True)
class PlainTask:
    """A task."""

    kind: str
    """A file in `downstream/kinds`."""
    media: str
    """Modality of the samples' files."""
    read: Read
    """Reads a split of the data set."""
    train_split: str

    def plan(self, config: TaskConfig, options: RunOptions) -> Plan:
        """Resolve the profile and look for everything that a run opens."""
        refuse_options(options, ("has_views",), task=config.task)
        name, reason = self.choose_profile(config, options)
        profile, disputes = resolve_profile(config, name, options)
        parts = self._choose_parts(config, profile, options)
        return Plan(
            profile=name,
            reason=reason,
            facts=_facts(config, profile, options, parts=parts, disputes=disputes),
            missing=tuple(dict.fromkeys(self._missing(config, name, profile, options, parts=parts))),
            parts=parts,
            settings=profile.model_dump(mode="json"),
        )

    def run(self, config: TaskConfig, options: RunOptions, *, part: Part, workplace: Workplace) -> Result:
        """Check the data, load or fine-tune, encode, score."""
        from downstream.tasks.plain_run import run_part

        name, _ = self.choose_profile(config, options)
        profile, _ = resolve_profile(config, name, options)
        return run_part(self, config, options, part=part, profile_name=name, profile=profile, workplace=workplace)

    def choose_profile(self, config: TaskConfig, options: RunOptions) -> tuple[ProfileName, str]:
        """Choose `paper` where the user asks for it or names assets of the paper, else `mini`; and say why."""
        if options.profile is not None:
            return options.profile, "asked for"
        for path in (options.checkpoint, options.pretrained):
            if path is not None and not is_small(path):
                return "paper", f"{path.name} is no small model of ours"
        if options.data_root is not None and self._holds_published_split(config, options.data_root):
            return "paper", f"{options.data_root.name} holds the whole published split"
        return "mini", "neither released weights nor the whole data set were named"

    def find_root(self, task: str, options: RunOptions, *, split: str | None = None) -> Path | None:
        """Find the folder of a data set: the user's, or one of its name below; None for the miniworld.

        A part of a data set may be called like its task, as RefCOCO's own lists are: a folder without lists is none.

        Args:
            task: whose name the folder may have.
            options: where the user's data is.
            split: whose list is looked for; None: of the one with published numbers.
        """
        root = options.data_root
        if root is None or not (root / task).is_dir():
            return root
        try:
            _read(self.read, root / task, split or load_task_config(task).dataset.split)
        except MissingListError:
            return root
        except (FileNotFoundError, ValueError):  # told where it is opened
            pass
        return root / task

    def list_split(self, task: str, split: str, options: RunOptions) -> Listing[Any]:
        """Read a split of the user's data.

        Raises:
            FileNotFoundError, ValueError: as its reader.
        """
        root = self.find_root(task, options, split=split)
        assert root is not None, "data that the user names"
        if not root.exists():
            raise FileNotFoundError(f"no data at {root}; name the folder that holds {task} with --data-root")
        return _read(self.read, root, split)

    def _holds_published_split(self, config: TaskConfig, data_root: Path) -> bool:
        options = RunOptions(data_root=data_root)
        try:
            listing = self.list_split(config.task, config.dataset.split, options)
        except (FileNotFoundError, ValueError):
            return False
        return listing.num_listed == config.dataset.num_samples

    def _choose_parts(self, config: TaskConfig, profile: PlainProfile, options: RunOptions) -> tuple[Part, ...]:
        """Choose the settings that are judged: what is asked for, else all that the weights and the data allow."""
        splits = self.choose_splits(config, options)
        known = tuple(profile.settings)
        if options.setting is not None and options.setting not in known:
            raise ValueError(f"{config.task} is judged {' and '.join(known)}, not {options.setting}")
        chosen: tuple[str, ...] = known if options.setting is None else (options.setting,)
        if options.setting is None and len(known) > 1:
            if options.checkpoint is not None:
                chosen = ("fine-tuned",)
            elif options.pretrained is not None or not self.has_training_data(profile, options):
                chosen = ("zero-shot",)
        return tuple(
            Part(setting, split, folder=f"{setting}-{split}" if config.dataset.other_splits else setting)
            for setting in chosen
            for split in splits
        )

    def choose_splits(self, config: TaskConfig, options: RunOptions) -> tuple[str, ...]:
        """Choose the splits that are judged: the one asked for, else all with published numbers; a table is one split.

        Raises:
            ValueError: an unknown one.
        """
        dataset = config.dataset
        if options.split is None:
            is_table = options.data_root is not None and options.data_root.is_file()
            return (dataset.split,) if is_table else (dataset.split, *dataset.other_splits)
        if options.split not in dataset.splits:
            raise ValueError(unknown_name(f"split of {config.task}", options.split, dataset.splits))
        return (options.split,)

    def has_training_data(self, profile: PlainProfile, options: RunOptions) -> bool:
        """Tell whether all that a profile fine-tunes on is there."""
        training = profile.settings["fine-tuned"].training
        return training is not None and all(has_training_set(name, options) for name in training.data)

    def _missing(
        self,
        config: TaskConfig,
        name: ProfileName,
        profile: PlainProfile,
        options: RunOptions,
        *,
        parts: Sequence[Part],
    ) -> list[str]:
        """Name everything that a run would open and that is not there."""
        paths = [path for path in (options.checkpoint, options.pretrained) if path is not None]
        missing = [f"weights: {path} does not exist" for path in paths if not path.is_file()]
        if options.data_root is not None:
            for split in dict.fromkeys(part.split for part in parts):
                try:
                    self.list_split(config.task, split, options)
                except FileNotFoundError as error:
                    missing.append(f"data: {error}")
        if name == "mini":
            return missing
        if options.data_root is None:
            missing.append(f"data: name the folder that holds {config.dataset.name} with --data-root")
        elif (
            options.checkpoint is None
            and parts[-1].setting == "fine-tuned"
            and not self.has_training_data(profile, options)
        ):
            missing.append(f"data: what {config.task} is fine-tuned on, below {options.data_root}")
        if not paths:
            missing.append("weights: name fine-tuned ones with --checkpoint, or pretrained ones with --pretrained")
        return missing + _missing_vocabulary(profile, parts)


def find_task(name: str) -> tuple[PlainTask, TaskConfig]:
    """Find a task of this engine by its name.

    Raises:
        ValueError: no such task, or one of another engine.
    """
    task = load_task(name)
    if not isinstance(task, PlainTask):
        raise ValueError(f"{name} is no task of the plain engine; name one that is, such as coco")
    return task, load_task_config(name)


def find_table(name: str, options: RunOptions) -> Path | None:
    """Find an authors' table that a recipe names below the data root; None where it names a task."""
    if not name.endswith(".tsv"):
        return None
    return (options.data_root or Path()) / name


def has_training_set(name: str, options: RunOptions) -> bool:
    """Tell whether one of the sets that a recipe names is there; the miniworld always is."""
    if options.data_root is None:
        return True
    if options.data_root.is_file():  # a table is one split: the one that is judged
        return False
    if (table := find_table(name, options)) is not None:
        return table.is_file()
    task, _ = find_task(name)
    try:
        return bool(task.list_split(name, task.train_split, options).samples)
    except FileNotFoundError:
        return False


def is_small(path: Path) -> bool:
    """Tell whether a file holds a small model of ours, from its header alone."""
    told = read_metadata(path)
    try:
        size = told.get("onepeace", {}).get("size") or told.get("finetuned", {}).get("config", {}).get("name")
    except AttributeError:
        return False
    return size is not None and size != "4b"


def resolve_profile(config: TaskConfig, name: ProfileName, options: RunOptions) -> tuple[PlainProfile, tuple[str, ...]]:
    """Read a profile with the user's changes, and say where its sources disagree.

    Raises:
        ValueError: an unknown key or an impossible value.
    """
    settled, disputes = settle(config.profiles[name])
    values = override(settled, options.assignments)
    for key, value in (("precision", options.dtype), ("batch_size", options.batch_size)):
        if value is not None:
            values["settings"] = {setting: {**each, key: value} for setting, each in values["settings"].items()}
    profile = PlainProfile.parse(values, where=f"{config.task}, profile {name!r}")
    load_config(profile.size)
    return profile, disputes


def draw_miniworld(task: str, seed: int) -> Path:
    """Draw a task's data set, where it is not there yet; gives its folder."""
    return WRITERS[task](MINIWORLD / f"seed{seed}", seed=seed)


def is_miniworld(root: Path, listing: Listing[Any]) -> bool:
    """Tell whether a data set was drawn, not photographed or recorded: its own folder says so, at the root or below."""
    top = root if root.is_dir() else root.parent
    folders = (folder for folder in listing.sources[0].parents if folder.is_relative_to(top))
    return any((folder / MINIWORLD_MANIFEST).is_file() for folder in folders)


@functools.lru_cache(maxsize=8)
def _read(read: Read, root: Path, split: str) -> Listing[Sample]:
    return read(root, split)


def _missing_vocabulary(profile: PlainProfile, parts: Sequence[Part]) -> list[str]:
    text = load_config(profile.size).modalities.get("text", {})
    is_needed = any("text" in profile.settings[part.setting].inputs for part in parts)  # type: ignore[index]
    if not is_needed or text.get("vocabulary_size") != PUBLISHED_VOCABULARY_SIZE:
        return []
    try:
        find_vocabulary("published")
    except FileNotFoundError as error:
        return [f"vocabulary: {error}"]
    return []


def _facts(
    config: TaskConfig,
    profile: PlainProfile,
    options: RunOptions,
    *,
    parts: Sequence[Part],
    disputes: Sequence[str],
) -> dict[str, str]:
    """What a dry run shows."""
    dataset = config.dataset
    counted = ", ".join(
        f"{split} {'?' if counts.samples is None else format(counts.samples, ',')}"
        for split, counts in dataset.splits.items()
    )
    mini = f"the miniworld, drawn into {MINIWORLD.relative_to(ROOT)}"
    facts = {
        "model": f"{profile.size}: branches {', '.join(profile.settings[parts[0].setting].inputs)}",  # type: ignore[index]
        "data": str(options.data_root or ("not named" if profile.size == "4b" else mini)),
        "published": f"{dataset.name} {dataset.version}: {counted}",
    }
    for name in dict.fromkeys(part.setting for part in parts):
        splits = ", ".join(part.split for part in parts if part.setting == name)
        facts[name] = f"{splits}: {_tell(profile.settings[name], options)}"  # type: ignore[index]
    facts |= {f"sources {number}": dispute for number, dispute in enumerate(disputes, start=1)}
    return facts | {f"note {number}": note for number, note in enumerate(config.notes, start=1)}


def _tell(setting: SettingProfile, options: RunOptions) -> str:
    told = f"{setting.protocol_id}, {setting.precision}, batches of {setting.batch_size}"
    training = setting.training
    if training is None or options.checkpoint is not None:
        return told
    length = f"{training.steps} steps" if training.steps else f"{training.epochs} epochs"
    return f"{told}; fine-tuned for {length} of {training.batch_size}, lr {training.optim.lr:g}"


def list_recipe(training: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a fine-tuning's weights follow from; how it is cut into pieces in memory is left out."""
    return {key: value for key, value in training.items() if key not in ("state_interval", "has_checkpointing")}
