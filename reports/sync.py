"""What lies on disk into MLflow: records, trainings and benchmarks that a store has not, or has in part.

Nothing is there twice, however often this runs: a record is known by its own id, a training by the run that was noted
in its folder, a benchmark by its digest.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reports.command_note import CommandNote, note_command, read_note
from reports.live import resend
from reports.record import RECORD_FILE, Record, read_record
from reports.sender import Sent, send_command
from reports.store import EXPERIMENT
from reports.training_run import EXPERIMENT as PRETRAIN_EXPERIMENT
from reports.training_run import LIVE_FILE

PRETRAIN_PREFIX: Final = "pretrain_"
"""How the tasks of pretraining's records begin."""


@dataclass(frozen=True)
class Found:
    """A record on disk.

    Attributes:
        folder: of its run, which may be above the record's own.
        group: what records of one command have in common where nothing is noted of it.
    """

    record: Record
    folder: Path
    note: CommandNote | None
    group: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a sync did.

    Attributes:
        records: how many records became what.
        num_trainings: that a log was found of.
        num_values: of their curves that were sent.
        benchmarks: how many benchmarks became what.
        problems: one line for each record, training or benchmark that could not be read.
    """

    records: Counter[Sent]
    num_trainings: int
    num_values: int
    benchmarks: Counter[Sent]
    problems: tuple[str, ...]

    def to_text(self) -> str:
        """Say it in a line each."""
        lines = [f"{self.records.total()} records: {_say(self.records)}"]
        if self.num_trainings:
            lines.append(f"{self.num_trainings} trainings: {self.num_values} values sent")
        if self.benchmarks:
            lines.append(f"{self.benchmarks.total()} benchmarks: {_say(self.benchmarks)}")
        return "".join(f"{line}\n" for line in lines)


def add_sync(parser: argparse.ArgumentParser, *, default: Path) -> None:
    """Add the options; the store is added by the caller."""
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[default], metavar="DIR", help="where runs are (default: runs)"
    )


def run_sync(args: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """Send what is missing; gives what to print, and what could not be read.

    Raises:
        FileNotFoundError: no such folder.
        StoreError: the store could not be written; what was sent until then stays.
    """
    outcome = sync(args.folders, args.tracking_uri)
    return outcome.to_text(), outcome.problems


def sync(folders: Sequence[Path], tracking_uri: str) -> Outcome:
    """Bring a store up to what lies on disk.

    Args:
        folders: everything below them is looked at.
        tracking_uri: MLflow's store or server.

    Raises:
        FileNotFoundError: no such folder.
        StoreError: the store could not be written; what was sent until then stays.
    """
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}. Name the one that runs are written to.")
    problems: list[str] = []
    records = [found for folder in folders for found in _find_records(folder, problems)]
    counts: Counter[Sent] = Counter()
    for command in _group(records):
        counts += _send_command(command, tracking_uri)
    trainings = sorted({path.parent for folder in folders for path in folder.rglob(LIVE_FILE)})
    sent = [_resend(folder, tracking_uri, problems) for folder in trainings]
    benchmarks = Counter(_send_benchmarks(folders, tracking_uri, problems))
    return Outcome(counts, len(trainings), sum(sent), benchmarks, tuple(problems))


def _find_records(root: Path, problems: list[str]) -> Iterator[Found]:
    for path in sorted(root.rglob(RECORD_FILE)):
        try:
            record = read_record(path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        above = [path.parent, *(each for each in path.parent.parents if each.is_relative_to(root))]
        noted = next((folder for folder in above if read_note(folder) is not None), None)
        yield Found(
            record,
            folder=noted or path.parent,
            note=None if noted is None else read_note(noted),
            group=(record.command, str(root), path.relative_to(root).parts[0]),
        )


def _group(records: Sequence[Found]) -> list[list[Found]]:
    """Put the records of one command together, in the order of their places."""
    groups: dict[object, list[Found]] = {}
    for found in records:
        groups.setdefault(found.note or found.group, []).append(found)
    return list(groups.values())


def _send_command(found: Sequence[Found], tracking_uri: str) -> Counter[Sent]:
    """Send the records of one command under its parent run."""
    is_pretraining = found[0].record.task.startswith(PRETRAIN_PREFIX)
    experiment = PRETRAIN_EXPERIMENT if is_pretraining else EXPERIMENT
    _, sent = send_command(
        [each.record for each in found],
        found[0].note or note_command((each.folder for each in found), experiment=experiment),
        tracking_uri=tracking_uri,
        command=found[0].record.command,
        folders={each.record.run_id: each.folder for each in found},
    )
    return Counter(sent)


def _resend(folder: Path, tracking_uri: str, problems: list[str]) -> int:
    try:
        return resend(folder, tracking_uri)
    except (ValueError, FileNotFoundError) as error:
        problems.append(str(error))
        return 0


def _send_benchmarks(folders: Sequence[Path], tracking_uri: str, problems: list[str]) -> Iterator[Sent]:
    """Send what lies in folders that benchmarks are kept in."""
    from reports.benchmark import FOLDER, read_benchmark
    from reports.benchmark_sender import log_benchmark

    found = sorted({path.absolute() for folder in folders for path in folder.rglob("*.json")})
    for path in found:
        if path.parent.name != FOLDER:
            continue
        try:
            benchmark = read_benchmark(path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        yield log_benchmark(benchmark, tracking_uri=tracking_uri, file=path)


def _say(counts: Counter[Sent]) -> str:
    return ", ".join(f"{counts[what]} {what}" for what in Sent if counts[what]) or "none"
