"""One stage from its config to its weights: data, model, training, judgement, record."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from models.checkpoint.load import load_branches
from models.checkpoint.reader import file_sha256
from models.config import load_config
from models.embedding import Embedder, find_tokenizer
from models.sharding import spread
from models.tokenizer import Tokenizer
from models.world import World
from pretrain.config import StageConfig
from pretrain.data.config import DataConfig
from pretrain.data.loader import Say
from pretrain.evaluate import Evaluation, evaluate
from pretrain.journal import Journal
from pretrain.stages import build_objective, freeze, take_over
from pretrain.trainer import Outcome, Trainer
from pretrain.weights import Weights, collect, find_weights, write
from reports.provenance import ROOT, read_commit, read_versions

CONFIG_FILE = "config.yaml"
EVALUATION_FILE = "evaluation.json"
METADATA_KEY = "onepeace"


@dataclass(frozen=True)
class Result:
    """What a stage left behind."""

    folder: Path
    outcome: Outcome
    evaluation: Evaluation | None
    """None where the data is the user's own, or the training was stopped."""


def prepare_data(config: StageConfig, world: World, say: Say) -> tuple[DataConfig, Path | None]:
    """Draw the miniature world that a small size is trained on, and find the sources in it.

    Returns:
        The data settings, and the world's held-out part; None where the data is the user's own.
    """
    if config.world is None:
        return config.data, None
    held_out = find_held_out(config)
    if world.is_first:
        from miniworld.pretraining import write_pairs

        if not held_out.is_dir():
            say(f"drawing the miniworld into {config.world.folder} ({config.world.num_pictures} pictures; minutes)")
        write_pairs(
            ROOT / config.world.folder,
            seed=config.world.seed,
            num_pictures=config.world.num_pictures,
            num_sounds=config.world.num_sounds,
            num_held_out=config.world.num_held_out,
        )
    world.share_text("drawn")  # the others wait
    home = held_out.parent
    sources = [source.model_copy(update={"path": str(home / source.path)}) for source in config.data.sources]
    return config.data.model_copy(update={"sources": sources}), held_out


def find_held_out(config: StageConfig) -> Path:
    """Name the held-out part of a small size's miniature world.

    Raises:
        ValueError: the size has none.
    """
    if config.world is None:
        raise ValueError(f"{config.stage} of size {config.size!r} is trained on the user's data; name --held-out")
    return ROOT / config.world.folder / "miniworld-pairs" / "held_out"


def claim(folder: Path, config: StageConfig) -> None:
    """Write the resolved config into the run's folder, or check that a run that goes on has the same one.

    Raises:
        ValueError: it was begun with other settings; the first one is named.
    """
    path, values = folder / CONFIG_FILE, config.model_dump(mode="json")
    if path.is_file():
        earlier = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        free = {"parallel", "num_workers", "log_every_steps", "saving"}
        earlier |= {key: values[key] for key in free}
        known = StageConfig.parse(earlier, where=str(path)).model_dump(mode="json")  # what is newer has its default
        if changed := [key for key in values if known[key] != values[key]]:
            raise ValueError(
                f"{folder.name} was begun with another {changed[0]!r}; go on with the same settings, or name another "
                "run"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    partial.replace(path)


def run_stage(
    config: StageConfig, *, folder: Path, start: Path | None, world: World, say: Say, journal: Journal | None
) -> Result:
    """Train one stage to its weights, or to where it was stopped.

    Args:
        config: of the stage.
        folder: of the run; one that holds checkpoints is gone on with.
        start: weights of the stage before, or its run's folder; None where the stage starts from nothing.
        world: the ranks.
        say: one line to the user.
        journal: of the first rank.

    Raises:
        FileNotFoundError: weights or data are missing.
        ValueError: weights or data do not fit.
    """
    weights = None if start is None else Weights(start)
    objective = build_objective(config)
    if weights is not None:
        take_over(objective, weights, config)
    freeze(objective, config.trained)
    data, held_out = prepare_data(config, world, say)  # takes minutes: only once the weights are known to fit
    spread(objective, objective.encoders, config=config.parallel, world=world)
    tokenizer = _find_tokenizer(config)
    trainer = Trainer(
        objective,
        config.model_copy(update={"data": data}),
        world=world,
        folder=folder,
        tokenizer=tokenizer,
        say=say,
    )
    outcome = trainer.run(journal)
    if not outcome.is_complete:
        return Result(folder, outcome, None)
    state = collect(objective, weights)
    if not world.is_first:
        return Result(folder, outcome, None)
    path = write(
        state, folder, metadata=describe_run(config, outcome, start=None if start is None else find_weights(start))
    )
    evaluation = judge(path, config.size, held_out, say=say) if held_out is not None else None
    if evaluation is not None:
        (folder / EVALUATION_FILE).write_text(evaluation.to_json(), encoding="utf-8")
    return Result(folder, outcome, evaluation)


def _find_tokenizer(config: StageConfig) -> Tokenizer | None:
    """Find the vocabulary of the size, where the pair has text."""
    if "text" not in config.objective.pair:
        return None
    size = load_config(config.size).modalities["text"]["vocabulary_size"]
    tokenizer = find_tokenizer(size)
    if tokenizer is None:
        raise ValueError(f"size {config.size!r} has a vocabulary of {size} entries, and there is none of that size")
    return tokenizer


def describe_run(config: StageConfig, outcome: Outcome, *, start: Path | None) -> dict[str, str]:
    """Say in a checkpoint's header where it comes from, and where the weights it started from do."""
    commit, is_dirty = read_commit()
    facts: dict[str, Any] = {
        "stage": config.stage,
        "size": config.size,
        "steps": outcome.steps,
        "seed": config.seed,
        "commit": commit + ("-dirty" if is_dirty else ""),
        "versions": read_versions(),
        "recipe": config.model_dump(mode="json"),
        "start": None if start is None else read_origin(start) or {"file": start.name, "sha256": file_sha256(start)},
    }
    return {"format": "pt", METADATA_KEY: json.dumps(facts, sort_keys=True)}


def read_origin(path: Path) -> dict[str, Any] | None:
    """Read from a checkpoint's header where it comes from; None where it does not say."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    origin: dict[str, Any] | None = None if text is None else json.loads(text)
    return origin


def judge(path: Path, size: str, held_out: Path, *, say: Say) -> Evaluation:
    """Judge weights by the held-out part of the miniworld; branches that were not trained are left out."""
    from models.checkpoint.describe import describe
    from models.checkpoint.reader import open_checkpoint

    found = describe(open_checkpoint(path))
    names = tuple(name for name, branch in found.branches.items() if branch.has_projection)
    model, _ = load_branches(path, size, names, say=lambda _: None)
    vocabulary = load_config(size).modalities["text"]["vocabulary_size"]
    return evaluate(Embedder(model, find_tokenizer(vocabulary)), held_out, say=say)
