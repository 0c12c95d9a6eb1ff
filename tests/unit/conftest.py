"""A store of MLflow's that is made once and copied: making one takes seconds."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without a run."""
    from reports.store import at_the_store, open_client

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    uri = f"sqlite:///{path}"
    with at_the_store("make", uri):
        open_client(uri)
    return path


@pytest.fixture
def store_uri(empty_database: Path, tmp_path: Path) -> str:
    """The address of a store of one's own, without a run."""
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_database, path)
    return f"sqlite:///{path}"
