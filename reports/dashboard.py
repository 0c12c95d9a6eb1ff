"""MLflow's pages over what is recorded here, opened at a view that shows results beside the paper's."""

import argparse
import json
import os
import sys
from typing import Final, NoReturn

from reports.run_layout import KIND_TAG, RESULT_TAG
from reports.store import EXPERIMENT, at_the_store, open_client, set_switches, shown_uri, sqlite_path
from reports.training_run import EXPERIMENT as PRETRAIN_EXPERIMENT

HOST: Final = "127.0.0.1"  # nobody else's business: the pages ask for no password
DEFAULT_PORT: Final = 5000
VIEW: Final = "onepeace"
VIEW_TAG: Final = f"mlflow.sharedViewState.{VIEW}"
"""Where MLflow's pages look for a view by its name, mlflow 3.17."""
KIND: Final = ("mlflow.experimentKind", "custom_model_development")  # of models, not of agents
COLUMNS: Final = (
    "params.`task`",
    "params.`split`",
    "params.`setting`",
    "params.`profile`",
    "params.`model_size`",
    f"tags.`{RESULT_TAG}`",
    "tags.`verdict`",
    "tags.`comparable_with_paper`",
    "tags.`checkpoint`",
    "tags.`commit`",
)


def add_dashboard(parser: argparse.ArgumentParser) -> None:
    """Add the options; the store is added by the caller."""
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}")


def prepare_dashboard(tracking_uri: str, *, port: int) -> str:
    """Leave the view in the store, and say where it is shown.

    Args:
        tracking_uri: MLflow's store or server.
        port: of the pages, where the store is no server that has pages itself.

    Raises:
        FileNotFoundError: nothing is recorded there.
        StoreError: the store cannot be written.
    """
    path = sqlite_path(tracking_uri)
    if path is not None and not path.is_file():
        raise FileNotFoundError(f"no record in {tracking_uri}. `python downstream/run.py ade20k` makes one.")
    address = shown_uri(tracking_uri).rstrip("/") if path is None else f"http://{HOST}:{port}"
    lines = []
    with at_the_store("write to", tracking_uri):
        client = open_client(tracking_uri)
        for name, what in ((EXPERIMENT, "results"), (PRETRAIN_EXPERIMENT, "pretraining")):
            found = client.get_experiment_by_name(name)
            if found is None:
                continue
            client.set_experiment_tag(found.experiment_id, VIEW_TAG, _view(is_filtered=name == EXPERIMENT))
            client.set_experiment_tag(found.experiment_id, *KIND)
            lines.append(f"{what + ':':<13}{address}/#/experiments/{found.experiment_id}/runs?viewStateShareKey={VIEW}")
    if not lines:
        raise FileNotFoundError(f"no record in {shown_uri(tracking_uri)}. `python reports/run.py sync` sends runs.")
    return "".join(f"{line}\n" for line in lines)


def serve_dashboard(tracking_uri: str, *, port: int) -> None:
    """Show the pages until Ctrl-C; nothing where the store is a server that has pages itself."""
    if sqlite_path(tracking_uri) is None:
        return
    print("stop with Ctrl-C", flush=True)
    _become_server(tracking_uri, port)


def _become_server(tracking_uri: str, port: int) -> NoReturn:
    set_switches()
    place = ["--backend-store-uri", tracking_uri, "--host", HOST, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *place])  # noqa: S606


def _view(*, is_filtered: bool) -> str:
    state = {
        "selectedColumns": COLUMNS,
        "searchFilter": f"tags.`{KIND_TAG}` = 'record'" if is_filtered else "",
        "orderByKey": "params.`task`" if is_filtered else "attributes.start_time",  # any but the time: no nesting
        "orderByAsc": is_filtered,
    }
    return json.dumps(state)
