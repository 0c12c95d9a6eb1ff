"""One part of a plain task: data to samples, weights to a model, samples to vectors, vectors to a record."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from downstream.config import ProfileName, TaskConfig
from downstream.engines.plain.ahead import count_workers
from downstream.engines.plain.cache import VectorCache
from downstream.engines.plain.encode import Encoding
from downstream.engines.plain.inputs import Preparer
from downstream.engines.plain.model import DTYPES, Loaded, load_finetuned, load_pretrained
from downstream.engines.plain.settings import PlainProfile, SettingProfile
from downstream.kinds import load_kind
from downstream.kinds.base import Facts, Judged, Kind, Row
from downstream.tasks.base import Part, Result, RunOptions
from downstream.tasks.finetuning import finetune
from downstream.tasks.judging import judge_samples
from downstream.tasks.plain import UNTRAINED, PlainTask
from downstream.tasks.plain_data import SplitData, open_split
from downstream.workplace import Workplace
from models.embedding import WEIGHTS_DIR
from models.world import World
from reports.provenance import (
    Clock,
    describe_processor,
    digest,
    digest_sources,
    peak_memory_gib,
    read_commit,
    read_versions,
)
from reports.record import Record

PREDICTIONS_FILE = "predictions.jsonl"
CACHE_FOLDER = "vectors"
PACKAGES = ("scikit-learn", "soundfile", "soxr", "safetensors")


@dataclass(frozen=True)
class Job:
    """One part, resolved."""

    task: PlainTask
    config: TaskConfig
    options: RunOptions
    part: Part
    profile_name: ProfileName
    profile: PlainProfile
    workplace: Workplace
    world: World

    @property
    def setting(self) -> SettingProfile:
        """How it is judged."""
        return self.profile.settings[cast("Any", self.part.setting)]

    @property
    def pretrained(self) -> Path | None:
        """Pretrained weights: the user's, else the shipped ones of the size; None where there are none."""
        shipped = WEIGHTS_DIR / f"{self.profile.size}.safetensors"
        return self.options.pretrained or (shipped if shipped.is_file() else None)

    def facts(self, data: SplitData) -> Facts:
        """What the kind has to know."""
        return Facts(self.task.media, data.class_names, self.setting.prompt, seed=self.options.seed, sizes=data.sizes)

    @property
    def kind(self) -> Kind:
        """What it is judged as."""
        return load_kind(self.setting.kind or self.task.kind)


def run_part(
    task: PlainTask,
    config: TaskConfig,
    options: RunOptions,
    *,
    part: Part,
    profile_name: ProfileName,
    profile: PlainProfile,
    workplace: Workplace,
) -> Result:
    """Judge one setting on one split; all processes call it, the first one writes.

    Raises:
        ValueError, FileNotFoundError: data or weights that are not what they should be.
    """
    clock = Clock()
    ranks = workplace.ranks
    world = ranks if isinstance(ranks, World) else World.join(options.device)
    job = Job(task, config, options, part, profile_name, profile, workplace, world)
    data = open_split(task, config, part.split, options=options, workplace=workplace, is_judged=True)
    first, *later = task.choose_splits(config, options)
    for split in later if part.split == first else ():  # a fault there is told before anything is computed here
        open_split(task, config, split, options=options, workplace=workplace, is_judged=True)
    for difference in data.info.differences:
        workplace.say(f"  differs from what is published: {difference}")
    resolved = _resolve(job, data)
    workplace.claim(resolved)
    loaded, trained_as = _load(job, data, clock)
    judged = _judge(job, loaded, data, clock)
    artifacts = _write_results(job.workplace, judged) if workplace.is_first else {}
    return Result(
        _record(job, loaded, data, judged, setting=trained_as, resolved=resolved, clock=clock, artifacts=artifacts),
        has_published_weights=profile_name == "paper" and loaded.has_published_weights,
    )


def _resolve(job: Job, data: SplitData) -> dict[str, Any]:
    """The config as it is run, saved beside the result."""
    options = job.options
    return {
        "task": job.config.task,
        "part": {"setting": job.part.setting, "split": job.part.split},
        "profile": job.profile.model_dump(mode="json"),
        "seed": options.seed,
        "limit": options.limit,
        "data": data.info.digest,
        "checkpoint": options.checkpoint.name if options.checkpoint else None,
        "pretrained": options.pretrained.name if options.pretrained else None,
    }


