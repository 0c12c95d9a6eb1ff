"""What the page is made from besides records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from reports.accepted import Accepted
from reports.page.media_files import MediaFiles
from reports.page.run_files import FirstFound, RunFiles
from reports.target import Target


@dataclass(frozen=True)
class TaskFacts:
    """What a task's config says to readers."""

    title: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """What a page is made from besides records.

    Attributes:
        targets: every published number.
        tasks: what is said of a task, by its name.
        accepted: the accepted results, by name.
        files: of the runs.
        media: pictures and sounds of the data sets.
    """

    targets: Sequence[Target] = ()
    tasks: Mapping[str, TaskFacts] = field(default_factory=dict)
    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    files: RunFiles = field(default_factory=lambda: FirstFound(()))
    media: MediaFiles = field(default_factory=lambda: MediaFiles(()))

    def facts(self, task: str) -> TaskFacts:
        """Give what is said of a task; its name where nothing is."""
        return self.tasks.get(task) or TaskFacts(task.replace("_", " ").capitalize())


def read_task_facts(configs: Path) -> dict[str, TaskFacts]:
    """Read title and notes of every task's config.

    Raises:
        ValueError: a config that is not YAML.
    """
    facts = {}
    for path in sorted(configs.glob("*.yaml")):
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path.name}: not YAML: {' '.join(str(error).split())}") from None
        if isinstance(config, Mapping) and "title" in config:
            notes = tuple(str(note) for note in config.get("notes") or ())
            facts[str(config.get("task", path.stem))] = TaskFacts(str(config["title"]), notes)
    return facts
