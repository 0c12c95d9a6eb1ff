"""Where published numbers stand: in tasks' configs, with the ablations, or by themselves; and where sources differ."""

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from reports.table import render_text
from reports.target import Target, Text, check_ids, load_targets
from reports.validation import check_keys, explain

ROOT: Final = Path(__file__).resolve().parent.parent
CONFIGS: Final = ROOT / "downstream" / "configs"
PUBLISHED: Final = ROOT / "reports" / "published"
ABLATIONS: Final = ROOT / "pretrain" / "ablations.yaml"
DISAGREEMENTS: Final = "disagreements.yaml"

# What says where a number comes from and what is said of it, beside the number itself.
OF_THE_SOURCE: Final = {"source", "confidence", "note"}


@dataclass(frozen=True)
class TargetFile:
    """The published numbers of one file.

    Attributes:
        section: what they are of: "vision", "model size".
        measured_by: what measures them here; None where nothing does.
        notes: what a reader should know of all of them.
    """

    name: str
    section: str
    measured_by: str | None
    notes: tuple[str, ...]
    targets: tuple[Target, ...]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceNote(_Frozen):
    """Where the paper, the README and the released files do not say the same; `about` is a task or a part."""

    about: Text
    note: Text


class Account(_Frozen):
    """What others say of the paper, and what is so instead."""

    about: Text
    says: Text
    instead: Text


class Disagreements(_Frozen):
    """Everything that is known to disagree."""

    title: Text = ""
    sources: tuple[SourceNote, ...] = ()
    accounts: tuple[Account, ...] = ()


def list_target_files() -> tuple[Path, ...]:
    """Name every file of the project that holds published numbers, in the order in which they are listed."""
    published = [path for path in sorted(PUBLISHED.glob("*.yaml")) if path.name != DISAGREEMENTS]
    return (*sorted(CONFIGS.glob("*.yaml")), ABLATIONS, *published)


def read_target_files(paths: Sequence[Path]) -> tuple[TargetFile, ...]:
    """Read the published numbers of several files.

    Raises:
        ValueError: the problems of all files, one after another in one line.
    """
    files: list[TargetFile] = []
    problems: list[str] = []
    for path in paths:
        try:
            files.append(_read_file(path))
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
    if problems:
        raise ValueError(" | ".join(problems))
    check_ids(tuple(target for file in files for target in file.targets))
    return tuple(files)


def read_disagreements(path: Path = PUBLISHED / DISAGREEMENTS) -> Disagreements:
    """Read where what is published disagrees; nothing where there is no such file.

    Raises:
        ValueError: a faulty file.
    """
    if not path.is_file():
        return Disagreements()
    try:
        content = _parse(path.read_text(encoding="utf-8"))
        check_keys(content, Disagreements, where="disagreements")
        return Disagreements.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {explain(error)}. State every field in words.") from None
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def summarise(files: Sequence[TargetFile], disagreements: Disagreements) -> str:
    """Count the numbers by section, and say which of them nothing measures and how much disagrees."""
    counts: dict[str, list[int]] = {}
    for file in files:
        counts.setdefault(file.section, []).append(len(file.targets))
    width = max(map(len, counts), default=0)
    lines = [
        f"{name:<{width}}  {sum(each):>3} in {len(each)} file{'s' if len(each) > 1 else ''}"
        for name, each in counts.items()
    ]
    targets = [target for file in files for target in file.targets]
    lines.append(f"{len(targets)} targets, each with its protocol and source")
    if unmeasured := [file.name for file in files if file.measured_by is None and file.targets]:
        lines.append(f"nothing here measures those of {', '.join(unmeasured)}")
    noted = sum(bool(target.note) for target in targets)
    told = f"{len(disagreements.sources)} disagreements among sources, {len(disagreements.accounts)} in accounts"
    lines.append(f"{noted} targets with a note, {told}; --notes shows them")
    return "".join(f"{line}\n" for line in lines)


def list_targets(files: Iterable[TargetFile]) -> str:
    """Lay the numbers out, a table for each file that has some."""
    return "\n".join(_list_file(file) for file in files if file.targets)