def _load(job: Job, data: SplitData, clock: Clock) -> tuple[Loaded, str]:
    """Give the model to judge, and the setting that it really is in."""
    setting, seed, facts = job.setting, job.options.seed, job.facts(data)
    dtype = DTYPES[setting.precision]
    load_tuned = partial(
        load_finetuned,
        size=job.profile.size,
        setting=setting,
        class_names=data.class_names,
        num_outputs=job.kind.count_outputs(facts),
        dtype=dtype,
    )
    if job.part.setting == "zero-shot":
        path = job.options.checkpoint or job.pretrained
        loaded = load_pretrained(path, size=job.profile.size, setting=setting, seed=seed, dtype=dtype)
        trained_as = "zero-shot"
    elif job.options.checkpoint is not None:
        loaded = load_tuned(job.options.checkpoint)
        trained_as = "fine-tuned"
    else:
        path, seconds = finetune(
            job.task,
            job.config,
            options=job.options,
            profile=job.profile,
            setting=setting,
            pretrained=job.pretrained,
            facts=facts,
            workplace=job.workplace,
            world=job.world,
        )
        clock.add("train_s", seconds)
        loaded = load_tuned(path)
        trained_as = "fine-tuned" if path.parent.name != UNTRAINED else UNTRAINED
    job.workplace.say(f"weights: {loaded.info.name}, {loaded.info.loaded} loaded, {loaded.info.reshaped} reshaped")
    loaded.module.to(job.world.device)
    return loaded, trained_as


def _judge(job: Job, loaded: Loaded, data: SplitData, clock: Clock) -> Judged:
    """Encode what is not known yet, and score."""
    facts = job.facts(data)
    encoding = Encoding(
        module=loaded.module,
        preparer=Preparer(loaded.model.config, loaded.inputs, loaded.tokenizer),
        digests=data.digests,
        lengths=data.lengths,
        batch_size=job.setting.batch_size,
        dtype=DTYPES[job.setting.precision],
        world=job.world,
        num_workers=count_workers(job.options.num_workers, job.world),
    )
    with VectorCache(job.workplace.shared / CACHE_FOLDER / f"{_cache_name(job, loaded)}.sqlite") as cache:
        judged, timing = judge_samples(
            job.kind,
            data.samples,
            facts,
            encoding=encoding,
            cache=cache,
            progress=lambda done, total: job.workplace.progress("encoding", done, total, ""),
        )
        clock.add("model_s", timing.model_s)
        clock.add("waiting_s", timing.waiting_s)
        clock.add("encoded_units", timing.num_units)
        return judged


def _cache_name(job: Job, loaded: Loaded) -> str:
    """Name everything that decides a vector besides the unit: weights, inputs, arithmetic, code."""
    inputs = {name: settings.model_dump(mode="json") for name, settings in loaded.inputs.items()}
    device = job.world.device.type
    sources = digest_sources("models", "downstream/engines/plain")
    made = [loaded.digest, inputs, job.setting.precision, device, torch.__version__, sources]
    return f"{job.profile.size}-{digest(made)[:16]}"


def _write_results(workplace: Workplace, judged: Judged) -> dict[str, str]:
    """Write a row a sample, and what else there is; a kill leaves whole files under their names, or none."""
    writers: dict[str, Callable[[Path], None]] = {
        PREDICTIONS_FILE: partial(_write_rows, judged.rows),
        **judged.files,
    }
    for name, write in writers.items():
        path = workplace.folder / name
        partly = path.with_name(f".{name}.partial")
        write(partly)
        partly.replace(path)
    return {name.partition(".")[0]: name for name in writers}


def _write_rows(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _record(
    job: Job,
    loaded: Loaded,
    data: SplitData,
    judged: Judged,
    *,
    setting: str,
    resolved: Mapping[str, Any],
    clock: Clock,
    artifacts: Mapping[str, str],
) -> Record:
    commit, is_dirty = read_commit()
    used = job.setting.model_copy(update={"inputs": dict(loaded.inputs)})
    name = used.protocol_id if setting != UNTRAINED else f"{used.protocol_id.rpartition('/')[0]}/{UNTRAINED}"
    protocol = {"id": name, "prompt": used.prompt, **_tell_inputs(loaded), "precision": used.precision}
    return Record(
        run_id=f"{job.workplace.folder.parent.name}-{job.part.folder}",
        task=job.config.task,
        dataset=data.info.name,
        split=job.part.split,
        profile=job.profile_name,
        model_size=job.profile.size,
        setting=setting,
        protocol=protocol["id"],
        protocol_sha256=digest(protocol),
        metrics=judged.metrics,
        per_class=judged.per_class,
        checkpoint=loaded.info,
        data=data.info,
        config=dict(resolved),
        dtype=job.setting.precision,
        device=_describe_device(job.world.device),
        seed=job.options.seed,
        commit=commit,
        is_dirty=is_dirty,
        versions=read_versions(PACKAGES),
        started_at=clock.started_at,
        duration_s=clock.elapsed_s(),
        timings=clock.timings,
        peak_memory_gib=peak_memory_gib(),
        command=job.workplace.command,
        artifacts=dict(artifacts),
    )


def _tell_inputs(loaded: Loaded) -> dict[str, Any]:
    return {"inputs": {name: settings.model_dump(mode="json") for name, settings in loaded.inputs.items()}}


def _describe_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else describe_processor()
