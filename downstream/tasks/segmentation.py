"""Tasks whose every pixel is judged: a data set and a config make one. Imports no torch before a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downstream.config import ProfileName, TaskConfig
from downstream.engines.settings import SegmentationJob, SegmentationProfile
from downstream.engines.size import estimate_memory_gib, measure
from downstream.formats.base import MissingDataError
from downstream.formats.segmentation import IMAGES, LABELS, LabelledSet, Pair, check_pairs, find_pairs, find_tree
from downstream.tasks.base import (
    MINIWORLD,
    MINIWORLD_MANIFEST,
    Part,
    Plan,
    Result,
    RunOptions,
    read_metadata,
    refuse_options,
)
from downstream.workplace import Workplace, count_ranks
from models.config import load_config, override
from reports.provenance import ROOT, Clock, digest, peak_memory_gib, read_commit, read_versions
from reports.record import DataInfo, Record


@dataclass(frozen=True)
class SegmentationTask:
    """A task: the vision branch with ViT-Adapter and Mask2Former on one data set."""

    data: LabelledSet
    draw: Callable[..., Path]
    """Writes the miniworld in the data set's layout; gives the data set's own folder."""
    weights: str
    """What a paper run may be given, for the message of one that is given nothing."""

    def plan(self, config: TaskConfig, options: RunOptions) -> Plan:
        """Resolve the profile and look for everything that a run opens."""
        if count_ranks() > 1:
            raise ValueError(f"{config.task} runs in one process, found {count_ranks()}; start it without torchrun")
        refuse_options(options, ("setting", "split", "dtype", "batch_size"), task=config.task)
        name, reason = self.choose_profile(config, options)
        profile = resolve_profile(config, name, options)
        return Plan(
            profile=name,
            reason=reason,
            facts=self._facts(config, name, profile, options),
            missing=tuple(self._missing(config, name, options)),
            parts=(Part("fine-tuned", config.dataset.split),),
            settings=profile.model_dump(mode="json"),
        )

    def run(self, config: TaskConfig, options: RunOptions, *, part: Part, workplace: Workplace) -> Result:
        """Check the data, fine-tune or load, predict, score."""
        clock = Clock()
        name, _ = self.choose_profile(config, options)
        job = self.make_job(resolve_profile(config, name, options), options)
        tree = self._open_tree(config, options, workplace)
        pairs, data = self.open_data(config, tree, options)
        training_pairs = find_pairs(self.data, tree, "train") if job.checkpoint is None else ()
        digests = [data.digest, check_pairs(self.data, training_pairs)]
        resolved = _resolved(config, job, options, digests=digests)
        workplace.claim(resolved)
        from downstream.engines.openmmlab import segmentation as engine  # seconds of imports, once the data is sound

        workplace.say(f"{len(pairs)} pictures to judge, {len(training_pairs)} to fine-tune on")
        segmentor, checkpoint = engine.prepare_segmentor(job, training_pairs, workplace=workplace, clock=clock)
        outcome = engine.evaluate(segmentor, job, pairs, workplace=workplace, clock=clock)
        commit, is_dirty = read_commit()
        record = Record(
            run_id=workplace.folder.name,
            task=config.task,
            dataset=data.name,
            split=part.split,
            profile=name,
            model_size=job.profile.size,
            setting=part.setting,
            protocol=job.protocol,
            protocol_sha256=digest(protocol_of(job)),
            metrics=outcome.metrics,
            per_class=outcome.per_class,
            checkpoint=checkpoint,
            data=data,
            config=resolved,
            dtype=job.profile.precision,
            device=engine.describe_device(engine.choose_device(job.device)),
            seed=job.seed,
            commit=commit,
            is_dirty=is_dirty,
            versions=read_versions(engine.PACKAGES),
            started_at=clock.started_at,
            duration_s=clock.elapsed_s(),
            timings=clock.timings,
            peak_memory_gib=peak_memory_gib(),
            command=workplace.command,
            artifacts=outcome.artifacts,
        )
        return Result(record, has_published_weights=name == "paper" and _is_published(job.checkpoint))

    def choose_profile(self, config: TaskConfig, options: RunOptions) -> tuple[ProfileName, str]:
        """Choose `paper` where the user asks for it or names assets of the paper, else `mini`; and say why."""
        if options.profile is not None:
            return options.profile, "asked for"
        if options.checkpoint is not None and not _is_ours(options.checkpoint):
            return "paper", f"{options.checkpoint.name} is no checkpoint of the mini profile"
        if options.data_root is not None and self._holds_published_split(config, options.data_root):
            return "paper", f"{options.data_root.name} holds the whole published validation set"
        return "mini", "neither released weights nor the whole data set were named"

    def make_job(self, profile: SegmentationProfile, options: RunOptions) -> SegmentationJob:
        """Put together what the engine is told."""
        return SegmentationJob(
            data=self.data,
            profile=profile,
            has_views=options.has_views,
            checkpoint=options.checkpoint,
            pretrained=options.pretrained,
            seed=options.seed,
            device=options.device,
            num_workers=options.num_workers or 0,
        )

    def open_data(self, config: TaskConfig, tree: Path, options: RunOptions) -> tuple[Sequence[Pair], DataInfo]:
        """List and check the pictures to judge.

        Raises:
            FileNotFoundError, ValueError: as `find_pairs` and `check_pairs`.
        """
        found = find_pairs(self.data, tree, config.dataset.split)
        pairs = found[: options.count(len(found))]
        is_miniworld = (tree / MINIWORLD_MANIFEST).is_file()
        return pairs, DataInfo(
            name=f"{config.dataset.name} layout of the miniworld" if is_miniworld else config.dataset.name,
            version="miniworld" if is_miniworld else config.dataset.version,
            root_name=tree.name,
            digest=check_pairs(self.data, pairs),
            n=len(pairs),
            n_expected=len(found) if is_miniworld else config.dataset.num_samples,
            ids_sha256=digest([pair.id for pair in pairs]),
        )

    def _holds_published_split(self, config: TaskConfig, data_root: Path) -> bool:
        try:
            found = find_pairs(self.data, find_tree(self.data, data_root), config.dataset.split)
        except MissingDataError:
            return False
        return len(found) == config.dataset.num_samples

    def _missing(self, config: TaskConfig, name: ProfileName, options: RunOptions) -> list[str]:
        """Name everything that a run would open and that is not there."""
        missing = self._missing_data(config, options)
        if options.data_root is None and name == "paper":
            missing.append(f"data: name the folder that holds {self.data.folders[0]} with --data-root")
        if name == "paper" and options.checkpoint is None and options.pretrained is None:
            missing.append(f"weights: name {self.weights}")
        paths = [path for path in (options.checkpoint, options.pretrained) if path is not None]
        return missing + [f"weights: {path} does not exist" for path in paths if not path.is_file()]

    def _missing_data(self, config: TaskConfig, options: RunOptions) -> list[str]:
        if options.data_root is None:
            return []
        try:
            tree = find_tree(self.data, options.data_root)
            find_pairs(self.data, tree, config.dataset.split)
            if options.checkpoint is None:
                find_pairs(self.data, tree, "train")
        except MissingDataError as error:
            return [f"data: {error}"]
        return []

    def _facts(
        self, config: TaskConfig, name: ProfileName, profile: SegmentationProfile, options: RunOptions
    ) -> dict[str, str]:
        """What a dry run shows."""
        size = measure(profile, num_classes=self.data.num_classes)
        is_training = options.checkpoint is None
        memory = estimate_memory_gib(profile, num_classes=self.data.num_classes, is_training=is_training)
        geometry, training = profile.geometry, profile.training
        views = f"{len(geometry.test_ratios)} scales and flip" if options.has_views else "one view"
        recipe = f"{training.iterations} iterations of {training.batch_size}, lr {training.lr:g}"
        source = "not named" if name == "paper" else f"the miniworld, drawn into {MINIWORLD.relative_to(ROOT)}"
        counts = f"{config.dataset.splits['train'].samples:,} and {config.dataset.num_samples:,}"
        facts = {
            "model": f"{profile.size}: vision branch {size.branch:,} parameters",
            "segmentor": f"{size.total:,} parameters: backbone {size.backbone:,}, ViT-Adapter {size.adapter:,}, "
            f"Mask2Former {size.head:,}",
            "test": f"window {geometry.crop_px}, step {geometry.stride_px}, {views}, {profile.precision}",
            "fine-tuning": recipe if is_training else f"none, {options.checkpoint} is evaluated",
            "data": str(options.data_root or source),
            "files": f"{self.data.folders[0]}/{IMAGES}/{{{','.join(self.data.splits.values())}}}/"
            f"{self.data.example}.jpg, {LABELS}/.../{self.data.example}.png; published: {counts}",
            "memory": f"about {memory:.2f} GiB on the device "
            f"({'fine-tuning' if is_training else 'evaluation'}, estimate)",
        }
        return facts | {f"note {number}": note for number, note in enumerate(config.notes, start=1)}

    def _open_tree(self, config: TaskConfig, options: RunOptions, workplace: Workplace) -> Path:
        """Find the user's data, or draw the miniworld."""
        if options.data_root is not None:
            return find_tree(self.data, options.data_root)
        root = MINIWORLD / f"{config.task}-seed{options.seed}"
        workplace.say(f"drawing the miniworld into {root.relative_to(ROOT)} (a few seconds the first time)")
        return self.draw(root, seed=options.seed)


