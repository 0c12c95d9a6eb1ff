"""Records in MLflow, and back out of its database alone.

One parent run for a command, one nested run for a record. Metrics, tags, params and inputs are there to be looked at
and filtered by; the whole record stands besides, compressed, in tags, and is what is read back. The published number
is logged as `<metric>/paper` wherever there is one; `<metric>/delta` only where the two may be compared, so a mini run
never shows a distance from the paper.

MLflow is imported on use. A run is whole without it: the record is on disk before anything is sent here.
"""

import base64
import hashlib
import json
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from reports.record import RECORD_FILE, Comparison, Record, Verdict
from reports.verdict import worst

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
EXPERIMENT = "one-peace/downstream"

CHUNK_CHARS = 7900  # a tag holds 8000
MAX_DIGEST_CHARS = 36
MAX_TAGS_PER_BATCH = 100
MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_PER_BATCH = 100
KNOWN_FILES = (RECORD_FILE, "config.yaml", "environment.txt", "environment.json", "log.jsonl")

KIND_TAG, CHUNKS_TAG, SHA256_TAG = "onepeace.kind", "onepeace.record.chunks", "onepeace.record.sha256"
CHUNK_TAG = "onepeace.record.{:03d}"


class StoreError(RuntimeError):
    """MLflow's store could not be written or read; the message is one line."""


class MetricPoint(NamedTuple):
    """One value of a curve; `time_ms` is milliseconds since 1970."""

    key: str
    value: float
    time_ms: int
    step: int


def metric_key(name: str) -> str:
    """Turn any name into one that MLflow accepts: `R@1` becomes `r_at_1`, other characters become underscores."""
    spelled = re.sub(r"\b[rR]@(?=\d)", "r_at_", name).replace("@", "_at_").replace("%", "percent")
    parts = (re.sub(r"[^A-Za-z0-9_\-. ]", "_", part).strip(". ") for part in spelled.split("/"))
    return "/".join(part for part in parts if part)[:200].rstrip("/. ") or "unnamed"


def run_name(record: Record) -> str:
    """Name a record's run: `ade20k-val-ss-<checkpoint8>-<commit7>`."""
    checkpoint = (record.checkpoint.sha256 or "random")[:8]
    parts = (record.task, record.split, record.variant, checkpoint, record.commit[:7])
    return "-".join(part for part in parts if part)


def log_records(
    records: Sequence[Record],
    *,
    tracking_uri: str,
    command: str,
    folders: Mapping[str, Path] | None = None,
    experiment: str = EXPERIMENT,
) -> str:
    """Send the records of one command to MLflow.

    Args:
        records: what the command made.
        tracking_uri: MLflow's store or server.
        command: the command line.
        folders: run id to the run's folder; what lies there is kept as artifacts.
        experiment: MLflow experiment; made if it is not there.

    Returns:
        The id of the parent run.

    Raises:
        StoreError: anything at all went wrong on the way to the store.
    """
    if not records:
        raise ValueError("no records to log, expected at least one.")
    with _at_the_store("write to", tracking_uri):
        client = open_client(tracking_uri)
        experiment_id = find_experiment(client, experiment, tracking_uri=tracking_uri)
        parent_id = _start_parent(client, experiment_id, records=records, command=command)
        for record in records:
            folder = (folders or {}).get(record.run_id)
            _log_one(client, record, experiment_id=experiment_id, parent_id=parent_id, folder=folder)
        client.set_terminated(parent_id, end_time=max(map(_end_ms, records)))
        return parent_id


def load_records(tracking_uri: str, *, experiment: str = EXPERIMENT) -> tuple[Record, ...]:
    """Read every record back from the database, oldest first, each run id once; nothing where there is no store.

    Raises:
        StoreError: the store cannot be read, or a record in it is not whole.
    """
    path = sqlite_path(tracking_uri)
    if path is not None and not path.is_file():
        return ()
    with _at_the_store("read", tracking_uri):
        client = open_client(tracking_uri)
        found = client.get_experiment_by_name(experiment)
        runs = [] if found is None else list(_record_runs(client, found.experiment_id))
        records = {record.run_id: record for record in (_unpack(run.data.tags, run=run.info.run_id) for run in runs)}
    return tuple(sorted(records.values(), key=lambda record: (record.start, record.run_id)))


def sqlite_path(tracking_uri: str) -> Path | None:
    """Find the file behind a sqlite address; None for any other address."""
    prefix = "sqlite:///"
    return Path(tracking_uri.removeprefix(prefix)) if tracking_uri.startswith(prefix) else None