def list_notes(files: Iterable[TargetFile], disagreements: Disagreements) -> str:
    """Write out everything that is said beside the numbers."""
    lines: list[str] = []
    for file in files:
        told = [f"  {note}" for note in file.notes]
        told += [f"  {', '.join(ids)}: {note}" for note, ids in _notes_of(file.targets).items()]
        lines += [f"{file.name}", *told] if told else []
    if disagreements.sources:
        lines += ["where sources disagree", *(f"  {each.about}: {each.note}" for each in disagreements.sources)]
    accounts = [f"  {each.about}: said: {each.says}; so it is: {each.instead}" for each in disagreements.accounts]
    lines += ["where accounts of the paper disagree with it", *accounts] if accounts else []
    return "".join(f"{line}\n" for line in lines)


def find_unsourced_changes(paths: Sequence[Path], revision: str) -> tuple[str, ...]:
    """Find the numbers that differ from those of an earlier commit while their source is what it was.

    Args:
        paths: files of the project as they are now.
        revision: git's name of the earlier commit.

    Returns:
        One line for each.

    Raises:
        ValueError: git knows no such commit.
    """
    earlier = {entry["id"]: entry for path in paths for entry in _entries_at(path, revision)}
    now = {str(entry.get("id")): entry for path in paths for entry in _entries(path.read_text(encoding="utf-8"))}
    found = []
    for name, entry in now.items():
        before = earlier.get(name)
        if before is None or any(entry.get(key) != before.get(key) for key in ("source", "note")):
            continue
        keys = sorted({*entry, *before} - OF_THE_SOURCE)
        changed = [
            f"{key} {before.get(key)!r} -> {entry.get(key)!r}" for key in keys if entry.get(key) != before.get(key)
        ]
        if changed:
            found.append(f"target {name!r}: {', '.join(changed)}, and the source it had; name where the new one stands")
    return tuple(found)


def _read_file(path: Path) -> TargetFile:
    content = _parse(path.read_text(encoding="utf-8"))
    targets = load_targets(content)
    groups = content.get("groups") or [path.stem]
    is_task = "groups" in content
    measured_by = f"python downstream/run.py {path.stem}" if is_task else content.get("measured_by")
    if path == ABLATIONS:
        measured_by = "python pretrain/run.py ablate"
    notes = tuple(str(note) for note in content.get("notes") or ())
    return TargetFile(path.name, str(content.get("section", groups[0])), measured_by, notes, targets)


def _parse(text: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"holds {type(content).__name__}, expected a mapping.")
    return content


def _entries(text: str) -> Iterator[Mapping[str, Any]]:
    block = _parse(text).get("targets")
    yield from (entry for entry in block or () if isinstance(entry, Mapping) and "id" in entry)


def _entries_at(path: Path, revision: str) -> Iterator[Mapping[str, Any]]:
    """Give the targets that a file held; none where it was not there."""
    _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", wanted=f"no commit {revision!r}")
    if not path.resolve().is_relative_to(ROOT):
        raise ValueError(f"{path} is not in the project, whose history is asked for. Leave --since out.")
    place = path.resolve().relative_to(ROOT).as_posix()
    if _git("ls-tree", "--name-only", revision, place):
        yield from _entries(_git("show", f"{revision}:{place}"))


def _git(*arguments: str, wanted: str = "") -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise ValueError(f"{wanted or done.stderr.strip()}. Name one that git knows; fetch its history first.")
    return done.stdout


def _list_file(file: TargetFile) -> str:
    header = ("id", "task", "split", "metric", "paper", "n", "setting", "protocol", "source")
    sources = list(dict.fromkeys(target.source for target in file.targets))
    cells = [
        [t.id, t.task, t.split, t.metric, _printed(t), str(t.num_samples or "?"), t.setting, t.protocol, f"[{number}]"]
        for t in file.targets
        for number in (sources.index(t.source) + 1,)
    ]
    table = render_text(cells, header=header, wrapped=frozenset(header) - {"paper", "n"})
    notes = "".join(f"[{number}] {source}\n" for number, source in enumerate(sources, start=1))
    return f"{file.name}, {file.section}: {file.measured_by or 'nothing here measures it'}\n{table}{notes}"


def _printed(target: Target) -> str:
    return target.printed if target.unit == "%" else f"{target.printed} {target.unit}"


def _notes_of(targets: Iterable[Target]) -> dict[str, list[str]]:
    """Put the targets that share a note together."""
    notes: dict[str, list[str]] = {}
    for target in targets:
        if target.note:
            notes.setdefault(target.note, []).append(target.id)
    return notes
