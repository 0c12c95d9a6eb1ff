"""Ablations from the command line to the report: train what is missing, compare, write, record."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.world import World
from pretrain.ablation.config import AblationsConfig, Job, Order, load_ablations, plan_jobs
from pretrain.ablation.finished import judge_weights
from pretrain.ablation.plot import draw
from pretrain.ablation.records import make_records
from pretrain.ablation.report import AblationReport, render, render_markdown
from pretrain.ablation.results import RunResult, read_result, write_result
from pretrain.ablation.tables import make_table
from pretrain.ablation.training import Ground, time_job, train
from pretrain.config import load_stage
from pretrain.data.loader import Say
from pretrain.job import prepare_data
from pretrain.reporting import describe_held_out
from reports.provenance import Clock
from reports.record import write_record
from reports.sender import log_records, warn_unsent
from reports.store import StoreError
from reports.training_run import EXPERIMENT

JSON_FILE, MARKDOWN_FILE, PLOT_FILE = "ablation.json", "ablation.md", "ablation.png"
ARTIFACTS = {"ablation": JSON_FILE, "table": MARKDOWN_FILE, "plot": PLOT_FILE}

Train = Callable[[Job], RunResult | None]
"""One job to its result; None where it was told to stop."""
Estimate = Callable[[Job], float]
"""Seconds that a job will take."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Args:
        order: the tables, the size, the seeds.
        folder: of the run.
        weights: finished runs to judge in the emergent table; none: they are trained.
        device: `cpu`, `cuda` or `auto`.
        tracking_uri: MLflow's store or server.
        command: the command line.
    """

    order: Order
    folder: Path
    weights: tuple[Path, ...]
    device: str
    tracking_uri: str
    command: str


def ablate(request: Request) -> str:
    """Train what is missing, and write the report into the run's folder.

    Returns:
        What to print: the tables, or where it was stopped.

    Raises:
        FileNotFoundError: weights or data are missing.
        FloatingPointError: a training has gone wrong.
        ValueError: weights, data or earlier results that do not fit, or several processes.
    """
    clock, ablations = Clock(), load_ablations()
    with World.join(request.device) as world:
        if world.size > 1:
            raise ValueError(f"{world.size} processes, expected one: variants are trained one after the other")
        ground = _prepare(request, ablations, world)
        given = judge_weights(request.weights, size=request.order.size, held_out=ground.held_out)
        jobs = plan_jobs(ablations, request.order, with_emergent=not given)
        found = run_jobs(
            jobs,
            folder=request.folder,
            device=world.device.type,
            train=lambda job: train(job, ground),
            estimate=lambda job: time_job(job, ground),
            say=ground.say,
        )
    if found is None:
        return f"stopped and saved; go on with --run {request.folder.name}\n"
    report = make_report(ablations, request.order, (*found, *given))
    write_report(report, request.folder)
    _record(report, request, ground=ground, clock=clock)
    return f"{render(report)}\nplot:        {request.folder.name}/{PLOT_FILE}\n"


def _prepare(request: Request, ablations: AblationsConfig, world: World) -> Ground:
    """Draw the miniature world, where it is not there yet."""
    _, held_out = prepare_data(load_stage(ablations.stage, request.order.size), world, _say)
    assert held_out is not None, "every size of ablations.yaml has a world"
    request.folder.mkdir(parents=True, exist_ok=True)
    return Ground(request.folder, held_out, world, ablations.last_share, _say)


def run_jobs(
    jobs: Sequence[Job], *, folder: Path, device: str, train: Train, estimate: Estimate, say: Say
) -> tuple[RunResult, ...] | None:
    """Train the jobs that are not finished, each kept as soon as it is.

    Args:
        jobs: what is asked for.
        folder: of the run.
        device: kind of device.
        train: trains one.
        estimate: tells beforehand how long one takes; asked once a variant.
        say: told of what is expected, what is done, what is left.

    Returns:
        In the order of the jobs; None where a training was told to stop.

    Raises:
        ValueError: an earlier result was made with other settings.
    """
    results = {job.name: read_result(folder, job, device=device) for job in jobs}
    missing = [job for job in jobs if results[job.name] is None]
    expected = _estimate(missing, estimate, say=say) if missing else {}
    done_s, spent_s = 0.0, 0.0
    for number, job in enumerate(missing, start=1):
        started = time.monotonic()
        result = train(job)
        if result is None:
            return None
        write_result(folder, job, result)
        results[job.name] = result
        spent_s += time.monotonic() - started
        done_s += expected[job.variant]
        left_s = sum(expected[other.variant] for other in missing[number:]) * spent_s / done_s
        say(f"{job.name} is through: {number} of {len(missing)} runs, about {_minutes(left_s)} left")
    return tuple(result for result in results.values() if result is not None)


def _estimate(missing: Sequence[Job], estimate: Estimate, *, say: Say) -> dict[str, float]:
    """Time a few steps of every variant, and say how long all will take."""
    expected: dict[str, float] = {}
    for job in missing:
        if job.variant not in expected:
            expected[job.variant] = estimate(job)
    total_s = sum(expected[job.variant] for job in missing)
    say(f"{len(missing)} runs to train: about {_minutes(total_s)} of steps by measured time, and the judging")
    return expected


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def make_report(ablations: AblationsConfig, order: Order, runs: Sequence[RunResult]) -> AblationReport:
    """Compare finished runs.

    Raises:
        ValueError: runs that cannot be compared.
    """
    by_variant: dict[str, list[RunResult]] = {}
    for run in sorted(runs, key=lambda each: each.seed):
        by_variant.setdefault(run.variant, []).append(run)
    tables = tuple(make_table(name, ablations, by_variant) for name in order.tables)
    return AblationReport(size=order.size, tables=tables, runs=tuple(runs))


def write_report(report: AblationReport, folder: Path) -> None:
    """Write everything as JSON, the tables as Markdown, and the plot."""
    (folder / JSON_FILE).write_text(report.to_json(), encoding="utf-8")
    (folder / MARKDOWN_FILE).write_text(render_markdown(report), encoding="utf-8")
    draw(report, folder / PLOT_FILE)


def _record(report: AblationReport, request: Request, *, ground: Ground, clock: Clock) -> None:
    """Keep a record of every table on disk, and send all to MLflow."""
    records = make_records(
        report,
        run_name=request.folder.name,
        data=describe_held_out(ground.held_out),
        device=ground.world.device.type,
        command=request.command,
        clock=clock,
        artifacts=ARTIFACTS,
    )
    for record in records:
        write_record(record, request.folder / "records" / record.task)
    folders = {record.run_id: request.folder for record in records}
    try:
        log_records(
            records,
            tracking_uri=request.tracking_uri,
            command=request.command,
            folders=folders,
            experiment=EXPERIMENT,
        )
    except StoreError as error:
        _say(warn_unsent(error))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