def record_metrics(record: Record) -> dict[str, float]:
    """Lay out a record's numbers under `<task>/<split>/<metric>`, with companions below each."""
    logged: dict[str, float | None] = {}
    for metric in record.metrics:
        key = metric_key(f"{record.task}/{record.split}/{metric.name}")
        comparison = _paper_comparison(record, metric.name)
        logged |= {key: metric.value, f"{key}/ci_low": metric.ci_low, f"{key}/ci_high": metric.ci_high}
        if comparison is not None:
            logged |= {f"{key}/paper": comparison.published, f"{key}/delta": comparison.gap}
    return {key: value for key, value in logged.items() if value is not None}


def record_tags(record: Record) -> dict[str, str]:
    """Lay out what a run is filtered by: verdicts, protocol, profile, hashes."""
    tags = {
        KIND_TAG: "record",
        "record_run_id": record.run_id,
        "profile": record.profile,
        "protocol": record.protocol,
        "protocol_sha256": record.protocol_sha256,
        "checkpoint": record.checkpoint.name,
        "checkpoint_sha256": record.checkpoint.sha256 or "none",
        "data_digest": record.data.digest,
        "data_ids_sha256": record.data.ids_sha256,
        "commit": record.commit + ("-dirty" if record.is_dirty else ""),
        "mlflow.source.name": record.command,
        "mlflow.source.git.commit": record.commit,
    }
    verdict = worst(record.comparisons)
    if verdict is not None:
        tags |= {"verdict": str(verdict), "comparable_with_paper": _comparable(record)}
    tags |= {f"verdict.{metric_key(c.metric)}": f"{c.verdict}: {c.reason}" for c in record.comparisons}
    return {key: value[:CHUNK_CHARS] for key, value in tags.items()}


