"""What is examined: a task with its settings, weights and data, or a finished run of it. Imports no torch by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from downstream.config import TaskConfig, load_task_config
from downstream.engines.plain.settings import PlainProfile, SettingProfile
from downstream.formats.base import Listing
from downstream.tasks import load_task
from downstream.tasks.base import Part, RunOptions, Task
from downstream.tasks.plain import PlainTask, draw_miniworld, is_miniworld, resolve_profile
from reports.provenance import ROOT
from reports.record import Record, read_record

if TYPE_CHECKING:
    from downstream.doctor.probe import Probe
    from downstream.engines.plain.origin import Origin
    from models.checkpoint.describe import Description
    from models.checkpoint.reader import Checkpoint

NO_DATA = "no data is named; name its folder with --data-root"
LEAST_PROBED = 8  # samples; fewer tell nothing apart


@dataclass(frozen=True)
class Case:
    """One part of a task; what is read is read once, when it is asked for."""

    task: Task
    config: TaskConfig
    options: RunOptions
    part: Part
    profile_name: Any
    settings: Mapping[str, Any]
    """The resolved profile: of the run, or of what the user asks for."""
    run: Path | None = None
    record: Record | None = None
    """Of a finished run."""
    missing: tuple[str, ...] = ()
    """What the model cannot run without."""

    @property
    def is_plain(self) -> bool:
        """Whether the plain engine runs it, whose every setting the checks know."""
        return isinstance(self.task, PlainTask)

    @property
    def plain(self) -> PlainTask:
        """The task, where the plain engine runs it."""
        assert isinstance(self.task, PlainTask), "a check of the plain engine"
        return self.task

    @cached_property
    def profile(self) -> PlainProfile:
        """Everything that the profile fixes, as it is or was run."""
        where = "the run's settings" if self.record else f"{self.config.task}, profile {self.profile_name!r}"
        return PlainProfile.parse(self.settings, where=where)

    @property
    def setting(self) -> SettingProfile:
        """How it is judged."""
        return self.profile.settings[cast("Any", self.part.setting)]

    @cached_property
    def expected(self) -> SettingProfile:
        """How the config judges it, without anything that the user changed."""
        profile, _ = resolve_profile(self.config, self.profile_name, RunOptions())
        return profile.settings[cast("Any", self.part.setting)]

    @cached_property
    def disputes(self) -> tuple[str, ...]:
        """Where paper and release disagree, a sentence each."""
        return resolve_profile(self.config, self.profile_name, RunOptions())[1]

    @property
    def weights(self) -> Path | None:
        """The file that is judged; None where none is named."""
        named = self.options.checkpoint
        if self.is_plain and self.part.setting == "zero-shot":
            named = named or self.options.pretrained or (None if self.record else self._shipped)
        return named

    @property
    def _shipped(self) -> Path | None:
        path = ROOT / "models" / "weights" / f"{self.profile.size}.safetensors"
        return path if path.is_file() else None

    @cached_property
    def checkpoint(self) -> "Checkpoint | None":
        """The weights, open.

        Raises:
            ValueError, FileNotFoundError: as `open_checkpoint`.
        """
        from models.checkpoint.reader import open_checkpoint

        return None if self.weights is None else open_checkpoint(self.weights)

    @cached_property
    def description(self) -> "Description | None":
        """What the weights are, from names and shapes alone."""
        from models.checkpoint.describe import describe

        return None if self.checkpoint is None else describe(self.checkpoint)

    @cached_property
    def origin(self) -> "Origin | None":
        """What fine-tuned weights of ours say of themselves; None of all others."""
        from downstream.engines.plain.origin import Origin

        return None if self.checkpoint is None else Origin.read(self.checkpoint)

    @cached_property
    def root(self) -> Path | None:
        """The folder of the data: the user's, or the miniworld's; None where a run says nothing of it."""
        root = self.plain.find_root(self.config.task, self.options)
        if root is not None or self.record is not None or self.profile_name != "mini":
            return root
        return draw_miniworld(self.config.task, self.options.seed)

    @cached_property
    def listing(self) -> Listing[Any] | None:
        """The split as its list has it; None where no data is named.

        Raises:
            ValueError, FileNotFoundError: as its reader.
        """
        return None if self.root is None else self.plain.read(self.root, self.part.split)

    @property
    def is_drawn(self) -> bool:
        """Whether the data is the miniworld's."""
        return self.root is not None and self.listing is not None and is_miniworld(self.root, self.listing)

    @property
    def is_published(self) -> bool:
        """Whether the data has to be what was published: never the miniworld, nor what a small model is tried on."""
        return self.profile_name == "paper" and not self.is_drawn

    def find_lack(self) -> str | None:
        """Say why no samples can go through the model; None where they can.

        Raises:
            ValueError, FileNotFoundError: as `listing`.
        """
        if self.missing:
            return self.missing[0]
        if self.weights is None:
            return "no weights are named"
        if self.listing is None:
            return NO_DATA
        count = len(self.listing.samples)
        return None if count >= LEAST_PROBED else f"{count} samples tell nothing apart, {LEAST_PROBED} would"

    @cached_property
    def probe(self) -> "Probe":
        """Some samples and the model that they go through.

        Raises:
            ValueError, FileNotFoundError: weights or files that are not what they should be.
        """
        from downstream.doctor.probe import open_probe

        return open_probe(self)


def open_case(name: str, options: RunOptions, *, run: Path | None) -> Case:
    """Find out what is to be examined, in under two seconds and without torch.

    Args:
        name: of the task.
        options: what the user asks for.
        run: the folder of a finished run.

    Raises:
        ValueError: a name, an option or a setting that makes no sense, or the run of another task.
        FileNotFoundError: what the user names is not there.
    """
    for path in (options.checkpoint, options.pretrained, options.data_root):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    task, config = load_task(name), load_task_config(name)
    if run is None:
        plan = task.plan(config, options)
        missing = tuple(line for line in plan.missing if line.startswith("vocabulary:"))
        return Case(task, config, options, plan.parts[0], plan.profile, plan.settings, missing=missing)
    run = _find_record(run)
    record = read_record(run)
    if record.task != name:
        raise ValueError(f"{run} is a run of {record.task}, not of {name}; name that task")
    setting = "fine-tuned" if record.setting == "untrained" else record.setting
    settings = record.config.get("profile")
    if not isinstance(settings, dict):
        raise ValueError(f"{run} does not hold the settings it was made with; evaluate again")
    return Case(task, config, options, Part(setting, record.split), record.profile, settings, run, record)


def _find_record(run: Path) -> Path:
    """Find the record in a run's folder, or in the only part of it that has one."""
    inside = sorted(run.glob("*/record.json"))
    if (run / "record.json").is_file() or not inside:
        return run
    if len(inside) > 1:
        names = ", ".join(path.parent.name for path in inside)
        raise ValueError(f"{run} holds several results; name one of its folders: {names}")
    return inside[0].parent
