"""Where the files of a run are: in its folder, or among the artifacts of its MLflow run."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Protocol, Self

from reports.record import RECORD_FILE, Record
from reports.run_layout import RUN_ID_TAG
from reports.store import StoreError, at_the_store, open_client


class RunFiles(Protocol):
    """Finds a run's file by its name in the run's folder, which may stand in a folder below: `labels/a.png`."""

    def find(self, record: Record, name: str) -> Path | None:
        """Give its place; None where it is not there."""
        ...


class FolderFiles:
    """Files of runs in their folders.

    Args:
        root: every folder below it that holds a record is a run's.
    """

    def __init__(self, root: Path) -> None:
        self._folders: Mapping[str, Path] = dict(_list_folders(root)) if root.is_dir() else {}

    def find(self, record: Record, name: str) -> Path | None:
        """Give its place; None where it is not there."""
        folder = self._folders.get(record.run_id)
        path = folder / name if folder is not None and _stays_inside(name) else None
        return path if path is not None and path.is_file() else None


class StoreFiles:
    """Files of runs among MLflow's artifacts, fetched into a folder that goes with the context.

    Whatever the store raises, the file is not there: a page without a curve is still a page.
    """

    def __init__(self, tracking_uri: str, experiments: Sequence[str]) -> None:
        self._tracking_uri, self._experiments = tracking_uri, experiments
        self._folder = Path(tempfile.mkdtemp(prefix="report-page-"))
        self._client: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def find(self, record: Record, name: str) -> Path | None:
        """Give its place; None where it is not there."""
        if not _stays_inside(name):
            return None
        try:
            with at_the_store("read", self._tracking_uri):
                return self._fetch(record.run_id, name)
        except StoreError:
            return None

    def _fetch(self, run_id: str, name: str) -> Path | None:
        if self._client is None:
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar a file, on any stream
            self._client = open_client(self._tracking_uri)
        named = [self._client.get_experiment_by_name(each) for each in self._experiments]
        experiments = [each.experiment_id for each in named if each is not None]
        wanted = run_id.replace("\\", "").replace("'", "")
        for run in self._client.search_runs(experiments, filter_string=f"tags.{RUN_ID_TAG} = '{wanted}'"):
            mlflow_id, above = run.info.run_id, name.rpartition("/")[0]
            listed = {item.path for item in self._client.list_artifacts(mlflow_id, above or None) if not item.is_dir}
            if name in listed:
                target = self._folder / mlflow_id
                target.mkdir(exist_ok=True)
                return Path(self._client.download_artifacts(mlflow_id, name, str(target)))
        return None


class FirstFound:
    """Looks in several places, one after the other."""

    def __init__(self, places: Sequence[RunFiles]) -> None:
        self._places = places

    def find(self, record: Record, name: str) -> Path | None:
        """Give its place; None where it is nowhere."""
        found = (place.find(record, name) for place in self._places)
        return next((path for path in found if path is not None), None)


def _stays_inside(name: str) -> bool:
    """Tell whether a name, which may be made of a sample's id, leads nowhere else."""
    pure = PurePosixPath(name)
    return not pure.is_absolute() and ".." not in pure.parts


def _list_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Give the runs below a folder; what cannot be read as a record is no run."""
    for path in sorted(root.rglob(RECORD_FILE)):
        try:
            run_id = json.loads(path.read_text(encoding="utf-8"))["run_id"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        yield str(run_id), path.parent
