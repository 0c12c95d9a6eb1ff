"""A split of a data set, read, checked and digested: the user's, or one of the miniworld."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from downstream.config import SplitCounts, TaskConfig
from downstream.formats.authors import read_captioned
from downstream.formats.base import Listing, Referred, Sample
from downstream.formats.places import Source
from downstream.formats.published import list_differences
from downstream.formats.refcoco import check_boxes
from downstream.media import MediaFacts, check_media, describe_media
from downstream.tasks.base import RunOptions
from downstream.tasks.plain import PlainTask, draw_miniworld, find_table, find_task, is_miniworld
from downstream.workplace import Workplace
from models.checkpoint.reader import file_sha256
from reports.provenance import digest
from reports.record import DataInfo


@dataclass(frozen=True)
class SplitData:
    """Samples of a split with everything that was found out about them."""

    samples: tuple[Any, ...]
    class_names: tuple[str, ...]
    info: DataInfo
    digests: Mapping[Path, str]
    """By picture or sound, the SHA-256 of its content."""
    lengths: Mapping[Path, float]
    """By sound, its seconds."""
    sizes: Mapping[Path, tuple[int, int]]
    """By picture, its width and height in pixels."""


def open_split(
    task: PlainTask, config: TaskConfig, split: str, *, options: RunOptions, workplace: Workplace, is_judged: bool
) -> SplitData:
    """Read a split and decode every file of it once; the first process does, the others are told.

    Args:
        task: knows the reader.
        config: says what is published.
        split: which one.
        options: where the data is, and how many samples are judged.
        workplace: speaks, and knows the other processes.
        is_judged: whether `--limit` holds for it.

    Raises:
        ValueError, FileNotFoundError: a list or a file that is not what it should be.
    """
    root = task.find_root(config.task, options, split=split) or _draw(config, options, workplace)
    listing = task.read(root, split)
    samples = listing.samples[: options.count(len(listing.samples))] if is_judged else listing.samples
    if not samples:
        raise FileNotFoundError(f"{split} of {config.dataset.name} has no samples in {root}")
    facts = _check(samples, task.media, split=split, workplace=workplace)
    info = _describe(config, split, root, listing, samples=samples, facts=facts)
    return _gather(samples, listing, info, facts)


def open_training_set(
    name: str, task: PlainTask, config: TaskConfig, *, options: RunOptions, workplace: Workplace
) -> SplitData:
    """Open what a recipe names: the training split of a task, or an authors' table of captions below the data root.

    Raises:
        ValueError, FileNotFoundError: as `open_split`.
    """
    table = find_table(name, options)
    if table is None:
        task, config = find_task(name)
        return open_split(task, config, task.train_split, options=options, workplace=workplace, is_judged=False)
    listing = read_captioned(Source("authors' table", table.parent, table), "train")
    facts = _check(listing.samples, task.media, split=table.stem, workplace=workplace)
    info = DataInfo(
        name=table.name,
        version="authors' table",
        root_name=table.parent.name,
        digest=digest([_hash_lists(listing), _list_contents(listing.samples, facts)]),
        n=len(listing.samples),
        n_expected=None,
        ids_sha256=digest([sample.id for sample in listing.samples]),
    )
    return _gather(listing.samples, listing, info, facts)


def _list_contents(samples: Sequence[Sample], facts: Mapping[Path, MediaFacts]) -> list[list[str]]:
    """List every sample's id with the content of its files."""
    return [[sample.id, *(facts[path].sha256 for path in sample.files)] for sample in samples]


def _hash_lists(listing: Listing[Any]) -> dict[str, str]:
    """Give the SHA-256 of every list by its name: captions and labels stand there."""
    return {path.name: file_sha256(path) for path in listing.sources}


def _gather(
    samples: tuple[Any, ...], listing: Listing[Any], info: DataInfo, facts: Mapping[Path, MediaFacts]
) -> SplitData:
    return SplitData(
        samples=samples,
        class_names=listing.class_names,
        info=info,
        digests={path: fact.sha256 for path, fact in facts.items()},
        lengths={path: fact.duration_s or 0.0 for path, fact in facts.items()},
        sizes=_list_sizes(facts),
    )


def _list_sizes(facts: Mapping[Path, MediaFacts]) -> dict[Path, tuple[int, int]]:
    """Give the width and height of pictures in pixels."""
    return {path: (fact.width_px or 0, fact.height_px or 0) for path, fact in facts.items()}


def _draw(config: TaskConfig, options: RunOptions, workplace: Workplace) -> Path:
    """Draw the miniworld's data set; the first process does."""
    own = ""
    if workplace.is_first:
        workplace.say(f"drawing the miniworld's {config.dataset.name} (a few seconds the first time)")
        own = str(draw_miniworld(config.task, options.seed))
    return Path(workplace.ranks.share_text(own))


def _check(samples: tuple[Any, ...], media: str, *, split: str, workplace: Workplace) -> dict[Path, MediaFacts]:
    told = ""
    if workplace.is_first:
        found = check_media(
            samples, media, progress=lambda done, total: workplace.progress(f"checking {split}", done, total, "")
        )
        check_boxes((sample for sample in samples if isinstance(sample, Referred)), _list_sizes(found))
        told = json.dumps({str(path): asdict(fact) for path, fact in found.items()})
    shared = json.loads(workplace.ranks.share_text(told))
    return {Path(path): MediaFacts(**fact) for path, fact in shared.items()}


def _describe(
    config: TaskConfig,
    split: str,
    root: Path,
    listing: Listing[Any],
    *,
    samples: tuple[Any, ...],
    facts: Mapping[Path, MediaFacts],
) -> DataInfo:
    dataset = config.dataset
    is_drawn = is_miniworld(root, listing)
    counts = dataset.splits[split]
    return DataInfo(
        name=f"{dataset.name} layout of the miniworld" if is_drawn else dataset.name,
        version="miniworld" if is_drawn else dataset.version,
        root_name=root.name,
        digest=digest([_hash_lists(listing), _list_contents(samples, facts)]),
        n=len(samples),
        n_expected=listing.num_listed if is_drawn or counts.samples is None else counts.samples,
        ids_sha256=digest([sample.id for sample in samples]),
        differences=() if is_drawn else _list_differences(config, counts, listing, facts),
    )


def _list_differences(
    config: TaskConfig, counts: SplitCounts, listing: Listing[Any], facts: Mapping[Path, MediaFacts]
) -> tuple[str, ...]:
    dataset = config.dataset
    counted = list_differences(
        listing,
        num_samples=listing.num_listed if counts.samples is None else counts.samples,
        num_captions=counts.captions,
        num_classes=dataset.num_classes,
        captions_per_item=dataset.captions_per_item,
    )
    return counted + describe_media(facts, sample_rate_hz=dataset.sample_rate_hz, num_channels=dataset.num_channels)
