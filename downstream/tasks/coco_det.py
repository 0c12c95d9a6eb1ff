"""COCO detection and instance segmentation: the vision branch in windows under a cascade."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from downstream.config import ProfileName, TaskConfig
from downstream.engines.openmmlab.detection_settings import DetectionJob, DetectionProfile
from downstream.engines.openmmlab.detection_size import estimate_detector_memory_gib, measure_detector
from downstream.formats.base import MissingDataError
from downstream.formats.coco_detection import (
    Instances,
    Picture,
    check_pictures,
    find_split,
    find_tree,
    read_instances,
)
from downstream.tasks.base import (
    MINIWORLD,
    MINIWORLD_MANIFEST,
    Part,
    Plan,
    Result,
    RunOptions,
    Task,
    read_metadata,
    refuse_options,
)
from downstream.workplace import Workplace, count_ranks
from miniworld.coco_detection import write_coco_detection
from models.config import load_config, override
from reports.provenance import ROOT, Clock, digest, peak_memory_gib, read_commit, read_versions
from reports.record import DataInfo, Record

WEIGHTS_DIR = ROOT / "models" / "weights"
RELEASED = "onepeace_det_coco.pth"


class CocoDetection:
    """The task."""

    def plan(self, config: TaskConfig, options: RunOptions) -> Plan:
        """Resolve the profile and look for everything that a run opens."""
        if count_ranks() > 1:
            raise ValueError(f"{config.task} runs in one process, found {count_ranks()}; start it without torchrun")
        refuse_options(options, ("setting", "split", "has_views", "dtype", "batch_size"), task=config.task)
        name, reason = choose_profile(config, options)
        profile = resolve_profile(config, name, options)
        return Plan(
            profile=name,
            reason=reason,
            facts=_facts(config, name, profile, options),
            missing=tuple(_missing(config, name, options)),
            parts=(Part("fine-tuned", config.dataset.split),),
            settings=profile.model_dump(mode="json"),
        )

    def run(self, config: TaskConfig, options: RunOptions, *, part: Part, workplace: Workplace) -> Result:
        """Check the data, fine-tune or load, detect, score."""
        clock = Clock()
        name, _ = choose_profile(config, options)
        profile = resolve_profile(config, name, options)
        tree = _open_tree(options, workplace)
        judged = read_instances(tree, part.split)
        pictures, data = _open_data(config, tree, judged, options)
        training = read_instances(tree, "train") if options.checkpoint is None else None
        _check_categories(judged, training)
        job = make_job(profile, options, num_classes=len(judged.categories), is_mini=name == "mini")
        digests = [data.digest, check_pictures(training.pictures if training else ())]
        resolved = _resolved(config, job, options, digests=digests)
        workplace.claim(resolved)
        from downstream.engines.openmmlab import detection as engine  # seconds of imports, once the data is sound

        num_training = len(training.pictures) if training else 0
        workplace.say(f"{len(pictures)} pictures to judge, {num_training} to fine-tune on")
        detector, checkpoint = engine.prepare_detector(job, training, workplace=workplace, clock=clock)
        outcome = engine.evaluate(detector, job, judged, pictures, workplace=workplace, clock=clock)
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


def choose_profile(config: TaskConfig, options: RunOptions) -> tuple[ProfileName, str]:
    """Choose `paper` where the user asks for it or names assets of the paper, else `mini`; and say why."""
    if options.profile is not None:
        return options.profile, "asked for"
    if options.checkpoint is not None and _size_of(options.checkpoint) in (None, "4b"):
        return "paper", f"{options.checkpoint.name} is no checkpoint of the mini profile"
    if options.data_root is not None and _holds_published_split(config, options.data_root):
        return "paper", f"{options.data_root.name} holds the whole published validation set"
    return "mini", "neither released weights nor the whole data set were named"


def _size_of(path: Path) -> str | None:
    """Read which size a fine-tuned detector of ours has, from its header alone; None of any other file."""
    try:
        return str(read_metadata(path)["profile"]["size"])
    except (KeyError, TypeError):
        return None


def _is_published(checkpoint: Path | None) -> bool:
    """Tell weights that the authors published from ones of our own training."""
    return checkpoint is not None and _size_of(checkpoint) is None


def _holds_published_split(config: TaskConfig, data_root: Path) -> bool:
    try:
        _, folder = find_split(find_tree(data_root), config.dataset.split)
    except MissingDataError:
        return False
    return sum(path.suffix == ".jpg" for path in folder.iterdir()) == config.dataset.num_samples


def resolve_profile(config: TaskConfig, name: ProfileName, options: RunOptions) -> DetectionProfile:
    """Read a profile with the user's changes.

    Raises:
        ValueError: an unknown key or an impossible value.
    """
    values = override(config.profiles[name], options.assignments)
    return DetectionProfile.parse(values, where=f"{config.task}, profile {name!r}")


def make_job(profile: DetectionProfile, options: RunOptions, *, num_classes: int, is_mini: bool) -> DetectionJob:
    """Put together what the engine is told; a mini run starts from the shipped weights of its size."""
    shipped = WEIGHTS_DIR / f"{profile.size}.safetensors"
    starts_from_shipped = is_mini and options.checkpoint is None and shipped.is_file()
    return DetectionJob(
        profile=profile,
        num_classes=num_classes,
        checkpoint=options.checkpoint,
        pretrained=options.pretrained or (shipped if starts_from_shipped else None),
        seed=options.seed,
        device=options.device,
        num_workers=options.num_workers or 0,
    )


def _missing(config: TaskConfig, name: ProfileName, options: RunOptions) -> list[str]:
    """Name everything that a run would open and that is not there."""
    missing = []
    if options.data_root is not None:
        missing += _missing_data(config, options.data_root, is_training=options.checkpoint is None)
    elif name == "paper":
        missing.append("data: name the folder that holds annotations/ and val2017/ of COCO with --data-root")
    if name == "paper" and options.checkpoint is None and options.pretrained is None:
        missing.append(
            f"weights: name {RELEASED} or a fine-tuned file of ours with --checkpoint, "
            "or encoder weights to fine-tune from with --pretrained"
        )
    paths = [path for path in (options.checkpoint, options.pretrained) if path is not None]
    return missing + [f"weights: {path} does not exist" for path in paths if not path.is_file()]


def _missing_data(config: TaskConfig, data_root: Path, *, is_training: bool) -> list[str]:
    try:
        tree = find_tree(data_root)
        for split in (config.dataset.split, *(["train"] if is_training else [])):
            find_split(tree, split)
    except MissingDataError as error:
        return [f"data: {error}"]
    return []


def _facts(config: TaskConfig, name: ProfileName, profile: DetectionProfile, options: RunOptions) -> dict[str, str]:
    """What a dry run shows."""
    num_classes = config.dataset.num_classes or 0
    size = measure_detector(profile, num_classes=num_classes)
    is_training = options.checkpoint is None
    memory = estimate_detector_memory_gib(profile, num_classes=num_classes, is_training=is_training)
    picture, test, training = profile.picture, profile.test, profile.training
    num_layers = load_config(profile.size).num_layers
    recipe = f"{training.iterations} iterations of {training.batch_size}, lr {training.lr:g}"
    data = "not named" if name == "paper" else f"the miniworld, drawn into {MINIWORLD.relative_to(ROOT)}"
    splits = config.dataset.splits
    return {
        "detector": f"{size.total:,} parameters for {num_classes} classes: backbone {size.backbone:,}, "
        f"pyramid {size.pyramid:,}, proposals {size.proposals:,}, heads {size.heads:,}",
        "attention": f"windows of {picture.window} x {picture.window} patches in {picture.grid} x {picture.grid}, "
        f"{len(picture.global_layers)} of {num_layers} layers see all",
        "test": f"square of {picture.side_px}, {test.soft_nms} soft-NMS over {test.iou_threshold:g}, "
        f"{test.max_detections} detections, {profile.precision}",
        "operators": "NMS and RoIAlign from torchvision, soft-NMS in torch: nothing has to be compiled",
        "fine-tuning": recipe if is_training else f"none, {options.checkpoint} is evaluated",
        "data": str(options.data_root or data),
        "files": "annotations/instances_{train,val}2017.json, {train,val}2017/<12 digits>.jpg; "
        f"published: {splits['train'].samples:,} and {splits['val'].samples:,}",
        "memory": f"about {memory:.2f} GiB on the device ({'fine-tuning' if is_training else 'evaluation'}, estimate)",
    }


def _open_tree(options: RunOptions, workplace: Workplace) -> Path:
    """Find the user's data, or draw the miniworld."""
    if options.data_root is not None:
        return find_tree(options.data_root)
    root = MINIWORLD / f"coco_detection-seed{options.seed}"
    workplace.say(f"drawing the miniworld into {root.relative_to(ROOT)} (a few seconds the first time)")
    return write_coco_detection(root, seed=options.seed)


