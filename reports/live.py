"""A training in MLflow while it goes on, and again from its log when the store was down.

The log on disk is the truth; what stands in MLflow may be late. One background thread does everything that touches the
store, its making included, and nothing that happens there reaches the training: the first failure becomes one line of
`news`, and sending is tried again now and then.
"""

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from reports.log_file import STEP, TIME, Row, read_log
from reports.run_layout import MAX_PARAM_CHARS, MAX_TAG_CHARS, metric_key
from reports.store import MAX_METRICS_PER_BATCH, StoreError, explain, set_switches, shown_uri
from reports.training_run import (
    EXPERIMENT,
    LAST_STEP_TAG,
    LIVE_FILE,
    Identity,
    Status,
    StepMetrics,
    TrainingRun,
    lay_out,
    read_identity,
)

MAX_WAITING: Final = 100_000  # steps, some 0.2 GB
MAX_STEPS_PER_SENDING: Final = 50


def find_run_id(folder: Path) -> str | None:
    """Give the id of the MLflow run that a training has had so far; None where it has none.

    Raises:
        ValueError: what was noted of the run is damaged.
    """
    return read_identity(folder).run_id if (folder / LIVE_FILE).is_file() else None


class LiveRun:
    """An MLflow run that is fed while a training goes on; `start` makes one.

    `log`, `news`, `settle` and `finish` belong to the training's thread; none of them raises for the store's sake.
    """

    def __init__(self, run: TrainingRun, *, every_s: float, retry_s: float) -> None:
        self._run = run
        self._every_s, self._retry_s = every_s, retry_s
        self._waiting: deque[StepMetrics] = deque()
        self._news: deque[str] = deque()
        self._left_out = 0
        self._has_failed = False
        self._is_done = False
        self._end: tuple[Status, Sequence[Path]] = ("KILLED", ())
        self._ending, self._tried = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="live-run", daemon=True)

    @classmethod
    def start(
        cls,
        *,
        tracking_uri: str,
        folder: Path,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        run_id: str | None = None,
        experiment: str = EXPERIMENT,
        every_s: float = 5.0,
        retry_s: float = 60.0,
    ) -> Self:
        """Begin to send; returns at once, the store is opened in the background.

        Args:
            tracking_uri: MLflow's store or server.
            folder: of the training; what `resend` needs is noted there, without the address.
            name: of the run.
            params: what people filter by; what is longer than 6000 characters stands whole in an artifact. MLflow takes
                a param once, so one that is another in a continued run becomes a tag `changed.<name>`.
            tags: what describes the run.
            run_id: MLflow's, of a run that is continued, `find_run_id(folder)`. Steps that stand there already are not
                sent again: a resumed training gives the same numbers. None begins a run, and so does the id of a run
                that the store does not know, which `news` tells.
            experiment: made if it is not there.
            every_s: between two sendings.
            retry_s: after one that failed.

        Raises:
            FileNotFoundError: no such folder.
            OSError: nothing can be written there.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}; make the training's folder first")
        set_switches()
        # The filter stays: a temporary one in the background would race with the training's own.
        warnings.filterwarnings("ignore", module=r"(mlflow|sqlalchemy|alembic)\b")
        whole = {metric_key(key): str(value) for key, value in params.items()}
        words = {metric_key(key): value for key, value in tags.items()}
        long = {key: value for key, value in whole.items() if len(value) > MAX_PARAM_CHARS}
        long |= {key: value for key, value in words.items() if len(value) > MAX_TAG_CHARS}
        identity = Identity(
            name=name,
            params={key: value[:MAX_PARAM_CHARS] for key, value in whole.items()},
            tags={key: value[:MAX_TAG_CHARS] for key, value in words.items()},
            experiment=experiment,
            run_id=run_id,
            long_values=long,
        )
        run = TrainingRun(tracking_uri, folder, identity=identity)
        run.note()
        live = cls(run, every_s=every_s, retry_s=retry_s)
        live._thread.start()
        return live

    def log(self, step: int, metrics: Mapping[str, float], *, time_s: float | None = None) -> None:
        """Have the numbers of a step sent at some time.

        Args:
            step: of the training.
            metrics: by name.
            time_s: seconds since 1970 as in the log on disk; now, where it is None.
        """
        if len(self._waiting) >= MAX_WAITING:
            self._left_out += 1
            return
        self._waiting.append(StepMetrics(step, time.time() if time_s is None else time_s, dict(metrics)))

    def news(self) -> list[str]:
        """Give what the user should be told and was not yet; lines."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def settle(self, *, limit_s: float = 60.0) -> None:
        """Wait until the store was reached once, or could not be.

        Worth doing before worker processes are forked: a fork while MLflow is being imported hands its locks on.
        """
        self._tried.wait(limit_s)

    def finish(self, status: Status = "FINISHED", artifacts: Sequence[Path] = (), *, limit_s: float = 60.0) -> bool:
        """Send what is left and end the run.

        Args:
            status: how the training ended.
            artifacts: files to keep with the run; `news` tells of those that are not there.
            limit_s: longest wait.

        Returns:
            Whether everything arrived; if not, `news` says what to do.
        """
        self._news += [f"MLflow: no file {path} to keep" for path in artifacts if not path.is_file()]
        self._end = (status, [path for path in artifacts if path.is_file()])
        self._attempt(lambda: self._run.note(status=status))
        self._ending.set()
        self._thread.join(limit_s)
        missing = len(self._waiting) + self._left_out
        if self._is_done and not missing:
            return True
        what = f"{missing} steps" if missing else "the end of the training"
        place = shown_uri(self._run.tracking_uri)
        self._news.append(f"MLflow: {what} did not reach {place}; `python reports/run.py sync` sends it from the log")
        return False

    def _work(self) -> None:
        """Send now and then until the end, and once more then."""
        pause = 0.0
        while not self._ending.wait(pause):
            pause = self._every_s if self._attempt(self._send_waiting) else self._retry_s
            self._tried.set()
        self._is_done = self._attempt(self._send_waiting) and self._attempt(self._close)
        self._tried.set()

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Act, and turn the first failure of any kind into news."""
        try:
            action()
        except Exception as error:  # whatever a store, a server or a driver may raise: the training goes on
            if not self._has_failed:
                reason = explain(error, self._run.tracking_uri, doing="write to")
                self._news.append(f"MLflow: {reason}; the training goes on, its log is on disk")
            self._has_failed = True
            return False
        return True

    def _send_waiting(self) -> None:
        self._run.open(self._news.append)
        while self._waiting:
            rows = [self._waiting[i] for i in range(min(len(self._waiting), MAX_STEPS_PER_SENDING))]
            self._run.send([row for row in rows if row.step > self._run.last_step])
            for _ in rows:  # only now: what failed is sent again, and equal points are one to MLflow
                self._waiting.popleft()

    def _close(self) -> None:
        status, artifacts = self._end
        self._run.close(status, artifacts)


def resend(folder: Path, tracking_uri: str, *, artifacts: Sequence[Path] = ()) -> int:
    """Bring a training's run in MLflow up to its log on disk; what stands there already is left as it is.

    Args:
        folder: of a training that a `LiveRun` was started for, also one that never reached its store.
        tracking_uri: MLflow's store or server; where it does not know the run, one is made.
        artifacts: files to keep with the run.

    Returns:
        How many values were sent.

    Raises:
        FileNotFoundError: not the folder of such a training.
        ValueError: its log, or what was noted of it, is damaged.
        StoreError: the store could not be written; one line.
    """
    rows = [StepMetrics(int(row[STEP]), row[TIME], _strip(row)) for row in read_log(folder)]
    first_ms, last_ms = (round(rows[i].time_s * 1000) if rows else None for i in (0, -1))
    run = TrainingRun(tracking_uri, folder, identity=read_identity(folder), start_ms=first_ms)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own deprecations
            num_sent = _fill(run, rows)
            run.close(run.identity.status, artifacts, end_ms=last_ms)
    except Exception as error:
        raise StoreError(explain(error, tracking_uri, doing="write to")) from error
    return num_sent


def _fill(run: TrainingRun, rows: Sequence[StepMetrics]) -> int:
    """Send the values of those steps that the run lacks."""
    run.open(lambda _: None)
    points, tags = lay_out(rows)
    known = run.find_steps(dict.fromkeys(point.key for point in points))
    missing = [point for point in points if point.step not in known[point.key]]
    for i in range(0, len(missing), MAX_METRICS_PER_BATCH):
        run.send_points(missing[i : i + MAX_METRICS_PER_BATCH], {})
    last = max([run.last_step, *(row.step for row in rows)])
    run.send_points((), {**tags, LAST_STEP_TAG: str(last)})
    return len(missing)


def _strip(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in {STEP, TIME}}
