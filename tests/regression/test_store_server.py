"""A tracking server that is killed, and processes that write at once: no result is lost, and none is there twice."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reports.cli import main
from reports.record import RECORD_FILE, CheckpointInfo, DataInfo, MetricValue, Record, read_record, write_record
from reports.store import find_experiment, load_records, open_client
from reports.table import STYLES

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

pytestmark = pytest.mark.slow


class Server:
    """MLflow's tracking server on the loopback address, over a database of its own.

    Args:
        folder: of the database, the artifacts and the log.
        port: to listen at.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--workers",
            "1",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        command += [
            "--backend-store-uri",
            f"sqlite:///{folder / 'server.db'}",
            "--artifacts-destination",
            str(folder / "kept"),
        ]
        self._log = (folder / "server.log").open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            command, env=ENVIRONMENT, cwd=folder, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def wait(self) -> None:
        wait_for(self._answers, limit_s=180)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the server ended by itself; see server.log"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
        return False


def wait_for(condition: Callable[[], object], *, limit_s: float) -> None:
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Starts servers over one database at one address; whichever still runs is killed in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    servers: list[Server] = []

    def make() -> Server:
        servers.append(Server(tmp_path, port))
        servers[-1].wait()
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


def test_a_server_killed_in_the_middle_of_a_run_costs_a_warning_and_a_sync_brings_one_run(
    start: Callable[[], Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, runs = start(), tmp_path / "runs"
    command = [
        sys.executable,
        str(ROOT / "downstream" / "run.py"),
        "esc50",
        "-o",
        str(runs),
        "--tracking-uri",
        server.uri,
    ]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        wait_for(lambda: list(runs.glob("*_esc50_*")), limit_s=120)
        server.kill()
        out, err = job.communicate(timeout=300)
    assert job.returncode == 0, err
    assert "esc50  all    accuracy zero-shot" in out
    assert len(re.findall("^warning: not recorded in MLflow", err, flags=re.MULTILINE)) == 1
    assert "Traceback" not in err
    (record,) = [read_record(path) for path in runs.rglob(RECORD_FILE)]
    start()
    for became in ("sent", "there already"):
        assert main(["sync", str(runs), "--tracking-uri", server.uri]) == 0
        assert capsys.readouterr().out == f"1 records: 1 {became}\n"
    client = open_client(server.uri)
    found = client.search_runs(
        [find_experiment(client, "one-peace/downstream", tracking_uri=server.uri)], run_view_type=3
    )
    assert [each.data.tags["onepeace.kind"] for each in found] in (["record", "command"], ["command", "record"])
    assert load_records(server.uri) == (record,)
    for style in STYLES:
        tables = []
        for place in (["--tracking-uri", server.uri], ["--records", str(runs)]):
            assert main(["table", "--format", style, *place]) == 0
            tables.append(capsys.readouterr().out)
        assert tables[0] == tables[1]


LOG_MANY = """
import sys
from pathlib import Path
from reports.record import read_record
from reports.sender import log_records
uri, folder, name = sys.argv[1:]
record = read_record(Path(folder))
print("ready", flush=True)
sys.stdin.readline()
for number in range(5):
    log_records([record.model_copy(update={"run_id": f"{name}-{number}"})], tracking_uri=uri, command=name)
log_records([record], tracking_uri=uri, command="the same of all", folders={record.run_id: Path(folder)})
"""


def test_processes_that_make_and_write_one_database_at_once_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    record = _record()
    write_record(record, tmp_path / "run")
    uri, names = f"sqlite:///{tmp_path / 'made' / 'mlflow.db'}", ("a", "b", "c")
    arguments = [sys.executable, "-c", LOG_MANY, uri, str(tmp_path / "run")]
    pipe = subprocess.PIPE
    jobs = [
        subprocess.Popen([*arguments, name], env=ENVIRONMENT, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for name in names
    ]
    assert [job.stdout.readline() for job in jobs if job.stdout] == ["ready\n"] * 3
    said = [job.communicate("go\n", timeout=300) for job in _let_go(jobs)]
    assert [(job.returncode, *each) for job, each in zip(jobs, said, strict=True)] == [(0, "", "")] * 3
    expected = {record.run_id, *(f"{name}-{number}" for name in names for number in range(5))}
    assert {each.run_id for each in load_records(uri)} == expected
    client = open_client(uri)
    found = client.search_runs([find_experiment(client, "one-peace/downstream", tracking_uri=uri)], run_view_type=3)
    kinds = [run.data.tags["onepeace.kind"] for run in found]
    assert kinds.count("record") == len(expected)


def _let_go(jobs: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Let all of them begin at one moment."""
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("go\n")
        job.stdin.flush()
    return jobs


def _record() -> Record:
    return Record(
        run_id="shared",
        task="esc50",
        dataset="ESC-50",
        split="all",
        profile="mini",
        model_size="mini",
        setting="zero-shot",
        protocol="audio-15s/zero-shot",
        protocol_sha256="ab",
        metrics=(MetricValue(name="accuracy", value=81.0, n=200, hits=162),),
        checkpoint=CheckpointInfo(name="mini.safetensors", sha256="c0ffee", loaded=10),
        data=DataInfo(name="ESC-50", version="x", root_name="esc", digest="d", n=200, n_expected=200, ids_sha256="e5"),
        config={},
        dtype="float32",
        device="cpu",
        seed=0,
        commit="0123456789",
        is_dirty=False,
        versions={},
        started_at="2024-01-31T12:00:00+00:00",
        duration_s=3.5,
        command="x",
    )