def _open_data(
    config: TaskConfig, tree: Path, judged: Instances, options: RunOptions
) -> tuple[Sequence[Picture], DataInfo]:
    """Pick and check the pictures to judge."""
    listed = len(judged.pictures)
    pictures = judged.pictures[: options.count(listed)]
    is_miniworld = (tree / MINIWORLD_MANIFEST).is_file()
    marked = [judged.annotations.get(picture.id, ()) for picture in pictures]
    categories = list(judged.categories.items())
    return pictures, DataInfo(
        name=f"{config.dataset.name} layout of the miniworld" if is_miniworld else config.dataset.name,
        version="miniworld" if is_miniworld else config.dataset.version,
        root_name=tree.name,
        digest=digest([check_pictures(pictures), marked, categories]),
        n=len(pictures),
        n_expected=listed if is_miniworld else config.dataset.num_samples,
        ids_sha256=digest([picture.id for picture in pictures]),
        differences=() if is_miniworld else tuple(_differences(config, judged)),
    )


def _differences(config: TaskConfig, judged: Instances) -> list[str]:
    found, expected = len(judged.pictures), config.dataset.num_samples
    differences = [] if found == expected else [f"{found} pictures are listed, {expected} are published"]
    if len(judged.categories) != config.dataset.num_classes:
        differences.append(f"{len(judged.categories)} categories are named, {config.dataset.num_classes} are published")
    return differences


