"""The tables of an ablation as records: one a table, on disk and in MLflow."""

from collections.abc import Iterator
from typing import Final

from pydantic import JsonValue

from pretrain.ablation.report import AblationReport
from pretrain.ablation.results import RunResult
from pretrain.ablation.tables import AblationRow, AblationTable
from reports.provenance import Clock, describe_processor, digest, peak_memory_gib, read_commit, read_versions
from reports.record import CheckpointInfo, Comparison, DataInfo, MetricValue, Record, Verdict

PROTOCOL: Final = "held-out-over-seeds"
REASON: Final = "a small model on a small world; only the direction of an effect can be compared"


def make_records(
    report: AblationReport,
    *,
    run_name: str,
    data: DataInfo,
    device: str,
    command: str,
    clock: Clock,
    artifacts: dict[str, str],
) -> tuple[Record, ...]:
    """Make a record of every table.

    Args:
        report: of the ablation.
        run_name: of its folder.
        data: what was judged by.
        device: kind of device.
        command: the command line.
        clock: started with the ablation.
        artifacts: what a file in the folder is, to its name.
    """
    commit, is_dirty = read_commit()
    return tuple(
        Record(
            run_id=f"{run_name}-{table.name}",
            task=f"pretrain_ablation_{table.name}",
            dataset=data.name,
            split="held_out",
            profile="mini",
            model_size=report.size,
            setting="zero-shot",
            protocol=PROTOCOL,
            protocol_sha256=digest({"id": PROTOCOL, "seeds": table.seeds, "steps": table.steps}),
            metrics=tuple(_metrics(table)),
            checkpoint=_describe_weights(table, report.runs),
            data=data,
            config={"seeds": list(table.seeds), "steps": table.steps, "runs": _settings(table, report.runs)},
            dtype="float32",
            device=describe_processor() if device == "cpu" else device,
            seed=table.seeds[0],
            commit=commit,
            is_dirty=is_dirty,
            versions=read_versions(["scipy"]),
            started_at=clock.started_at,
            duration_s=clock.elapsed_s(),
            timings={"train_s": sum(run.duration_s for run in _runs_of(table, report.runs))},
            peak_memory_gib=peak_memory_gib(),
            command=command,
            comparisons=tuple(_compare(row, table) for row in table.rows if row.paper is not None),
            artifacts=artifacts,
        )
        for table in report.tables
    )


def _metrics(table: AblationTable) -> Iterator[MetricValue]:
    for row in table.rows:
        yield MetricValue(
            name=_name(row),
            value=row.ours.mean,
            unit=row.unit,
            n=row.ours.n,
            ci_low=row.ours.low,
            ci_high=row.ours.high,
            ci_method=row.ours.method,
            direction="lower" if row.unit == "nats" else "higher",
        )
        if row.difference is not None:
            yield MetricValue(
                name=f"{_name(row)}_difference",
                value=row.difference.mean,
                unit="points" if row.unit == "%" else row.unit,
                n=row.difference.n,
                ci_low=row.difference.low,
                ci_high=row.difference.high,
                ci_method=row.difference.method,
                direction="lower" if row.unit == "nats" else "higher",
            )


def _name(row: AblationRow) -> str:
    return f"{row.variant}_{row.metric}"


def _compare(row: AblationRow, table: AblationTable) -> Comparison:
    """Put the published number beside ours; a distance between the two would mean nothing."""
    assert row.paper is not None
    return Comparison(
        target_id=f"{table.name}/{row.label}",
        metric=_name(row),
        published=row.paper,
        printed=f"{row.paper:.2f}",
        source=table.source,
        gap=None,
        verdict=Verdict.NOT_COMPARABLE,
        reason=REASON if row.word is None else f"{REASON}: {row.word}",
        profile="mini",
    )


def _describe_weights(table: AblationTable, runs: tuple[RunResult, ...]) -> CheckpointInfo:
    given = [run.weights for run in _runs_of(table, runs) if run.weights is not None]
    if given:
        name, _, sha256 = given[0].partition(", sha256 ")
        return CheckpointInfo(name=f"{len(given)} x {name}", sha256=sha256 if len(given) == 1 else None, loaded=0)
    seeds = ", ".join(str(seed) for seed in table.seeds)
    return CheckpointInfo(name=f"random initialisation, seeds {seeds}", sha256=None, loaded=0)


def _runs_of(table: AblationTable, runs: tuple[RunResult, ...]) -> list[RunResult]:
    wanted = {row.variant for row in table.rows}
    return [run for run in runs if run.variant in wanted]


def _settings(table: AblationTable, runs: tuple[RunResult, ...]) -> dict[str, JsonValue]:
    return {f"{run.variant}-seed{run.seed}": run.settings for run in _runs_of(table, runs)}
