"""Records into MLflow, each once.

One parent run for a command, one nested run for a record, laid out by `reports.run_layout`. A record's run is found by
the record's own id: what stands there whole is left alone, a run that was cut short is completed, and one that holds
another record under the same id is replaced; so nothing is there twice, however often it is sent.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from reports.command_note import CommandNote, note_command
from reports.record import Record, without_credentials
from reports.run_layout import (
    CHUNKS_TAG,
    ENVIRONMENT_FILE,
    KIND_TAG,
    LONG_FILE,
    MAX_TAG_CHARS,
    RUN_ID_TAG,
    SHA256_TAG,
    describe_data,
    describe_environment,
    end_ms,
    find_long_values,
    list_files,
    pack,
    record_metrics,
    record_params,
    record_tags,
    run_name,
    start_ms,
)
from reports.store import (
    EXPERIMENT,
    MetricPoint,
    StoreError,
    at_the_store,
    find_experiment,
    hold,
    log_dataset,
    log_params,
    log_points,
    log_tags,
    open_client,
    search,
)

COMMAND_ID_TAG: Final = "onepeace.command_id"
PARENT_TAG: Final = "mlflow.parentRunId"
FINISHED: Final = "FINISHED"


class Sent(StrEnum):
    """What became of a record that was to be in the store."""

    NEW = "sent"
    COMPLETED = "completed"
    REPLACED = "replaced"
    THERE = "there already"


def log_records(
    records: Sequence[Record],
    *,
    tracking_uri: str,
    command: str,
    folders: Mapping[str, Path] | None = None,
    experiment: str = EXPERIMENT,
) -> str:
    """Send the records of one command to MLflow; `reports.sync` sends them later where this fails.

    Args:
        records: what the command made.
        tracking_uri: MLflow's store or server.
        command: the command line.
        folders: run id to the run's folder; what lies there is kept as artifacts, and what `reports.sync` needs is
            noted there before the store is asked for anything.
        experiment: MLflow experiment; made if it is not there.

    Returns:
        The id of the parent run.

    Raises:
        StoreError: anything at all went wrong on the way to the store.
    """
    if not records:
        raise ValueError("no records to log, expected at least one.")
    note = note_command((folders or {}).values(), experiment=experiment)
    said = without_credentials(command)
    return send_command(records, note, tracking_uri=tracking_uri, command=said, folders=folders or {})[0]


def send_command(
    records: Sequence[Record],
    note: CommandNote,
    *,
    tracking_uri: str,
    command: str,
    folders: Mapping[str, Path],
) -> tuple[str, tuple[Sent, ...]]:
    """See to it that the records of one command are in the store, each once; see `log_records`.

    Returns:
        The id of the parent run, and what became of each record.

    Raises:
        StoreError: anything at all went wrong on the way to the store.
    """
    with at_the_store("write to", tracking_uri), hold(tracking_uri):
        client = open_client(tracking_uri)
        sender = Sender(client, find_experiment(client, note.experiment, tracking_uri=tracking_uri))
        parent_id = sender.open_parent(note.command_id, records=records, command=command)
        sent = [sender.send(each, parent_id=parent_id, folder=folders.get(each.run_id)) for each in records]
        sender.close_parent(parent_id, records=records)
        return parent_id, tuple(sent)


def warn_unsent(error: StoreError) -> str:
    """Say in one line that a result is on disk alone so far."""
    return f"warning: not recorded in MLflow ({error}); the result is on disk, `python reports/run.py sync` sends it"


class Sender:
    """Puts records into one experiment; its methods raise whatever the store may raise.

    Args:
        client: MLflow's.
        experiment_id: MLflow's.
    """

    def __init__(self, client: Any, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id

    def open_parent(self, command_id: str, *, records: Sequence[Record], command: str) -> str:
        """Find the parent run of a command, or make it."""
        noted = search(self._client, self._experiment_id, f"tags.`{COMMAND_ID_TAG}` = '{command_id}'")
        parent_id = next((str(run.info.run_id) for run in noted), None) or self._find_parent(records)
        if parent_id is not None:
            return parent_id
        tasks, first = "-".join(dict.fromkeys(record.task for record in records)), records[0]
        tags = {KIND_TAG: "command", COMMAND_ID_TAG: command_id, "command": command[:MAX_TAG_CHARS]}
        tags |= {"commit": first.commit, "profile": first.profile, "mlflow.source.name": command[:MAX_TAG_CHARS]}
        tags |= {"mlflow.source.git.commit": first.commit}
        name, start = f"{tasks[:200]}-{first.commit[:7]}", min(map(start_ms, records))
        run = self._client.create_run(self._experiment_id, start_time=start, tags=tags, run_name=name)
        if len(command) > MAX_TAG_CHARS:
            self._client.log_dict(run.info.run_id, {"command": command}, LONG_FILE)
        return str(run.info.run_id)

    def _find_parent(self, records: Sequence[Record]) -> str | None:
        """Give the parent that one of the records has in the store, sent before commands were noted."""
        for record in records:
            for run in self.find(record):
                named = run.data.tags.get(PARENT_TAG)
                if named and self._client.get_run(named).info.lifecycle_stage == "active":
                    return str(named)
        return None

    def close_parent(self, parent_id: str, *, records: Sequence[Record]) -> None:
        """End the parent run with the last of its records."""
        known = self._client.get_run(parent_id).info
        end = max([known.end_time or 0, *map(end_ms, records)])
        if (known.status, known.end_time) != (FINISHED, end):
            self._client.set_terminated(parent_id, end_time=end)

    def find(self, record: Record) -> tuple[Any, ...]:
        """Give the runs that a record has, the whole one first."""
        # A filter cannot hold a quote; `_` stands for any character, and what else it finds is left out.
        pattern = record.run_id.replace("'", "_").replace("\\", "_")
        found = search(self._client, self._experiment_id, f"tags.`{RUN_ID_TAG}` LIKE '{pattern}'")
        runs = [run for run in found if run.data.tags.get(RUN_ID_TAG) == record.run_id]
        return tuple(sorted(runs, key=lambda run: not is_whole(run, record)))

    def send(self, record: Record, *, parent_id: str, folder: Path | None) -> Sent:
        """See to it that a record has one whole run.

        Args:
            record: to be there.
            parent_id: of the command's run.
            folder: of the run; what lies there is kept as artifacts.
        """
        runs = self.find(record)
        kept = next((run for run in runs if not _holds_another(run, record)), None)
        for run in runs:
            if run is not kept:
                self._client.delete_run(run.info.run_id)
        if kept is not None and is_whole(kept, record):
            return Sent.THERE
        run_id = self._create(record, parent_id) if kept is None else str(kept.info.run_id)
        self._fill(run_id, record, folder=folder)
        return Sent.COMPLETED if kept is not None else Sent.REPLACED if runs else Sent.NEW

    def _create(self, record: Record, parent_id: str) -> str:
        """Make a run that can be found again from its first moment."""
        tags = {PARENT_TAG: parent_id, KIND_TAG: "record", RUN_ID_TAG: record.run_id}
        start, name = start_ms(record), run_name(record)
        run = self._client.create_run(self._experiment_id, start_time=start, tags=tags, run_name=name)
        return str(run.info.run_id)

    def _fill(self, run_id: str, record: Record, *, folder: Path | None) -> None:
        """Write everything; what is there already is written again and stays once."""
        client, end = self._client, end_ms(record)
        points = [MetricPoint(key, value, end, 0) for key, value in record_metrics(record).items()]
        log_points(client, run_id, points, tags=record_tags(record))
        log_params(client, run_id, record_params(record))
        log_tags(client, run_id, pack(record))
        log_dataset(client, run_id, describe_data(record))
        client.log_dict(run_id, describe_environment(record), ENVIRONMENT_FILE)
        if long := find_long_values(record):
            client.log_dict(run_id, long, LONG_FILE)
        for name in list_files(record, folder):
            _log_file(client, run_id, name, folder=folder)
        client.set_terminated(run_id, end_time=end)


def is_whole(run: Any, record: Record) -> bool:
    """Tell whether a run was written to its end with just this record."""
    tags = run.data.tags
    return run.info.status == FINISHED and CHUNKS_TAG in tags and tags.get(SHA256_TAG) == pack(record)[SHA256_TAG]


def _log_file(client: Any, run_id: str, name: str, *, folder: Path | None) -> None:
    assert folder is not None, "names are of files in a folder"
    path, place = folder / name, Path(name)
    if path.is_dir():
        client.log_artifacts(run_id, str(path), artifact_path=place.as_posix())
    else:
        inside = place.parent.as_posix()
        client.log_artifact(run_id, str(path), artifact_path=None if inside == "." else inside)


def _holds_another(run: Any, record: Record) -> bool:
    """Tell whether a finished run holds another record under the same id."""
    return run.info.status == FINISHED and SHA256_TAG in run.data.tags and not is_whole(run, record)