def _check_categories(judged: Instances, training: Instances | None) -> None:
    """Refuse to learn other classes than are judged."""
    if training is not None and training.categories != judged.categories:
        raise ValueError(f"{training.path} has other categories than {judged.path}; expected the files of one release")


def protocol_of(job: DetectionJob) -> dict[str, Any]:
    """Everything of the evaluation that can move its number."""
    profile = job.profile.model_dump(mode="json", exclude={"picture": {"train_ratio"}})
    kept = {key: profile[key] for key in ("picture", "test", "precision", "mean", "std")}
    cascade = {key: profile["cascade"][key] for key in ("num_candidates", "num_proposals", "sampling_ratio")}
    return {"id": job.protocol, **kept, "cascade": cascade}


def _resolved(config: TaskConfig, job: DetectionJob, options: RunOptions, *, digests: Sequence[str]) -> dict[str, Any]:
    """The config as it was run, saved beside the result."""
    return {
        "task": config.task,
        "profile": job.profile.model_dump(mode="json"),
        "seed": job.seed,
        "limit": options.limit,
        "data": list(digests),
        "checkpoint": job.checkpoint.name if job.checkpoint else None,
        "pretrained": options.pretrained.name if options.pretrained else None,
        "starts_from": job.pretrained.name if job.pretrained else None,
    }


TASK: Task = CocoDetection()
