"""Training and judging one variant, and how long a step of it takes."""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from models.config import load_config
from models.embedding import Embedder, find_tokenizer
from models.sharding import spread
from models.tokenizer import Tokenizer
from models.world import World
from pretrain.ablation.config import Job, VariantConfig
from pretrain.ablation.results import TRAINED_CONTRAST, RunResult
from pretrain.ablation.sharing import build_variant, count_parameters
from pretrain.batches import Batcher
from pretrain.config import StageConfig, load_stage
from pretrain.data.loader import Say, open_loader
from pretrain.evaluate import Evaluation, evaluate
from pretrain.job import claim, run_stage
from pretrain.journal import Journal
from pretrain.objective import Objective
from pretrain.saving import find_latest
from pretrain.stages import build_objective, freeze
from pretrain.step import Stepper
from pretrain.trainer import CHECKPOINTS, Trainer
from pretrain.weights import Weights
from reports.log_file import Row, read_log
from reports.provenance import read_commit
from reports.record import MetricValue

TRAININGS = "trainings"
NUM_TIMED = 2  # steps; the faster one counts


@dataclass(frozen=True)
class Ground:
    """What all trainings of an ablation stand on.

    Args:
        folder: of the ablation.
        held_out: folder of the held-out part; the pairs to train on lie beside it.
        world: a single process.
        last_share: of the steps, over which the contrast at the end is averaged.
        say: one line to the user.
    """

    folder: Path
    held_out: Path
    world: World
    last_share: float
    say: Say


def train(job: Job, ground: Ground) -> RunResult | None:
    """Train and judge what a job asks for, going on where it was stopped.

    Returns:
        None where it was told to stop; its state is saved.

    Raises:
        FileNotFoundError: data is missing.
        FloatingPointError: the loss has gone wrong too often.
        ValueError: the training was begun with other settings, or data that does not fit.
    """
    folder = ground.folder / TRAININGS / job.name
    if job.config is not None:
        result = _train_variant(job, job.config, ground=ground, folder=folder)
    else:
        result = _train_stages(job, ground, folder=folder)
    if result is not None:
        for path in folder.rglob(CHECKPOINTS):  # large, and of no more use
            shutil.rmtree(path)
    return result


def _train_variant(job: Job, variant: VariantConfig, *, ground: Ground, folder: Path) -> RunResult | None:
    (config,) = job.stages
    claim(folder, config)
    objective = _build(config, variant)
    num_parameters = count_parameters(objective.model)
    freeze(objective, config.trained)
    spread(objective, objective.encoders, config=config.parallel, world=ground.world)
    tokenizer = _find_tokenizer(config)
    placed = _place(config, ground)
    trainer = Trainer(objective, placed, world=ground.world, folder=folder, tokenizer=tokenizer, say=ground.say)
    with _open_journal(config, folder, title=job.name) as journal:
        outcome = trainer.run(journal)
    if not outcome.is_complete:
        return None
    evaluation = evaluate(Embedder(objective.model, tokenizer), ground.held_out, say=lambda _: None)
    return _make_result(job, evaluation, ground=ground, log=read_log(folder), num_parameters=num_parameters)


def _train_stages(job: Job, ground: Ground, *, folder: Path) -> RunResult | None:
    """Train the stages one after the other, and judge what the last one ends with."""
    start: Path | None = None
    rows: list[Row] = []
    for config in job.stages:
        own = folder / config.stage
        claim(own, config)
        with _open_journal(config, own, title=f"{config.stage}-seed{job.seed}") as journal:
            result = run_stage(config, folder=own, start=start, world=ground.world, say=lambda _: None, journal=journal)
        if not result.outcome.is_complete:
            return None
        start = own
        rows += read_log(own)
    assert start is not None, "the emergent claim has stages"
    assert result.evaluation is not None, "small sizes are judged"
    num_parameters = sum(value.numel() for name, value in Weights(start).items() if name.startswith("model."))
    return _make_result(job, result.evaluation, ground=ground, log=rows, num_parameters=num_parameters)


def _make_result(
    job: Job, evaluation: Evaluation, *, ground: Ground, log: Sequence[Row], num_parameters: int
) -> RunResult:
    last = log[-max(1, round(ground.last_share * job.stages[-1].steps)) :]
    contrast = fmean(row["loss_contrast"] for row in last)
    trained = MetricValue(name=TRAINED_CONTRAST, value=contrast, unit="nats", n=len(last), direction="lower")
    commit, is_dirty = read_commit()
    return RunResult(
        variant=job.variant,
        seed=job.seed,
        settings=job.settings(ground.world.device.type),
        metrics=(*evaluation.metrics, trained),
        chance=evaluation.chance,
        num_parameters=num_parameters,
        steps=sum(stage.steps for stage in job.stages),
        duration_s=sum(row["seconds"] for row in log),
        commit=commit + ("-dirty" if is_dirty else ""),
    )


def time_job(job: Job, ground: Ground) -> float:
    """Estimate the seconds of all steps of a job, from a few steps whose result is thrown away."""
    return sum(_time_step(job, _place(config, ground), ground=ground) * config.steps for config in job.stages)


def _time_step(job: Job, config: StageConfig, *, ground: Ground) -> float:
    """Run a few steps from fresh weights without an optimiser; seconds of the fastest, reading included."""
    objective = build_objective(config) if job.config is None else _build(config, job.config)
    freeze(objective, config.trained)
    spread(objective, objective.encoders, config=config.parallel, world=ground.world)
    tokenizer, size = _find_tokenizer(config), config.batch.micro_batch_size
    batcher = Batcher(objective.model.config, config.objective, tokenizer, config.seed)
    stepper, lanes, times = Stepper(objective, config, ground.world), config.batch.lanes_of(0, 1), []
    model = objective.model.config
    with open_loader(
        config.data, config.batch, model=model, tokenizer=tokenizer, lanes=lanes, say=lambda _: None
    ) as loader:
        for step in range(NUM_TIMED):
            started = time.monotonic()
            parts = enumerate(next(loader))
            stepper.run([batcher.make(part, step=step, first_row=n * size) for n, part in parts], step=step)
            times.append(time.monotonic() - started)
    return min(times)


def _build(config: StageConfig, variant: VariantConfig) -> Objective:
    return build_variant(config, base=load_stage(config.stage, config.size), sharing=variant.sharing)


def _place(config: StageConfig, ground: Ground) -> StageConfig:
    """Say where the sources lie."""
    home = ground.held_out.parent
    sources = [source.model_copy(update={"path": str(home / source.path)}) for source in config.data.sources]
    return config.model_copy(update={"data": config.data.model_copy(update={"sources": sources})})


def _find_tokenizer(config: StageConfig) -> Tokenizer:
    size = load_config(config.size).modalities["text"]["vocabulary_size"]
    tokenizer = find_tokenizer(size)
    if tokenizer is None:
        raise ValueError(f"size {config.size!r} has a vocabulary of {size} entries, and there is none of that size")
    return tokenizer


def _open_journal(config: StageConfig, folder: Path, *, title: str) -> Journal:
    latest = find_latest(folder / CHECKPOINTS)
    return Journal.open(
        folder,
        total_steps=config.steps,
        log_every_steps=config.log_every_steps,
        stream=sys.stderr,
        title=title,
        resume_from=0 if latest is None else int(latest.name.removeprefix("step-")),
    )
