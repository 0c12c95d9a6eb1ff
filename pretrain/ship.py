"""Making a trained small size the one that comes with the project."""

import json
from pathlib import Path
from typing import Any

from models.checkpoint.load import save_state
from models.embedding import WEIGHTS_DIR
from pretrain.evaluate import Evaluation
from pretrain.job import EVALUATION_FILE, METADATA_KEY, read_origin
from pretrain.weights import Weights, find_weights

MAX_BYTES = 12_000_000


def ship(run: Path) -> str:
    """Write a finished run's encoder to `models/weights`, its recipe, commit and metrics in the header.

    The decoder stays behind. Nothing but the run decides what is written.

    Args:
        run: folder of the last stage's run.

    Returns:
        One line to the user.

    Raises:
        FileNotFoundError: the run is not finished, or was not judged.
        ValueError: weights that do not say where they come from, whose code was not committed, or that are too large.
    """
    weights = Weights(find_weights(run))
    origin = read_origin(weights.path)
    if origin is None:
        raise ValueError(f"{weights.path} does not say where it comes from; expected weights that pretraining wrote")
    refuse_dirty(origin)
    if not (run / EVALUATION_FILE).is_file():
        raise FileNotFoundError(f"no {EVALUATION_FILE} in {run}; expected the run of a small size, which is judged")
    evaluation = Evaluation.model_validate_json((run / EVALUATION_FILE).read_text(encoding="utf-8"))
    origin["metrics"] = {metric.name: metric.value for metric in evaluation.metrics}
    state = {name.removeprefix("model."): weights[name] for name in weights if name.startswith("model.")}
    if (size := sum(value.numel() * value.element_size() for value in state.values())) > MAX_BYTES:
        raise ValueError(f"{size} bytes of weights, expected at most {MAX_BYTES}; that size is not one to ship")
    path = WEIGHTS_DIR / f"{origin['size']}.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_state(state, path, metadata={"format": "pt", METADATA_KEY: json.dumps(origin, sort_keys=True)})
    return (
        f"{path.relative_to(WEIGHTS_DIR.parent.parent)}: {path.stat().st_size} bytes, of commit {origin['commit'][:12]}"
    )


def refuse_dirty(origin: dict[str, Any]) -> None:
    """Check that the code of every stage is in the history, so that the weights can be made again."""
    stage: dict[str, Any] | None = origin
    while stage is not None:
        commit = str(stage.get("commit", "unknown"))
        if commit == "unknown" or commit.endswith("-dirty"):
            raise ValueError(f"{stage.get('stage')} was trained by code of commit {commit}; commit first, then train")
        stage = stage.get("start")
