"""The door to MLflow: how a store is opened, asked and written; and the records out of its database alone.

MLflow is imported on use. A run is whole without it: the record is on disk before anything is sent here.
"""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from reports.lock import lock
from reports.record import Record
from reports.run_layout import (
    CHUNKS_TAG,
    KIND_TAG,
    unpack,
)

EXPERIMENT = "one-peace/downstream"

MAX_TAGS_PER_BATCH = 100
MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_PER_BATCH = 100
LOCK_LIMIT_S = 60.0


class StoreError(RuntimeError):
    """MLflow's store could not be written or read; the message is one line."""


class MetricPoint(NamedTuple):
    """One value of a curve; `time_ms` is milliseconds since 1970."""

    key: str
    value: float
    time_ms: int
    step: int


def load_records(tracking_uri: str, *, experiment: str = EXPERIMENT) -> tuple[Record, ...]:
    """Read every record back from the database, oldest first, each run id once; nothing where there is no store.

    Raises:
        StoreError: the store cannot be read, or a record in it is not whole.
    """
    path = sqlite_path(tracking_uri)
    if path is not None and not path.is_file():
        return ()
    with at_the_store("read", tracking_uri):
        client = open_client(tracking_uri)
        found = client.get_experiment_by_name(experiment)
        wanted = f"tags.`{KIND_TAG}` = 'record' and tags.`{CHUNKS_TAG}` != ''"
        runs = [] if found is None else list(search(client, found.experiment_id, wanted))
        records = {record.run_id: record for record in (_unpack(run) for run in runs)}
    return tuple(sorted(records.values(), key=lambda record: (record.start, record.run_id)))


def sqlite_path(tracking_uri: str) -> Path | None:
    """Find the file behind a sqlite address; None for any other address."""
    prefix = "sqlite:///"
    return Path(tracking_uri.removeprefix(prefix)) if tracking_uri.startswith(prefix) else None


@contextmanager
def at_the_store(doing: str, tracking_uri: str) -> Iterator[None]:
    """Turn whatever goes wrong at a store into one line.

    Raises:
        StoreError: in the place of any other error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own deprecations
            yield
    except StoreError:
        raise
    except Exception as error:  # whatever a store, a server or a driver may raise: none of it may cost a result
        raise StoreError(explain(error, tracking_uri, doing=doing)) from error


@contextmanager
def hold(tracking_uri: str, *, limit_s: float = LOCK_LIMIT_S) -> Iterator[None]:
    """Be the only process of this machine that writes records to a store.

    Raises:
        TimeoutError: another one has been writing for too long.
    """
    name = hashlib.sha256(tracking_uri.encode()).hexdigest()[:16]
    with lock(Path(tempfile.gettempdir()) / f"one-peace-{os.getuid()}-{name}.lock", limit_s=limit_s):
        yield


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
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # results alone go there
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's own 7 wait for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds; MLflow's own are 120


def open_client(tracking_uri: str) -> Any:
    """Import MLflow, without its telemetry, and open a store; a sqlite one is made if it is not there.

    Two processes that make one at once wait for each other.

    Raises:
        Exception: whatever the store, its server or its driver may raise.
    """
    set_switches()
    from mlflow.tracking import MlflowClient

    path = sqlite_path(tracking_uri)
    if path is None:
        return MlflowClient(tracking_uri=tracking_uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.parent, limit_s=LOCK_LIMIT_S):
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


def log_dataset(client: Any, run_id: str, fields: Mapping[str, str]) -> None:
    """Name a data set as what a run was evaluated on."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tags = [InputTag("mlflow.data.context", "evaluation")]
    client.log_inputs(run_id, datasets=[DatasetInput(Dataset(**fields), tags=tags)])


def log_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    """Send tags in their order, in as few requests as MLflow takes."""
    from mlflow.entities import RunTag

    entities = [RunTag(key, value) for key, value in tags.items()]
    for i in range(0, len(entities), MAX_TAGS_PER_BATCH):
        client.log_batch(run_id, tags=entities[i : i + MAX_TAGS_PER_BATCH])


def _unpack(run: Any) -> Record:
    try:
        return unpack(run.data.tags, run=run.info.run_id)
    except ValueError as error:
        raise StoreError(str(error)) from None


def search(client: Any, experiment_id: str, wanted: str) -> Iterator[Any]:
    """Give the runs of an experiment that a filter finds, oldest first."""
    token: str | None = None
    order = ["attributes.start_time ASC", "attributes.run_id ASC"]
    while True:
        page = client.search_runs([experiment_id], filter_string=wanted, order_by=order, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
