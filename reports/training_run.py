"""One MLflow run of a training: how it is found or made, what is sent to it, how it ends.

NaN is sent as NaN, which MLflow keeps. Of infinities it would make 1.8e308, which spoils a curve, so they are sent as a
tag `not_finite.<metric>`, the last one each.
"""

import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from reports.run_layout import KIND_TAG, LONG_FILE, metric_key
from reports.store import MetricPoint, find_experiment, log_params, log_points, open_client, shown_uri

EXPERIMENT: Final = "one-peace/pretrain"
LIVE_FILE: Final = "live.json"
LAST_STEP_TAG: Final = "onepeace.last_step"

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""How a training ended; MLflow's words."""


@dataclass(frozen=True)
class Identity:
    """What is needed to find or to make a training's run; `live.json` in the training's folder, without any address."""

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    experiment: str = EXPERIMENT
    run_id: str | None = None
    """MLflow's; None as long as the store was never reached."""
    status: Status | None = None
    """None while the training goes on."""
    long_values: Mapping[str, str] = field(default_factory=dict)
    """Params and tags that MLflow has no room for, whole."""


@dataclass(frozen=True)
class StepMetrics:
    """The numbers of one step."""

    step: int
    time_s: float
    """Since 1970."""
    metrics: Mapping[str, float]


def read_identity(folder: Path) -> Identity:
    """Read what a `LiveRun` noted of a training.

    Raises:
        FileNotFoundError: nothing noted there.
        ValueError: damaged; one line.
    """
    path = folder / LIVE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {LIVE_FILE} in {folder}; expected the folder of a training with a live run")
    try:
        return Identity(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); write name, params and tags into it anew") from None


class TrainingRun:
    """The way to one run; used by one thread at a time, but for `note`.

    Its methods raise whatever the store, its server or its driver may raise.

    Args:
        tracking_uri: MLflow's store or server.
        folder: of the training.
        identity: names the run, or what it is made with.
        start_ms: milliseconds since 1970, of a run that has to be made; None is the time of making.
    """

    def __init__(self, tracking_uri: str, folder: Path, *, identity: Identity, start_ms: int | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.folder = folder
        self.identity = identity
        self.last_step = -1
        """That stood in the run when it was opened."""
        self._start_ms = start_ms
        self._client: Any = None
        self._noting = threading.Lock()

    @property
    def run_id(self) -> str:
        """MLflow's id of the open run."""
        assert self.identity.run_id is not None, "the run was opened"
        return self.identity.run_id

    def note(self, **changes: Any) -> None:
        """Keep the identity, changed, in the training's folder.

        Raises:
            OSError: it could not be written.
        """
        with self._noting:
            self.identity = replace(self.identity, **changes)
            path = self.folder / LIVE_FILE
            partial = path.with_name(path.name + ".partial")
            partial.write_text(json.dumps(asdict(self.identity), indent=1) + "\n", encoding="utf-8")
            partial.replace(path)

    def open(self, tell: Callable[[str], None]) -> None:
        """Reach the store, find or make the run, and set it going; nothing where that is done.

        Args:
            tell: gets a line on which run it is.
        """
        if self._client is not None:
            return
        client, place = open_client(self.tracking_uri), shown_uri(self.tracking_uri)
        run = _find_run(client, self.identity.run_id)
        if run is None:
            if self.identity.run_id is not None:
                tell(f"MLflow: run {self.identity.run_id} is not in {place}; a new one begins, a sync completes it")
            run = self._create(client)
            self.note(run_id=str(run.info.run_id))
        self.last_step = int(run.data.tags.get(LAST_STEP_TAG, -1))
        self._describe(client, run)
        known = f", continued after step {self.last_step}" if self.last_step >= 0 else ""
        tell(f"MLflow: run {self.run_id} in {place}{known}")
        self._client = client

    def send(self, rows: Sequence[StepMetrics]) -> None:
        """Send rows, oldest first, and note in the run how far they go."""
        if rows:
            points, tags = lay_out(rows)
            self.send_points(points, {**tags, LAST_STEP_TAG: str(rows[-1].step)})

    def send_points(self, points: Sequence[MetricPoint], tags: Mapping[str, str]) -> None:
        """Send points, and then the tags."""
        log_points(self._client, self.run_id, points, tags=tags)

    def find_steps(self, keys: Iterable[str]) -> dict[str, set[int]]:
        """Give the steps that the run has, by metric."""
        return {key: {int(m.step) for m in self._client.get_metric_history(self.run_id, key)} for key in keys}

    def close(self, status: Status | None, artifacts: Sequence[Path], *, end_ms: int | None = None) -> None:
        """Keep files with the run and end it; without a status it is left going.

        Args:
            status: how the training ended.
            artifacts: files that are there.
            end_ms: milliseconds since 1970; now, where it is None.
        """
        for path in artifacts:
            self._client.log_artifact(self.run_id, str(path))
        if status is not None:
            self._client.set_terminated(self.run_id, status, end_time=end_ms)

    def _create(self, client: Any) -> Any:
        experiment_id = find_experiment(client, self.identity.experiment, tracking_uri=self.tracking_uri)
        tags = {KIND_TAG: "training", **self.identity.tags}
        return client.create_run(experiment_id, run_name=self.identity.name, start_time=self._start_ms, tags=tags)

    def _describe(self, client: Any, run: Any) -> None:
        """Complete params and tags, and set the run going."""
        wanted, before = self.identity.params, run.data.params
        log_params(client, self.run_id, {key: value for key, value in wanted.items() if key not in before})
        changed = {f"changed.{key}": value for key, value in wanted.items() if before.get(key, value) != value}
        log_points(client, self.run_id, (), tags={**self.identity.tags, **changed})
        if self.identity.long_values:
            client.log_dict(self.run_id, dict(self.identity.long_values), LONG_FILE)
        client.update_run(self.run_id, status="RUNNING")


def lay_out(rows: Sequence[StepMetrics]) -> tuple[list[MetricPoint], dict[str, str]]:
    """Lay rows out as points, and as tags where MLflow has no number for a value."""
    points, tags = [], {}
    for row in rows:
        for name, value in row.metrics.items():
            key = metric_key(name)
            if math.isinf(value):
                tags[f"not_finite.{key}"] = f"{value} at step {row.step}"
            else:
                points.append(MetricPoint(key, float(value), round(row.time_s * 1000), row.step))
    return points, tags


def _find_run(client: Any, run_id: str | None) -> Any | None:
    """Look a run up; None where the store does not know it or has deleted it."""
    if run_id is None:
        return None
    try:
        run = client.get_run(run_id)
    except Exception as error:
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None