def _is_published(path: Path | None) -> bool:
    """Tell whether a checkpoint is none that a run here has made, from its header alone."""
    return path is not None and "profile" not in read_metadata(path)


def _is_ours(path: Path) -> bool:
    """Tell whether a file is a fine-tuned segmentor of a mini run, from its header alone."""
    try:
        return bool(read_metadata(path)["profile"]["size"] != "4b")
    except (KeyError, TypeError):
        return False


def resolve_profile(config: TaskConfig, name: ProfileName, options: RunOptions) -> SegmentationProfile:
    """Read a profile with the user's changes.

    Raises:
        ValueError: an unknown key or an impossible value.
    """
    values = override(config.profiles[name], options.assignments)
    profile = SegmentationProfile.parse(values, where=f"{config.task}, profile {name!r}")
    load_config(profile.size)
    return profile


def protocol_of(job: SegmentationJob) -> dict[str, Any]:
    """Give everything of the evaluation that can move its number."""
    profile = job.profile.model_dump(mode="json")
    kept = {key: profile[key] for key in ("geometry", "precision")}
    return {"id": job.protocol, "mean": job.profile.mean, "std": job.profile.std, **kept}


def _resolved(
    config: TaskConfig, job: SegmentationJob, options: RunOptions, *, digests: Sequence[str]
) -> dict[str, Any]:
    """The config as it was run, saved beside the result."""
    return {
        "task": config.task,
        "profile": job.profile.model_dump(mode="json"),
        "views": job.view,
        "seed": job.seed,
        "limit": options.limit,
        "data": list(digests),
        "checkpoint": job.checkpoint.name if job.checkpoint else None,
        "pretrained": job.pretrained.name if job.pretrained else None,
    }
