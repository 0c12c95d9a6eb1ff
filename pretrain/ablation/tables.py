"""The rows of an ablation: ours beside the paper's, with a word that the intervals allow."""

from collections.abc import Mapping, Sequence
from typing import Final

from models.config import Settings
from pretrain.ablation.config import (
    EMERGENT,
    RECALLS,
    AblationsConfig,
    EmergentConfig,
    Published,
    RowConfig,
    TableConfig,
)
from pretrain.ablation.effects import Interval, Word, judge, mean_interval, paired_difference
from pretrain.ablation.results import TRAINED_CONTRAST, RunResult

TIMES_CHANCE: Final = "times_chance_"
RECALL: Final = "recall_at_1_"
EMERGENT_DIRECTIONS: Final = ("audio_to_image", "image_to_audio")
SHARE_BOUNDS: Final = (0.0, 100.0)

Results = Mapping[str, Sequence[RunResult]]
"""By variant, the runs of all seeds in the same order."""


class AblationRow(Settings):
    """One metric of one variant."""

    variant: str
    label: str
    metric: str
    unit: str
    ours: Interval
    difference: Interval | None
    """To the reference row, seed by seed; in the emergent table to chance. None in the reference row itself."""
    paper: float | None
    paper_difference: float | None
    chance: float | None
    """Mean over seeds, in the metric's unit."""
    word: Word | None
    """None where there is nothing to compare with."""


class AblationTable(Settings):
    """One table."""

    name: str
    title: str
    source: str
    reference: str
    """Label of the row that the others are compared with."""
    rows: tuple[AblationRow, ...]
    num_parameters: dict[str, int]
    """By label."""
    seeds: tuple[int, ...]
    steps: int

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the variants, in order."""
        return tuple(dict.fromkeys(row.label for row in self.rows))


def make_table(name: str, ablations: AblationsConfig, results: Results) -> AblationTable:
    """Lay out a table of `ablations.yaml`.

    Raises:
        ValueError: results of different seeds or steps, or a metric that was not measured.
    """
    if name == EMERGENT:
        return _make_emergent(ablations, results[EMERGENT])
    config = ablations.tables[name]
    runs = {row.label: results[row.variant] for row in config.rows}
    reference = next(row for row in config.rows if row.variant == config.reference)
    published = ablations.find_published()
    rows = [
        _compare(row, metric, runs=runs, reference=reference, published=published)
        for row in config.rows
        for metric in (*RECALLS, TRAINED_CONTRAST)
    ]
    return _finish(name, config, rows=rows, runs=runs, reference=reference.label)


def _compare(row: RowConfig, metric: str, *, runs: Results, reference: RowConfig, published: Published) -> AblationRow:
    """Set one metric of a variant against the reference, ours and the paper's."""
    own, other = ([run.value(metric) for run in runs[each.label]] for each in (row, reference))
    is_reference = row.variant == reference.variant
    paper = published.get((row.variant, metric))
    difference = None if is_reference else paired_difference(own, other)
    effect = None if is_reference or paper is None else paper - published[reference.variant, metric]
    return AblationRow(
        variant=row.variant,
        label=row.label,
        metric=metric,
        unit=runs[row.label][0].find(metric).unit,
        ours=mean_interval(own, bounds=None if metric == TRAINED_CONTRAST else SHARE_BOUNDS),
        difference=difference,
        paper=paper,
        paper_difference=None if effect is None else round(effect, 2),  # both have two digits
        chance=_mean_chance(runs[row.label], metric),
        word=None if difference is None or effect is None else judge(difference, effect),
    )


def _make_emergent(ablations: AblationsConfig, runs: Sequence[RunResult]) -> AblationTable:
    rows = [_against_chance(runs, f"{prefix}{way}") for way in EMERGENT_DIRECTIONS for prefix in (RECALL, TIMES_CHANCE)]
    return _finish(EMERGENT, ablations.emergent, rows=rows, runs={EMERGENT: runs}, reference="chance")


def _against_chance(runs: Sequence[RunResult], metric: str) -> AblationRow:
    """Set a share, or how many times chance it is, against chance; the claim is that it is above."""
    values = [run.value(metric) for run in runs]
    is_ratio = metric.startswith(TIMES_CHANCE)
    chances = [1.0] * len(runs) if is_ratio else [run.chance[metric] for run in runs]
    difference = paired_difference(values, chances)
    ours = mean_interval(values, bounds=(0.0, float("inf")) if is_ratio else SHARE_BOUNDS)
    return AblationRow(
        variant=EMERGENT,
        label=metric.removeprefix(RECALL).removeprefix(TIMES_CHANCE).replace("_", " "),
        metric=metric,
        unit=runs[0].find(metric).unit,
        ours=_over_queries(runs[0], metric) if len(runs) == 1 else ours,
        difference=difference,
        paper=None,
        paper_difference=None,
        chance=sum(chances) / len(chances),
        word=judge(difference, 1.0),
    )


def _over_queries(run: RunResult, metric: str) -> Interval:
    """Take the interval over samples, which a single run has; it tells nothing of other seeds."""
    found = run.find(metric)
    return Interval(
        mean=found.value, low=found.ci_low, high=found.ci_high, n=1, method=f"one seed; {found.ci_method} over samples"
    )


def _mean_chance(runs: Sequence[RunResult], metric: str) -> float | None:
    found = [run.chance[metric] for run in runs if metric in run.chance]
    return sum(found) / len(found) if found else None


def _finish(
    name: str, config: TableConfig | EmergentConfig, *, rows: Sequence[AblationRow], runs: Results, reference: str
) -> AblationTable:
    """Put a table together, and check that all its variants were trained alike."""
    trained = {tuple((run.seed, run.steps) for run in each) for each in runs.values()}
    if len(trained) > 1:
        raise ValueError(f"table {name!r} has runs of (seed, steps) {sorted(trained)}, expected the same in every row")
    (first,) = trained
    return AblationTable(
        name=name,
        title=config.title,
        source=config.source,
        reference=reference,
        rows=tuple(rows),
        num_parameters={label: each[0].num_parameters for label, each in runs.items()},
        seeds=tuple(seed for seed, _ in first),
        steps=first[0][1],
    )
