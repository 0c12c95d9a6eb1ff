"""Records to the page's data: the newest of each result in full, the others as its history."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from reports.accepted import baseline_name
from reports.check import Outcome
from reports.page.ablations import is_ablation, read_ablation
from reports.page.data import Environment, Open, Page, Run, Tally, Version
from reports.page.results import build_run
from reports.page.sources import Sources
from reports.record import Profile, Record
from reports.table import identity_of, latest_records, name_metric

PROFILES: Final = ("paper", "mini")
NO_RUN: Final = "no run"

Say = Callable[[int, int, str], None]


def _keep_quiet(*_: object) -> None:
    """Say nothing."""


def build_page(records: Iterable[Record], sources: Sources, *, progress: Say = _keep_quiet) -> Page:
    """Lay out everything that the page says; the same records and files give the same page.

    Args:
        records: any; of several for one result the newest is shown, the others are its history.
        sources: what else there is.
        progress: told how many results are looked at, of how many, and which.

    Raises:
        ValueError: no record.
    """
    once = {record.run_id: record for record in records}
    ordered = sorted(once.values(), key=lambda record: (record.start, record.run_id))
    if not ordered:
        raise ValueError("no record, expected at least one. Run a task first.")
    newest = sorted(latest_records(ordered), key=_order)
    shown = [record for record in newest if not is_ablation(record)]
    environments = _list_environments(shown)
    keys = _name_results(shown)
    runs = []
    for number, record in enumerate(shown, start=1):
        progress(number, len(shown), f"{record.task} {record.setting}")
        same = [other for other in ordered if identity_of(other) == identity_of(record)]
        place = next(i for i, (_, _, users) in enumerate(environments) if record.run_id in users)
        runs.append(build_run(record, sources, key=keys[record.run_id], same=same, environment=place))
    still_open = tuple(_list_open(sources, shown))
    return Page(
        num_records=len(ordered),
        first_at=ordered[0].started_at,
        last_at=ordered[-1].started_at,
        commits=tuple(dict.fromkeys(record.commit for record in ordered)),
        tallies=_count(runs, len(still_open)),
        runs=tuple(runs),
        open=still_open,
        ablations=tuple(read_ablation(record) for record in newest if is_ablation(record)),
        environments=tuple(
            Environment(
                device=first.device,
                versions=tuple(Version(package=name, version=version) for name, version in sorted(versions.items())),
                runs=tuple(keys[run_id] for run_id in users),
            )
            for first, versions, users in environments
        ),
        notes=(),
    )


def _order(record: Record) -> tuple[object, ...]:
    """The paper's profile first; pretraining after the tasks."""
    return PROFILES.index(record.profile), record.task.startswith("pretrain_"), *identity_of(record)


def _name_results(records: Sequence[Record]) -> dict[str, str]:
    """Give every result a name of its own, by run id."""
    names: dict[str, str] = {}
    for record in records:
        name, number = baseline_name(record), 2
        while name in names.values():
            name, number = f"{baseline_name(record)}-{number}", number + 1
        names[record.run_id] = name
    return names


def _list_environments(records: Iterable[Record]) -> list[tuple[Record, dict[str, str], list[str]]]:
    """Give devices with package versions and the runs on them; runs that note other packages agree as well."""
    found: list[tuple[Record, dict[str, str], list[str]]] = []
    for record in records:
        for first, versions, runs in found:
            clashes = [name for name, version in record.versions.items() if versions.get(name, version) != version]
            if first.device == record.device and not clashes:
                versions.update(record.versions)
                runs.append(record.run_id)
                break
        else:
            found.append((record, dict(record.versions), [record.run_id]))
    return found


def _list_open(sources: Sources, records: Sequence[Record]) -> Iterable[Open]:
    """List the published numbers that no run of the paper profile has been held against."""
    done = {c.target_id for record in records if record.profile == "paper" for c in record.comparisons}
    for target in sources.targets:
        if target.id not in done:
            yield Open(
                id=target.id,
                task=target.task,
                title=sources.facts(target.task).title,
                split=target.split,
                setting=target.setting,
                metric=name_metric(target.metric),
                printed=target.printed,
                value=target.value,
                unit=target.unit,
                n=target.num_samples,
                protocol=target.protocol,
                source=target.source,
            )


def _count(runs: Sequence[Run], num_open: int) -> tuple[Tally, ...]:
    """Count how the numbers of both profiles stand, and the published ones that no run stands beside."""
    counts: Counter[tuple[Profile, str]] = Counter()
    for run in runs:
        for metric in run.metrics:
            if run.profile == "paper":
                counts.update((run.profile, beside.state) for beside in metric.published)
            else:
                counts[run.profile, metric.accepted.state if metric.accepted else str(Outcome.NO_REFERENCE)] += 1
    if num_open:
        counts["paper", NO_RUN] = num_open
    order = [*map(str, Outcome), NO_RUN]
    listed = sorted(
        counts, key=lambda each: (PROFILES.index(each[0]), order.index(each[1]) if each[1] in order else len(order))
    )
    return tuple(Tally(profile=profile, state=state, count=counts[profile, state]) for profile, state in listed)