@contextmanager
def _at_the_store(doing: str, tracking_uri: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own deprecations
            yield
    except StoreError:
        raise
    except Exception as error:  # whatever a store, a server or a driver may raise: none of it may cost a result
        raise StoreError(explain(error, tracking_uri, doing=doing)) from error


def explain(error: Exception, tracking_uri: str, *, doing: str) -> str:
    """Put whatever a store raised into one line without the name and the password of its address."""
    text = str(error).replace(tracking_uri.rstrip("/"), shown_uri(tracking_uri).rstrip("/"))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return f"could not {doing} {shown_uri(tracking_uri)}: {lines[0][:300]}"


def shown_uri(tracking_uri: str) -> str:
    """Give an address without the name and the password that may stand in it."""
    parts = urlsplit(tracking_uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else tracking_uri


def set_switches() -> None:
    """Keep MLflow quiet and impatient; environment variables, which have to stand before it is imported."""
    if os.environ.get("MLFLOW_DISABLE_TELEMETRY") != "true":
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's own 7 wait for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


def open_client(tracking_uri: str) -> Any:
    """Import MLflow, without its telemetry, and open a store; a sqlite one is made if it is not there.

    Raises:
        Exception: whatever the store, its server or its driver may raise.
    """
    set_switches()
    from mlflow.tracking import MlflowClient

    path = sqlite_path(tracking_uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=tracking_uri)


def find_experiment(client: Any, name: str, *, tracking_uri: str) -> str:
    """Give an experiment's id; it is made if it is not there, its artifacts beside a sqlite store."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    path = sqlite_path(tracking_uri)
    location = None if path is None else (path.resolve().parent / "mlruns" / name).as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except Exception:
        found = client.get_experiment_by_name(name)  # another process made it in between
        if found is None:
            raise
        return str(found.experiment_id)


def log_points(client: Any, run_id: str, points: Sequence[MetricPoint], *, tags: Mapping[str, str]) -> None:
    """Send values of curves in as few requests as MLflow takes; the tags go with the last."""
    from mlflow.entities import Metric, RunTag

    batches = [points[i : i + MAX_METRICS_PER_BATCH] for i in range(0, len(points), MAX_METRICS_PER_BATCH)] or [()]
    for number, batch in enumerate(batches, start=1):
        last = [RunTag(key, value) for key, value in tags.items()] if number == len(batches) else []
        client.log_batch(run_id, metrics=[Metric(*point) for point in batch], tags=last)


def log_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    """Send params, which can be written once."""
    from mlflow.entities import Param

    entities = [Param(key, value) for key, value in params.items()]
    for i in range(0, len(entities), MAX_PARAMS_PER_BATCH):
        client.log_batch(run_id, params=entities[i : i + MAX_PARAMS_PER_BATCH])


def _start_parent(client: Any, experiment_id: str, *, records: Sequence[Record], command: str) -> str:
    tasks = "-".join(dict.fromkeys(record.task for record in records))
    first = records[0]
    tags = {KIND_TAG: "command", "command": command[:CHUNK_CHARS], "commit": first.commit, "profile": first.profile}
    tags |= {"mlflow.source.name": command[:CHUNK_CHARS], "mlflow.source.git.commit": first.commit}
    name = f"{tasks[:200]}-{first.commit[:7]}"
    start = min(map(_start_ms, records))
    return str(client.create_run(experiment_id, start_time=start, tags=tags, run_name=name).info.run_id)


def _log_one(client: Any, record: Record, *, experiment_id: str, parent_id: str, folder: Path | None) -> None:
    from mlflow.entities import Metric, Param, RunTag

    start, end = _start_ms(record), _end_ms(record)
    tags = {"mlflow.parentRunId": parent_id}
    run = client.create_run(experiment_id, start_time=start, tags=tags, run_name=run_name(record))
    run_id = run.info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(key, value, end, 0) for key, value in record_metrics(record).items()],
        params=[Param(key, value) for key, value in _params(record).items()],
        tags=[RunTag(key, value) for key, value in record_tags(record).items()],
    )
    chunks = [RunTag(key, value) for key, value in _pack(record).items()]
    for i in range(0, len(chunks), MAX_TAGS_PER_BATCH):
        client.log_batch(run_id, tags=chunks[i : i + MAX_TAGS_PER_BATCH])
    client.log_inputs(run_id, datasets=[_dataset_input(record)])
    for path in _files(record, folder):
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id, end_time=end)


def _params(record: Record) -> dict[str, str]:
    names = ("task", "dataset", "split", "setting", "protocol", "profile", "model_size", "dtype", "device", "seed")
    return {name: str(getattr(record, name))[:6000] for name in names}


def _dataset_input(record: Record) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = record.data
    dataset = Dataset(
        name=f"{data.name}-{record.split}",
        digest=data.digest[:MAX_DIGEST_CHARS],
        source_type="local",
        source=json.dumps({"uri": data.root_name, "version": data.version}),
        profile=json.dumps({"n": data.n, "n_expected": data.n_expected, "ids_sha256": data.ids_sha256}),
    )
    return DatasetInput(dataset, tags=[InputTag("mlflow.data.context", "evaluation")])


def _files(record: Record, folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    names = dict.fromkeys((*KNOWN_FILES, *record.artifacts.values()))
    return [folder / name for name in names if (folder / name).is_file()]


def _pack(record: Record) -> dict[str, str]:
    raw = record.to_json().encode()
    text = base64.b85encode(zlib.compress(raw, 9)).decode()
    chunks = [text[i : i + CHUNK_CHARS] for i in range(0, len(text), CHUNK_CHARS)]
    tags = {CHUNK_TAG.format(i): chunk for i, chunk in enumerate(chunks)}
    # The count comes last: a run that was cut short before it has no record, and is not read as one.
    return tags | {SHA256_TAG: hashlib.sha256(raw).hexdigest(), CHUNKS_TAG: str(len(chunks))}


def _unpack(tags: Mapping[str, str], *, run: str) -> Record:
    try:
        text = "".join(tags[CHUNK_TAG.format(i)] for i in range(int(tags[CHUNKS_TAG])))
        raw = zlib.decompress(base64.b85decode(text))
    except (KeyError, ValueError, zlib.error):
        raise StoreError(
            f"the record in run {run} is not whole. Delete the run, and log its record.json again."
        ) from None
    if hashlib.sha256(raw).hexdigest() != tags.get(SHA256_TAG):
        raise StoreError(f"the record in run {run} was changed. Delete the run, and log its record.json again.")
    return Record.from_json(raw.decode())


def _record_runs(client: Any, experiment_id: str) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{KIND_TAG}` = 'record' and tags.`{CHUNKS_TAG}` != ''",
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _paper_comparison(record: Record, metric: str) -> Comparison | None:
    return next((c for c in record.comparisons if c.metric == metric and c.against == "paper"), None)


def _comparable(record: Record) -> str:
    refused = [c for c in record.comparisons if c.verdict is Verdict.NOT_COMPARABLE and c.against == "paper"]
    return f"no: {refused[0].reason}" if refused else "yes"


def _start_ms(record: Record) -> int:
    return int(record.start.timestamp() * 1000)


def _end_ms(record: Record) -> int:
    seconds = record.duration_s if math.isfinite(record.duration_s) else 0.0
    end = record.start + timedelta(seconds=max(0.0, seconds))
    return int(end.timestamp() * 1000)
