"""The emergent claim on weights that are there already, instead of on ones trained for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.checkpoint.reader import file_sha256
from pretrain.ablation.config import EMERGENT
from pretrain.ablation.results import RunResult
from pretrain.job import judge, read_origin
from pretrain.weights import Weights, find_weights

_OF_SEEDS = frozenset({"seed", "sha256", "commit", "versions"})


def judge_weights(paths: Sequence[Path], *, size: str, held_out: Path) -> tuple[RunResult, ...]:
    """Judge finished runs of the last stage, one for each seed.

    Args:
        paths: weights or folders of runs that differ in their seed only.
        size: of the model.
        held_out: folder of the held-out part.

    Raises:
        FileNotFoundError: no weights there.
        ValueError: weights that do not say where they come from, of another size, of the same seed twice, or of
            different recipes.
    """
    files = [find_weights(path) for path in paths]
    origins = [_read_origin(file, size) for file in files]
    seeds = [int(origin["seed"]) for origin in origins]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--weights of seeds {seeds}, expected each seed once; train with another --set seed=N")
    for file, origin in zip(files, origins, strict=True):
        if _without_seeds(origin) != _without_seeds(origins[0]):
            raise ValueError(f"{file} was trained by another recipe than {files[0]}; name runs that differ in the seed")
    return tuple(_judge(file, origin, held_out=held_out) for file, origin in zip(files, origins, strict=True))


def _read_origin(file: Path, size: str) -> dict[str, Any]:
    origin = read_origin(file)
    if origin is None:
        raise ValueError(f"{file} does not say where it comes from; expected weights that pretraining wrote")
    if origin["size"] != size:
        raise ValueError(f"{file} is of size {origin['size']!r}, expected {size!r}; name it by --size")
    return origin


def _without_seeds(values: Any) -> Any:
    """Leave out what may differ between the seeds of one recipe, at any depth."""
    if isinstance(values, Mapping):
        return {key: _without_seeds(value) for key, value in values.items() if key not in _OF_SEEDS}
    return [_without_seeds(value) for value in values] if isinstance(values, list) else values


def _judge(file: Path, origin: Mapping[str, Any], *, held_out: Path) -> RunResult:
    evaluation = judge(file, str(origin["size"]), held_out, say=lambda _: None)
    sha256 = file_sha256(file)
    return RunResult(
        variant=EMERGENT,
        seed=int(origin["seed"]),
        settings={"origin": dict(origin), "sha256": sha256},
        metrics=evaluation.metrics,
        chance=evaluation.chance,
        num_parameters=sum(value.numel() for name, value in Weights(file).items() if name.startswith("model.")),
        steps=_count_steps(origin),
        duration_s=0.0,
        commit=str(origin["commit"]),
        weights=f"{file.name}, sha256 {sha256}",
    )


def _count_steps(origin: Mapping[str, Any]) -> int:
    """Add up the steps of all stages, as far back as the weights tell."""
    start = origin.get("start")
    return int(origin.get("steps", 0)) + (_count_steps(start) if isinstance(start, Mapping) else 0)
